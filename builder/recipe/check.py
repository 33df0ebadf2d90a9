"""One document against the language: what pydantic found, in the words and at the place of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from builder.recipe import syntax
from builder.recipe.language import SECRETS, LayerDocument, RecipeDocument
from builder.recipe.shape import model_at
from builder.recipe.terms import MEANINGS
from builder.recipe.violations import Violation, did_you_mean
from builder.workspace import RESERVED

__all__ = ["check", "violations_of"]


def check(node: syntax.Mapping, model: type[BaseModel], stem: str) -> Iterator[Violation]:
    """What the language says against one document, each mistake at its place.

    :param stem: the name of its file, which the document must repeat.
    """
    key = "layer" if model is LayerDocument else "recipe"
    name = node.entries.get(key)
    if isinstance(name, syntax.Scalar) and isinstance(name.value, str) and name.value != stem:
        yield Violation(
            "HM006",
            name.where,
            f"the {key} is called {name.value!r} but its file {stem!r}",
            fix="use one name",
        )
    if key == "recipe" and stem in RESERVED:
        yield Violation(
            "HM006",
            name.where if name is not None else node.where,
            f"a recipe can't be called {stem!r}",
            "the build directory has something else by that name, which would replace its images",
            "rename it; not to " + ", ".join(other for other in RESERVED if other != stem),
        )
    yield from violations_of(node, model)


def violations_of(node: syntax.Mapping, model: type[BaseModel]) -> Iterator[Violation]:
    """What a model of the language says against a document: each mistake with its place."""
    try:
        model.model_validate(syntax.plain(node))
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            yield _violation(node, model, problem)


def _violation(node: syntax.Mapping, model: type[BaseModel], problem: Any) -> Violation:
    loc = problem["loc"]
    path = tuple(step for step in loc if step != "[key]")
    dotted = _written(node, path)
    if problem["type"] == "extra_forbidden":
        owner = model_at(model, path[:-1])
        known = sorted(owner.model_fields) if owner is not None else []
        where = syntax.locate(node, path, key=True)
        if not path[:-1] and model is LayerDocument and path[-1] in RecipeDocument.model_fields:
            return Violation(
                "HM005", where, f"{dotted!r} belongs into a recipe, not into a layer", fix="move it"
            )
        return Violation("HM005", where, f"unknown key {dotted!r}", fix=did_you_mean(str(path[-1]), known))
    if problem["type"] == "missing":
        where = syntax.locate(node, path)
        return Violation(
            "HM007", where, f"{dotted!r} is missing", fix="add it; images/README.md has an example"
        )
    meaning = MEANINGS.get(problem.get("ctx", {}).get("pattern", ""))
    why = f"it must be {meaning}" if meaning else problem["msg"].removeprefix("Value error, ")
    if loc[-1] == "[key]":
        where = syntax.locate(node, path, key=True)
        return Violation("HM006", where, f"the key {path[-1]!r} is not right here", why, "rename it")
    value = problem.get("input")
    shown = repr(value) if isinstance(value, (str, int, type(None))) else f"a {_kind(value)}"
    shown = shown if len(shown) <= 80 else shown[:77] + "…"
    if SECRETS.intersection(map(str, path)) or (isinstance(value, str) and _may_hold_password(value)):
        shown = "the value"
    return Violation(
        "HM006", syntax.locate(node, path), f"{dotted}: {shown} is not right", why, _fix(problem)
    )


def _may_hold_password(value: str) -> bool:
    """Whether it looks like an address with credentials, however it is misspelt."""
    return "@" in value and ("/" in value or ":" in value)


def _fix(problem: Any) -> str:
    """What to write instead, where that can be said."""
    kind = problem["type"]
    if kind == "literal_error":
        known = re.findall(r"[^', ]+", problem["ctx"]["expected"].replace(" or ", ", "))
        return did_you_mean(str(problem["input"]), known)
    if kind.startswith("bool"):
        return "write true or false"
    if kind.startswith("int"):
        return "write a whole number"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "write `key: value` lines below it"
    if kind == "list_type":
        return "write a list: [one, two]"
    return "images/README.md shows how it is written"


def _written(node: syntax.Node, path: tuple[str | int, ...]) -> str:
    """The dotted path as it stands in the file: a plain list has no ``append`` in it."""
    steps: list[str] = []
    here: syntax.Node | None = node
    for step in path:
        if isinstance(here, syntax.Sequence) and not isinstance(step, int):
            continue
        steps.append(str(step))
        if isinstance(here, syntax.Mapping):
            here = here.entries.get(str(step))
        elif isinstance(here, syntax.Sequence):
            here = here.items[int(step)] if int(step) < len(here.items) else None
    return ".".join(steps)


def _kind(value: object) -> str:
    return "map" if isinstance(value, dict) else "list" if isinstance(value, list) else type(value).__name__
