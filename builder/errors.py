"""The one exception of the project.

An error says what is wrong, where, why it matters and what to do about it. The command line prints
exactly these fields and no traceback; anything else that escapes is a defect of Hallmark itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EXIT_FAILURE", "EXIT_USAGE", "CommandFailed", "HallmarkError", "Where"]

EXIT_FAILURE = 1
EXIT_USAGE = 2


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a text file; ``line`` and ``column`` count from 1, 0 means unknown."""

    path: Path | str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        text = str(self.path)
        if self.line:
            text += f":{self.line}"
            if self.column:
                text += f":{self.column}"
        return text


class HallmarkError(Exception):
    """Something the user can act on.

    :param what: one sentence: what is wrong.
    :param where: the file and line, the blob, the host: where it is wrong.
    :param why: why that matters.
    :param hint: what to do about it.
    :param details: lines that support the message (log tail, list of deviations); never secrets.
    :param exit_code: the exit status of the process if nobody handles the error.
    """

    def __init__(
        self,
        what: str,
        *,
        where: Where | Path | str | None = None,
        why: str | None = None,
        hint: str | None = None,
        details: Sequence[str] = (),
        exit_code: int = EXIT_FAILURE,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint
        self.details = tuple(details)
        self.exit_code = exit_code

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where is not None else self.what]
        lines += [f"  | {line}" for line in self.details]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.hint:
            lines.append(f"  fix: {self.hint}")
        return "\n".join(lines)


class CommandFailed(HallmarkError):
    """A program that Hallmark ran did not do its work.

    ``argv`` is the command after redaction, ``returncode`` its status (negative: killed by that signal),
    ``output`` the last lines that it printed.
    """

    def __init__(
        self,
        what: str,
        *,
        argv: Sequence[str],
        returncode: int,
        output: str = "",
        hint: str | None = None,
        why: str | None = None,
        where: Where | Path | str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        super().__init__(what, where=where, why=why, hint=hint, details=details)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output
