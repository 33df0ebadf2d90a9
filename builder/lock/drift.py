"""Drift: how a package set differs from the lock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builder.errors import HallmarkError
from builder.recipe.lock import LockedPackage

__all__ = ["Move", "compare", "from_report", "mismatch", "table"]

Kind = Literal["added", "removed", "changed", "digest differs"]
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Move:
    """One package that is not as the lock has it: ``locked`` and ``now`` say what it is there and here."""

    kind: Kind
    package: str
    locked: str = ""
    now: str = ""


def compare(locked: Iterable[LockedPackage], now: Iterable[LockedPackage]) -> tuple[Move, ...]:
    """What moved between a lock and another package set; empty when they are the same."""
    before, after = _by_identity(locked), _by_identity(now)
    moves = []
    for identity in sorted({*before, *after}):
        name = ".".join(identity)
        old, new = before.get(identity), after.get(identity)
        if old is None or new is None:
            moves.append(
                Move("removed", name, locked=_evrs(old)) if old else Move("added", name, now=_evrs(new or []))
            )
        elif _evrs(old) != _evrs(new):
            moves.append(Move("changed", name, _evrs(old), _evrs(new)))
        else:
            moves += [
                _same_version(name, one, other) for one, other in zip(old, new, strict=True) if one != other
            ]
    return tuple(moves)


def from_report(path: Path) -> tuple[Move, ...]:
    """What dnf's plugin found before it installed anything: the locked packages that no repository has."""
    moves = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        locked = LockedPackage.model_validate(entry["locked"])
        name = f"{locked.name}.{locked.arch}"
        available: dict[str, Any] | None = entry["available"]
        if available is None:
            moves.append(Move("removed", name, locked=locked.evr))
        else:
            now = locked.model_copy(update={"key": locked.key, **available})
            moves += compare([locked], [now])
    return tuple(moves)


def mismatch(moves: Sequence[Move], *, recipe: str) -> HallmarkError:
    """The error of a build whose packages cannot be, or are not, those of the lock."""
    return HallmarkError(
        f"packages are not as the lock of {recipe} has them: {len(moves)}",
        where=f"recipe {recipe}",
        why="a locked build installs exactly the lock's packages; no image was made",
        hint="point the build at a mirror that still has them, or accept what moved: "
        f"`hallmark lock {recipe} --update`",
        details=table(moves),
    )


def table(moves: Sequence[Move]) -> list[str]:
    """The moves as lines of a table with a heading."""
    rows = [("what", "package", "locked", "now")]
    rows += [(move.kind, move.package, move.locked or "–", move.now or "–") for move in moves]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]


def _same_version(name: str, old: LockedPackage, new: LockedPackage) -> Move:
    """Two packages of one name and version that differ otherwise."""
    if old.sha256 != new.sha256:
        keys = old.key != new.key
        return Move("digest differs", name, _fingerprint(old, key=keys), _fingerprint(new, key=keys))
    return Move("changed", name, f"{old.evr} from {old.repository}", f"{new.evr} from {new.repository}")


def _fingerprint(package: LockedPackage, *, key: bool) -> str:
    signed = f", key {package.key}" if key else ""
    return f"{package.evr} sha256 {package.sha256[:_DIGITS]}…{signed}"


def _by_identity(packages: Iterable[LockedPackage]) -> dict[tuple[str, str], list[LockedPackage]]:
    found: dict[tuple[str, str], list[LockedPackage]] = {}
    for package in sorted(packages, key=lambda item: item.nevra):
        found.setdefault((package.name, package.arch), []).append(package)
    return found


def _evrs(packages: Sequence[LockedPackage]) -> str:
    return ", ".join(package.evr for package in packages)
