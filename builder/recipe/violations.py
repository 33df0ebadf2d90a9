"""What is wrong in a recipe: collected, sorted by place, told all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builder.errors import HallmarkError, Where

__all__ = ["RecipeError", "Violation", "did_you_mean"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One mistake: a stable ``code`` (``HM005``), the place, what is wrong, why it matters and how to mend
    it.
    """

    code: str
    where: Where
    what: str
    why: str = ""
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.code} {self.what}"
        if self.why:
            text += f"; {self.why}"
        if self.fix:
            text += f" — {self.fix}"
        return text


class RecipeError(HallmarkError):
    """A recipe that cannot be used; ``violations`` holds every mistake that was found."""

    def __init__(self, recipe: str, violations: Iterable[Violation]) -> None:
        self.violations = tuple(
            sorted(
                set(violations),
                key=lambda item: (str(item.where.path), item.where.line, item.where.column, item.code),
            )
        )
        first = self.violations[0]
        if len(self.violations) == 1:
            super().__init__(
                f"{first.code} {first.what}", where=first.where, why=first.why or None, hint=first.fix or None
            )
        else:
            super().__init__(
                f"{len(self.violations)} mistakes in the recipe {recipe}",
                where=first.where,
                hint="images/README.md explains the language in one page",
                details=[str(item) for item in self.violations],
            )


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A suggestion for a word that isn't known: the nearest one, or the whole list when it is short."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if not known:
        return ""
    shown = sorted(known)
    return "known here: " + ", ".join(shown[:16]) + (", …" if len(shown) > 16 else "")
