"""Where every effective value comes from, and what it overrode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.errors import HallmarkError, Where
from builder.recipe.load import Recipe
from builder.recipe.merge import Leaf, leaves
from builder.recipe.violations import did_you_mean

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One effective value: its dotted ``path``, its place, and the values that it overrode, nearest first."""

    path: str
    value: object
    where: Where
    overrode: tuple[tuple[object, Where], ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.path} = {_short(self.value)}    # {self.where}"]
        lines += [f"    over {_short(value)}    # {where}" for value, where in self.overrode]
        return "\n".join(lines)


def explain(recipe: Recipe, path: str = "") -> list[Explanation]:
    """Every effective value at or below a dotted path, in the order of the merged recipe.

    :raises HallmarkError: nothing is there.
    """
    found = [
        item for item in _all(recipe) if not path or item.path == path or item.path.startswith(f"{path}.")
    ]
    if not found:
        known = {item.path for item in _all(recipe)} | {item.path.split(".")[0] for item in _all(recipe)}
        raise HallmarkError(
            f"{recipe.name} sets nothing at {path!r}",
            where=recipe.path,
            hint=did_you_mean(path, sorted(known)),
        )
    return found


def _all(recipe: Recipe) -> Iterator[Explanation]:
    for path, leaf in leaves(recipe.tree):
        hidden = tuple((item.value, item.where) for item in leaf.hidden) if isinstance(leaf, Leaf) else ()
        yield Explanation(".".join(path), leaf.value, leaf.where, hidden)


def _short(value: object) -> str:
    text = str(value)
    first, _, rest = text.strip().partition("\n")
    return repr(first + " …") if rest else repr(text) if text != text.strip() or not text else text
