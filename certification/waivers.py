"""Waivers: failures that somebody answers for until a day.

A waiver keeps its failure visible; it only stops it from refusing the certificate. One that has expired,
waives nothing, or names something unknown refuses the certificate itself, so that the file can't rot.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from builder.errors import HallmarkError
from builder.recipe.syntax import Sequence as Items
from builder.recipe.syntax import parse, plain
from certification.model import Waiver

__all__ = ["in_scope", "load"]


def load(path: Path) -> tuple[Waiver, ...]:
    """Read a waivers file: a mapping with the one key ``waivers``, a list.

    It is written in the language of recipes (``builder.recipe.syntax``): what is there twice, or isn't as
    plain as that, is refused rather than half read.

    :raises HallmarkError: it can't be read, an entry is incomplete, or two waive the same thing.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HallmarkError(f"the waivers can't be read: {error.strerror}", where=path) from None
    root, wrong = parse(data, path=str(path))
    if wrong:
        raise HallmarkError(
            "the waivers can't be read",
            where=wrong[0].where,
            details=[f"{item.where}: {item.what}" for item in wrong],
            hint=wrong[0].fix or None,
        )
    entries = root.entries.get("waivers") if root is not None and len(root.entries) == 1 else None
    if not isinstance(entries, Items):
        raise HallmarkError(
            "a waivers file is a mapping with the one key `waivers`, a list",
            where=root.where if root is not None else path,
        )
    found: dict[tuple[str, str], Waiver] = {}
    for entry in entries.items:
        where = entry.where
        try:
            waiver = Waiver.model_validate(plain(entry))
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
