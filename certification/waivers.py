"""Waivers: failures that somebody answers for until a day.

A waiver keeps its failure visible; it only stops it from refusing the certificate. One that has expired,
waives nothing, or names something unknown refuses the certificate itself, so that the file can't rot.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from builder.errors import HallmarkError, Where
from certification.catalogue import load_yaml
from certification.model import Waiver

__all__ = ["in_scope", "load"]


def load(path: Path) -> tuple[Waiver, ...]:
    """Read a waivers file: a mapping with the one key ``waivers``, a list.

    :raises HallmarkError: it can't be read, an entry is incomplete, or two waive the same thing.
    """
    value, node = load_yaml(path)
    if not isinstance(value, dict) or set(value) != {"waivers"} or not isinstance(value["waivers"], list):
        raise HallmarkError(
            "a waivers file is a mapping with the one key `waivers`, a list", where=Where(path, 1)
        )
    lines = [item.start_mark.line + 1 for item in node.value[0][1].value]
    found: dict[tuple[str, str], Waiver] = {}
    for entry, line in zip(value["waivers"], lines, strict=True):
        where = Where(path, line)
        try:
            waiver = Waiver.model_validate(entry)
        except ValidationError as error:
            raise HallmarkError(
                "a waiver is not well-formed",
                where=where,
                details=[f"{'.'.join(map(str, e['loc'])) or 'waiver'}: {e['msg']}" for e in error.errors()],
                hint="it needs requirement, scope, owner, reason (a sentence) and expires (a date)",
            ) from None
        key = (waiver.requirement, waiver.scope)
        if key in found:
            raise HallmarkError(f"{waiver.requirement} is waived twice for {waiver.scope}", where=where)
        found[key] = waiver
    return tuple(found.values())


def in_scope(waivers: Sequence[Waiver], *, recipe: str, today: date) -> tuple[dict[str, Waiver], list[str]]:
    """The waivers that hold for ``recipe`` today, by requirement; and what is wrong with the others.

    A waiver holds through its last day. One for the recipe itself comes before one for ``*``.
    """
    holding: dict[str, Waiver] = {}
    problems: list[str] = []
    for waiver in sorted(waivers, key=lambda item: item.scope == "*", reverse=True):
        if waiver.scope not in ("*", recipe):
            continue
        if today > waiver.expires:
            problems.append(
                f"the waiver of {waiver.requirement} ({waiver.owner}) expired on {waiver.expires}"
            )
            continue
        holding[waiver.requirement] = waiver
    return holding, problems
