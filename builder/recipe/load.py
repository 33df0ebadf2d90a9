"""From a name to a recipe: read the files, check each, order the layers, merge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from builder.errors import HallmarkError, Where
from builder.recipe import merge, syntax
from builder.recipe.conditions import Context, holds
from builder.recipe.language import MEANINGS, LayerDocument, RecipeDocument, is_list, model_at
from builder.recipe.violations import RecipeError, Violation, did_you_mean
from builder.workspace import PROJECT

__all__ = ["Document", "Recipe", "find", "load", "names"]

IMAGES = PROJECT / "images"
_OWN_KEYS = frozenset({"recipe", "layer", "title", "summary", "extends", "windows"})


@dataclass(frozen=True, slots=True)
class Document:
    """A recipe or layer as it was read. ``name`` is what others call it, ``shown`` its path for people."""

    name: str
    path: Path
    shown: str
    node: syntax.Mapping


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe with its layers merged; ``documents`` lists them in order, the lowest layer first.

    ``tree`` is the merged content with the place of every value; ``root`` is the directory that paths in
    recipes are relative to. ``idle_removals`` are removals that found nothing to remove.
    """

    name: str
    path: Path
    root: Path
    documents: tuple[Document, ...]
    tree: merge.Tree
    context: Context
    idle_removals: tuple[merge.Item, ...]

    @property
    def title(self) -> str:
        """What people call the product line."""
        return str(syntax.plain(self.documents[-1].node)["title"])

    @property
    def summary(self) -> str:
        """A sentence or two about it."""
        return str(syntax.plain(self.documents[-1].node)["summary"]).strip()

    def where(self, *keys: str) -> Where:
        """The place of a value of the recipe file itself, or of the nearest thing around it."""
        return syntax.locate(self.documents[-1].node, keys)


def names(images: Path = IMAGES) -> list[str]:
    """Every recipe in a directory, sorted."""
    return sorted(path.stem for path in images.glob("*.yaml"))


def find(name: str, *, images: Path = IMAGES) -> Path:
    """The file of a recipe.

    :param name: a recipe's name, or the path of a file.
    :raises HallmarkError: there is no such recipe.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise HallmarkError("there is no such recipe file", where=path, hint="check the path")
        return path.resolve()
    path = images / f"{name}.yaml"
    if not path.is_file():
        raise HallmarkError(
            f"there is no recipe {name!r}",
            where=images,
            hint=did_you_mean(name, names(images)) or "write one",
        )
    return path


def load(path: Path) -> Recipe:
    """Read a recipe and its layers, check every file and merge them.

    :raises RecipeError: with every mistake in all files at once.
    """
    path = path.resolve()
    loader = _Loader(path.parent)
    documents = tuple(loader.walk(path))
    if loader.violations:
        raise RecipeError(path.stem, loader.violations)
    node = documents[-1].node
    distribution = syntax.plain(node)["distribution"]
    context = Context(
        distribution=str(distribution["id"]),
        release=str(distribution["release"]),
        architecture=str(syntax.plain(node).get("architecture", "x86_64")),
        licence=str(syntax.plain(node).get("licence", "free")),
    )
    parts = [part for document in documents for part in _parts(document, context)]
    idle: list[merge.Item] = []

    def lay(base: merge.Value, over: merge.Value) -> merge.Value:
        idle.extend(item for _, item in merge.removals_without_effect(base, over))
        return merge.merge(base, over)

    empty: merge.Value = merge.Tree({}, node.where)
    tree = reduce(lay, parts, empty)
    if not isinstance(tree, merge.Tree):
        raise TypeError("maps merge to maps")
    return Recipe(path.stem, path, path.parent, documents, tree, context, tuple(idle))


def _parts(document: Document, context: Context) -> Iterator[merge.Value]:
    """What a document lays on those below it: its own content, then each window that counts."""
    yield _value(document.node)
    windows = document.node.entries.get("windows")
    for window in windows.items if isinstance(windows, syntax.Sequence) else ():
        if isinstance(window, syntax.Mapping) and holds(syntax.plain(window.entries["when"]), context):
            yield _value(window)


def _value(node: syntax.Mapping) -> merge.Value:
    own = _OWN_KEYS | {"when", "source"}
    content = {key: child for key, child in node.entries.items() if key not in own}
    return merge.from_node(replace(node, entries=content), is_list=is_list)


class _Loader:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.violations: list[Violation] = []
        self._done: set[str] = set()

    def walk(self, path: Path) -> Iterator[Document]:
        """The documents that a recipe consists of, the lowest layer first, each once."""
        yield from self._visit(path, (), None)

    def _visit(self, path: Path, chain: tuple[str, ...], asked: Where | None) -> Iterator[Document]:
        document = self._read(path, layer=asked is not None)
        if document is None:
            return
        extends = document.node.entries.get("extends")
        for item in extends.items if isinstance(extends, syntax.Sequence) else ():
            if isinstance(item, syntax.Scalar) and isinstance(item.value, (str, int)):
                yield from self._layer(str(item.value), item.where, (*chain, document.name))
        yield document

    def _layer(self, name: str, where: Where, chain: tuple[str, ...]) -> Iterator[Document]:
        if name in chain[1:]:
            circle = " → ".join((*chain[chain.index(name, 1) :], name))
            self.violations.append(
                Violation(
                    "HM009",
                    where,
                    f"the layers go in a circle: {circle}",
                    "none can be the lowest",
                    "remove one `extends`",
                )
            )
            return
        if name in self._done:
            return
        directory = self.root / "layers"
        path = directory / f"{name}.yaml"
        if "/" in name or name.startswith("."):
            self.violations.append(
                Violation(
                    "HM010",
                    where,
                    f"the layer {name!r} is a path",
                    "layers live in layers/",
                    "write the layer's name",
                )
            )
            return
        if not path.is_file():
            known = sorted(file.stem for file in directory.glob("*.yaml"))
            self.violations.append(
                Violation(
                    "HM008",
                    where,
                    f"there is no layer {name!r}",
                    f"looked for {self._shown(path)}",
                    did_you_mean(name, known),
                )
            )
            return
        yield from self._visit(path, chain, where)
        self._done.add(name)

    def _read(self, path: Path, *, layer: bool) -> Document | None:
        shown = self._shown(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            self.violations.append(
                Violation("HM001", Where(shown), f"cannot read the file: {error.strerror}")
            )
            return None
        node, violations = syntax.parse(data, path=shown)
        self.violations += violations
        if node is None:
            return None
        self.violations += _check(node, LayerDocument if layer else RecipeDocument, path.stem)
        return Document(path.stem, path, shown, node)

    def _shown(self, path: Path) -> str:
        """The path for people: relative to the project when it lies in it."""
        return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)


def _check(node: syntax.Mapping, model: type[BaseModel], stem: str) -> Iterator[Violation]:
    """What the language says against one document."""
    key = "layer" if model is LayerDocument else "recipe"
    name = node.entries.get(key)
    if isinstance(name, syntax.Scalar) and isinstance(name.value, str) and name.value != stem:
        yield Violation(
            "HM006",
            name.where,
            f"the {key} is called {name.value!r} but its file {stem!r}",
            fix="use one name",
        )
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
        return Violation("HM006", where, f"the key {path[-1]!r} is not right here", why)
    value = problem.get("input")
    shown = repr(value) if isinstance(value, (str, int, type(None))) else f"a {_kind(value)}"
    shown = shown if len(shown) <= 80 else shown[:77] + "…"
    return Violation("HM006", syntax.locate(node, path), f"{dotted}: {shown} is not right", why)


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
