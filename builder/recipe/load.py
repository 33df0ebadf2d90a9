"""From a name to a recipe: read the files, check each, order the layers, merge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from pathlib import Path

from pydantic import BaseModel

from builder.errors import HallmarkError, Where
from builder.recipe import merge, syntax, variants
from builder.recipe.check import check
from builder.recipe.conditions import Context, holds
from builder.recipe.language import LayerDocument, RecipeDocument
from builder.recipe.model import Substitution
from builder.recipe.shape import is_list
from builder.recipe.violations import RecipeError, Violation, did_you_mean
from builder.workspace import PROJECT

__all__ = [
    "Document",
    "Recipe",
    "Reference",
    "expand",
    "find",
    "load",
    "name_of",
    "names",
    "overlays",
    "shown",
]

IMAGES = PROJECT / "images"
_OWN_KEYS = frozenset(
    {"recipe", "layer", "title", "summary", "extends", "windows", "variants", "exclude_variants"}
)


@dataclass(frozen=True, slots=True)
class Document:
    """A recipe or layer as it was read. ``name`` is what others call it, ``shown`` its path for people."""

    name: str
    path: Path
    shown: str
    node: syntax.Mapping


@dataclass(frozen=True, slots=True)
class Reference:
    """The file of a recipe, and which of its variants is meant (``byos-aarch64``; empty: the default)."""

    path: Path
    variant: str = ""

    @property
    def parent(self) -> Path:
        """The directory that paths in the recipe are relative to."""
        return self.path.parent


@dataclass(frozen=True, slots=True)
class Recipe:
    """One variant of a recipe with its layers merged; ``documents`` lists them, the lowest layer first.

    ``name`` is the full name, ``family`` the recipe's own, ``values`` has the variant's value on each axis.
    ``tree`` is the merged content with the place of every value; ``root`` is the directory that paths in
    recipes are relative to. ``idle_removals`` are removals that found nothing to remove.
    ``substitutions`` and ``platform`` come from a mirrors file (``builder.recipe.mirrors``).
    """

    name: str
    family: str
    values: tuple[tuple[str, str], ...]
    path: Path
    root: Path
    documents: tuple[Document, ...]
    tree: merge.Tree
    context: Context
    idle_removals: tuple[merge.Item, ...]
    substitutions: tuple[Substitution, ...] = ()
    platform: int | None = None

    @property
    def title(self) -> str:
        """What people call the image: the product line, and the variant where there are several."""
        title = str(syntax.plain(self.documents[-1].node)["title"])
        return f"{title} ({', '.join(value for _, value in self.values)})" if self.values else title

    @property
    def summary(self) -> str:
        """A sentence or two about it."""
        return str(syntax.plain(self.documents[-1].node)["summary"]).strip()

    def where(self, *keys: str) -> Where:
        """The place of a value of the recipe file itself, or of the nearest thing around it."""
        return syntax.locate(self.documents[-1].node, keys)


def names(images: Path = IMAGES) -> list[str]:
    """Every recipe in a directory, sorted; not their variants."""
    return sorted(path.stem for path in images.glob("*.yaml"))


def find(name: str, *, images: Path = IMAGES) -> Reference:
    """The recipe, and the variant of it, that a name means.

    :param name: a full name (``rhel-9-byos``), or the path of a file with a variant behind a colon
        (``mine/rhel-9.yaml:byos``).
    :raises HallmarkError: there is no such recipe, or nobody can look for it. Whether it has the variant
        shows when it is loaded.
    """
    found = _found(name, images)
    if found is not None:
        return found
    text = name.partition(":")[0]
    if _is_path(text):
        raise HallmarkError("there is no such recipe file", where=Path(text), hint="check the path")
    raise HallmarkError(
        f"there is no recipe {name!r}", where=images, hint=did_you_mean(name, names(images)) or "write one"
    )


def _is_path(text: str) -> bool:
    return "/" in text or text.endswith((".yaml", ".yml"))


def _found(name: str, images: Path) -> Reference | None:
    """What a name means; None if there is no such file.

    :raises HallmarkError: the file can't be looked for: the name is too long, a directory isn't readable.
    """
    text, _, variant = name.partition(":")
    try:
        if _is_path(text):
            path = Path(text)
            return Reference(path.resolve(), variant) if path.is_file() else None
        words = text.split("-")
        for count in range(len(words), 0, -1):
            path = images / f"{'-'.join(words[:count])}.yaml"
            if path.is_file() and not (variant and words[count:]):
                return Reference(path, variant or "-".join(words[count:]))
    except OSError as error:
        raise HallmarkError(
            f"cannot look for the recipe: {error.strerror}", where=path, hint="check the name"
        ) from None
    return None


def name_of(name: str, *, images: Path = IMAGES) -> str:
    """The full name under which the artefacts of a recipe are kept; a name of no recipe stays as it is.

    :raises HallmarkError: the recipe can't be read or looked for, or doesn't have the variant.
    """
    reference = _found(name, images)
    if reference is None:
        return Path(name.partition(":")[0]).stem
    if not reference.variant:
        return reference.path.stem
    return _variant(reference.path.stem, _read_recipe(reference.path).node, reference).name


def expand(reference: Reference) -> list[Reference]:
    """Every variant of a recipe that exists, the default first; just the one that is named, if one is.

    :raises RecipeError: the recipe is wrong.
    """
    if reference.variant:
        return [reference]
    stem = reference.path.stem
    found = variants.expand(stem, _read_recipe(reference.path).node)
    return [Reference(reference.path, item.name.removeprefix(stem).lstrip("-")) for item in found]


def load(reference: Reference | Path) -> Recipe:
    """Read a recipe and its layers, check every file, and merge what one variant consists of.

    :raises RecipeError: with every mistake in all files at once.
    :raises HallmarkError: the recipe doesn't have the variant.
    """
    if isinstance(reference, Path):
        reference = Reference(reference)
    path = reference.path.resolve()
    own = _read_recipe(path)
    variant = _variant(path.stem, own.node, reference)
    chosen = tuple(_laid_by(own.node, variant))
    loader = _Loader(path.parent)
    documents = tuple(loader.walk(own, chosen))
    if loader.violations:
        raise RecipeError(path.stem, loader.violations)
    node = own.node
    distribution = syntax.plain(node)["distribution"]
    keys = {axis: value for axis, value in variant.values if axis in variants.KEY_AXES}
    context = Context(
        distribution=str(distribution["id"]),
        release=str(distribution["release"]),
        architecture=keys.get("architecture", str(syntax.plain(node).get("architecture", "x86_64"))),
        licence=keys.get("licence", str(syntax.plain(node).get("licence", "free"))),
    )
    parts = [part for document in documents for part in overlays(document, context)]
    parts += [_value(overlay) for overlay in chosen]
    idle: list[merge.Item] = []

    def lay(base: merge.Value, over: merge.Value) -> merge.Value:
        idle.extend(item for _, item in merge.removals_without_effect(base, over))
        return merge.merge(base, over)

    empty: merge.Value = merge.Tree({}, node.where)
    tree = reduce(lay, parts, empty)
    if not isinstance(tree, merge.Tree):
        raise TypeError("maps merge to maps")
    return Recipe(
        variant.name, path.stem, variant.values, path, path.parent, documents, tree, context, tuple(idle)
    )


def _variant(stem: str, node: syntax.Mapping, reference: Reference) -> variants.Variant:
    if not reference.variant:
        return variants.combinations(stem, node)[0]
    found = variants.pick(stem, node, reference.variant)
    if found is None:
        known = [item.name.removeprefix(stem).lstrip("-") for item in variants.expand(stem, node)]
        raise HallmarkError(
            f"the recipe {stem!r} has no variant {reference.variant!r}",
            where=syntax.locate(node, ("variants",), key=True),
            hint=did_you_mean(reference.variant, [name for name in known if name])
            or "it has none at all; a recipe in another directory is named by its path",
        )
    return found


def _laid_by(node: syntax.Mapping, variant: variants.Variant) -> Iterator[syntax.Mapping]:
    """What the values of a variant lay on the recipe, axis by axis."""
    for axis, value in variant.values:
        table = node.entries["variants"]
        assert isinstance(table, syntax.Mapping)  # `variant` was read from it
        values = table.entries[axis]
        assert isinstance(values, syntax.Mapping)
        place = values.keys[value]
        if axis in variants.KEY_AXES:
            yield syntax.Mapping({axis: syntax.Scalar(value, place)}, {axis: place}, place)
        overlay = values.entries[value]
        if isinstance(overlay, syntax.Mapping):
            yield overlay


def overlays(document: Document, context: Context) -> Iterator[merge.Value]:
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

    def walk(self, recipe: Document, chosen: tuple[syntax.Mapping, ...]) -> Iterator[Document]:
        """The documents that a variant of a recipe consists of, the lowest layer first, each once."""
        for node in (recipe.node, *chosen):
            yield from self._extended(node, (recipe.name,))
        yield recipe

    def _extended(self, node: syntax.Mapping, chain: tuple[str, ...]) -> Iterator[Document]:
        extends = node.entries.get("extends")
        for item in extends.items if isinstance(extends, syntax.Sequence) else ():
            if isinstance(item, syntax.Scalar) and isinstance(item.value, (str, int)):
                yield from self._layer(str(item.value), item.where, chain)

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
                    f"looked for {shown(path)}",
                    did_you_mean(name, known),
                )
            )
            return
        document, violations = _read(path, LayerDocument)
        self.violations += violations
        if document is not None:
            yield from self._extended(document.node, (*chain, name))
            yield document
        self._done.add(name)


def _read_recipe(path: Path) -> Document:
    """The recipe's own file.

    :raises RecipeError: with every mistake in it and, when it can be read that far, in its layers.
    """
    document, found = _read(path.resolve(), RecipeDocument)
    violations = list(found)
    if document is not None:
        if not violations:
            violations += variants.check(path.stem, document.node, images=path.parent)
        if violations:
            loader = _Loader(path.resolve().parent)
            list(loader.walk(document, ()))
            violations += loader.violations
    if violations or document is None:
        raise RecipeError(path.stem, violations)
    return document


def _read(path: Path, model: type[BaseModel]) -> tuple[Document | None, tuple[Violation, ...]]:
    name = shown(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, (
            Violation(
                "HM001",
                Where(name, 1),
                f"cannot read the file: {error.strerror}",
                fix="look at its permissions",
            ),
        )
    node, violations = _parse(data, name, path.stem, model)
    return (None if node is None else Document(path.stem, path, name, node)), violations


@lru_cache(maxsize=256)
def _parse(
    data: bytes, name: str, stem: str, model: type[BaseModel]
) -> tuple[syntax.Mapping | None, tuple[Violation, ...]]:
    """Read and check one document. The variants of a recipe share layers: each is read once."""
    node, violations = syntax.parse(data, path=name)
    if node is None:
        return None, tuple(violations)
    return node, (*violations, *check(node, model, stem))


def shown(path: Path) -> str:
    """A path for people: relative to the project when it lies in it."""
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)
