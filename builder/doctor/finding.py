"""What the doctor says about one thing, and how a program's answer becomes that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from builder import run
from builder.errors import CommandFailed, HallmarkError

__all__ = ["Finding", "answer", "last_words"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    ``ok`` is False when a build would fail because of it, None when only something optional is missing or
    it could not be told. ``detail`` is what was measured, ``remedy`` what to do ("" when nothing is).
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def answer(argv: Sequence[str], *, env: dict[str, str] | None = None) -> str | None:
    """None if the command succeeds within a minute, else its last words."""
    try:
        run.run(argv, env=env, timeout=60)
    except HallmarkError as error:
        return last_words(error)
    return None


def last_words(error: HallmarkError) -> str:
    """The last line of a program's output, or what went wrong when it printed nothing."""
    if isinstance(error, CommandFailed):
        lines = [line.strip() for line in error.output.splitlines() if line.strip()]
        if lines:
            return lines[-1][:300]
    return error.what
