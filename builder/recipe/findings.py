"""What a rule looks at, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from builder.errors import Where
from builder.recipe.load import Recipe
from builder.recipe.model import Origin, Plan

__all__ = ["Finding", "Subject"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found. ``level`` is ``error`` or ``warning``."""

    code: str
    level: Literal["error", "warning"]
    where: Where
    what: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.level} {self.code} {self.what}; {self.why} — {self.fix}"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule looks at: the recipe with its places, its plan, and the day on which it would be built."""

    recipe: Recipe
    plan: Plan
    today: date

    def error(self, code: str, where: Where | Origin, what: str, why: str, fix: str) -> Finding:
        """A finding that stops a build."""
        return Finding(code, "error", _where(where), what, why, fix)

    def warning(self, code: str, where: Where | Origin, what: str, why: str, fix: str) -> Finding:
        """A finding that doesn't."""
        return Finding(code, "warning", _where(where), what, why, fix)


def _where(place: Where | Origin) -> Where:
    return place if isinstance(place, Where) else Where(place.path, place.line)
