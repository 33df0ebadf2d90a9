"""Variants: one recipe, several images, along axes such as licence and architecture.

The first value of an axis is its default. A variant is called like its recipe, with the values that are not
defaults behind it: ``rhel-9`` is the default of both axes, ``rhel-9-payg-aarch64`` of none. An axis that is
called ``licence`` or ``architecture`` sets the recipe's key of that name by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from builder.errors import Where
from builder.recipe import syntax
from builder.recipe.language import RecipeDocument
from builder.recipe.violations import Violation

__all__ = ["KEY_AXES", "Variant", "axes", "check", "combinations", "expand", "pick"]

#: The axes that set a key of the recipe.
KEY_AXES = ("licence", "architecture")


@dataclass(frozen=True, slots=True)
class Variant:
    """One value on every axis, in the order of the axes; ``name`` is the full name of the image."""

    name: str
    values: tuple[tuple[str, str], ...] = ()


def axes(node: syntax.Mapping) -> dict[str, tuple[str, ...]]:
    """The axes of a recipe and their values; what is malformed is left out, ``check`` has told it."""
    found = {}
    variants = node.entries.get("variants")
    for axis, values in variants.entries.items() if isinstance(variants, syntax.Mapping) else ():
        if isinstance(values, syntax.Mapping) and values.entries:
            found[axis] = tuple(values.entries)
    return found


def combinations(recipe: str, node: syntax.Mapping) -> list[Variant]:
    """Every combination of values, the default first, impossible ones included."""
    found = axes(node)
    return [
        Variant(_name(recipe, found, values), tuple(zip(found, values, strict=True)))
        for values in itertools.product(*found.values())
    ]


def expand(recipe: str, node: syntax.Mapping) -> list[Variant]:
    """Every variant that exists, the default first."""
    excluded = _excluded(node)
    return [item for item in combinations(recipe, node) if not _matches(item, excluded)]


def pick(recipe: str, node: syntax.Mapping, suffix: str) -> Variant | None:
    """The variant that a suffix such as ``byos-aarch64`` means, or None.

    Values may be left out where they are the default, and named where they are: both ways mean one variant.
    """
    found = axes(node)
    for variant in expand(recipe, node):
        words = [
            [_word(value)] if value != found[axis][0] else ["", _word(value)]
            for axis, value in variant.values
        ]
        if suffix in {"-".join(filter(None, choice)) for choice in itertools.product(*words)}:
            return variant
    return None


def check(recipe: str, node: syntax.Mapping, *, images: Path) -> Iterator[Violation]:
    """What is wrong with the variants of a recipe that is well-formed otherwise (HM012)."""
    variants = node.entries.get("variants")
    if not isinstance(variants, syntax.Mapping):
        if "exclude_variants" in node.entries:
            yield _wrong(node.keys["exclude_variants"], "combinations of no variants are excluded")
        return
    found = axes(node)
    for axis, place in variants.keys.items():
        if axis not in found:
            yield _wrong(place, f"the axis {axis!r} has no values", fix="name at least one, or remove it")
        if axis in KEY_AXES:
            yield from _check_key_axis(node, variants, axis, found.get(axis, ()))
    yield from _check_exclusions(recipe, node, found)
    names: dict[str, Variant] = {}
    for variant in combinations(recipe, node):
        place = node.keys["variants"]
        if variant.name in names:
            yield _wrong(place, f"two variants are called {variant.name!r}", fix="rename a value")
        elif variant.name != recipe and (images / f"{variant.name}.yaml").exists():
            yield _wrong(
                place,
                f"the variant {variant.name!r} has the name of another recipe",
                "nobody could tell which of the two is meant",
                "rename the value or the recipe",
            )
        names[variant.name] = variant


def _check_key_axis(
    node: syntax.Mapping, variants: syntax.Mapping, axis: str, values: tuple[str, ...]
) -> Iterator[Violation]:
    if axis in node.entries:
        yield _wrong(
            node.keys[axis],
            f"{axis} is set and is an axis of variants",
            "the axis sets it, so this value would never count",
            "remove one",
        )
    known = get_args(RecipeDocument.model_fields[axis].annotation)
    for value in values:
        if value not in known:
            table = variants.entries[axis]
            assert isinstance(table, syntax.Mapping)  # it has values
            yield _wrong(table.keys[value], f"{value!r} is no {axis}", fix=f"known: {', '.join(known)}")


def _check_exclusions(
    recipe: str, node: syntax.Mapping, found: Mapping[str, tuple[str, ...]]
) -> Iterator[Violation]:
    rules = node.entries.get("exclude_variants")
    for rule in rules.items if isinstance(rules, syntax.Sequence) else ():
        if not isinstance(rule, syntax.Mapping):
            continue
        for axis, value in syntax.plain(rule).items():
            if value not in found.get(axis, ()):
                known = ", ".join(f"{name}: {'|'.join(values)}" for name, values in found.items())
                yield _wrong(
                    rule.keys[axis], f"there is no {axis} {value!r} to exclude", fix=f"known: {known}"
                )
        if _matches(combinations(recipe, node)[0], [syntax.plain(rule)]):
            yield _wrong(
                rule.where,
                "this excludes the default variant",
                f"then {recipe!r} would mean nothing",
                "put another value first",
            )


def _excluded(node: syntax.Mapping) -> list[dict[str, str]]:
    rules = node.entries.get("exclude_variants")
    plain = syntax.plain(rules) if isinstance(rules, syntax.Sequence) else []
    return [rule for rule in plain if isinstance(rule, dict)]


def _matches(variant: Variant, rules: list[dict[str, str]]) -> bool:
    values = dict(variant.values)
    return any(all(values.get(axis) == value for axis, value in rule.items()) for rule in rules)


def _name(recipe: str, found: Mapping[str, tuple[str, ...]], values: tuple[str, ...]) -> str:
    special = [_word(value) for axis, value in zip(found, values, strict=True) if value != found[axis][0]]
    return "-".join((recipe, *special))


def _word(value: str) -> str:
    """A value as names have it: underscores are awkward in host names."""
    return value.replace("_", "-")


def _wrong(where: Where, what: str, why: str = "", fix: str = "") -> Violation:
    return Violation("HM012", where, what, why, fix)
