"""How layers come together.

The rules, from the lower layer to the upper one:

- scalars: the upper value wins;
- maps: merged key by key;
- lists: the upper items are appended, an item that is there already keeps its place. A map in place of the
  list says more: ``remove`` takes items away, ``append`` adds some, ``replace`` starts anew;
- ``null`` puts a value, a map or a list back to nothing.

Merging is associative: ``(a·b)·c`` equals ``a·(b·c)``, so layers can be read one by one or in groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from builder.errors import Where
from builder.recipe.syntax import Node, Scalar, Sequence

__all__ = [
    "Item",
    "Leaf",
    "ListEdit",
    "Tree",
    "Value",
    "from_node",
    "leaves",
    "merge",
    "removals_without_effect",
    "settled",
]

_EDIT_KEYS = frozenset({"replace", "remove", "append"})
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One element of a list and its place."""

    value: Any
    where: Where


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar; ``hidden`` are the values that it overrode, nearest first."""

    value: Any
    where: Where
    hidden: tuple[Leaf, ...] = ()


@dataclass(frozen=True, slots=True)
class ListEdit:
    """What a document does to a list: start anew if ``fresh``, take ``remove`` away, add ``append``."""

    append: tuple[Item, ...]
    where: Where
    remove: tuple[Item, ...] = ()
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """A map; ``fresh``: nothing below it counts."""

    children: dict[str, Value]
    where: Where
    fresh: bool = False


Value = Leaf | ListEdit | Tree


def from_node(node: Node, *, is_list: Callable[[Path], bool], path: Path = ()) -> Value:
    """Turn parsed text into something that can be merged.

    :param is_list: tells whether the value at a path is a list in the language, so that a map there is an
        edit of it.
    """
    if isinstance(node, Sequence):
        return ListEdit(_unique(_items(node)), node.where)
    if isinstance(node, Scalar):
        return Leaf(node.value, node.where)
    if is_list(path) and _EDIT_KEYS.issuperset(node.entries):
        replaced = node.entries.get("replace")
        fresh = replaced is not None
        return ListEdit(
            _unique((*_items(replaced), *_items(node.entries.get("append")))),
            node.where,
            remove=() if fresh else _unique(_items(node.entries.get("remove"))),
            fresh=fresh,
        )
    children: dict[str, Value] = {}
    for key, child in node.entries.items():
        value = from_node(child, is_list=is_list, path=(*path, key))
        # A map begins where its key stands: that is the line a person looks for.
        children[key] = replace(value, where=node.keys[key]) if isinstance(value, Tree) else value
    return Tree(children, node.where)


def merge(base: Value, over: Value) -> Value:
    """Lay ``over`` on ``base``."""
    if isinstance(base, Leaf) and isinstance(over, Leaf):
        return replace(over, hidden=(*over.hidden, base, *base.hidden))
    if isinstance(base, Tree) and isinstance(over, Tree):
        if over.fresh:
            return over
        children = dict(base.children)
        for key, value in over.children.items():
            children[key] = merge(children[key], value) if key in children else value
        return Tree(children, base.where, fresh=base.fresh)
    if isinstance(base, ListEdit) and isinstance(over, ListEdit):
        return _compose(base, over)
    if isinstance(over, Leaf):
        return over
    if isinstance(over, ListEdit):
        return replace(over, fresh=True, remove=())
    return replace(over, fresh=True)


def settled(value: Value) -> Any:
    """The plain data that is left when nothing lies below: no edits, no nulls."""
    if isinstance(value, Leaf):
        return value.value
    if isinstance(value, ListEdit):
        return [item.value for item in value.append]
    return {key: settled(child) for key, child in value.children.items() if not _is_null(child)}


def leaves(value: Value, path: Path = ()) -> Iterator[tuple[Path, Leaf | Item]]:
    """Every effective scalar and list item with its path."""
    if isinstance(value, Leaf):
        if value.value is not None:
            yield path, value
    elif isinstance(value, ListEdit):
        for item in value.append:
            yield path, item
    else:
        for key, child in value.children.items():
            yield from leaves(child, (*path, key))


def removals_without_effect(base: Value | None, over: Value, path: Path = ()) -> Iterator[tuple[Path, Item]]:
    """The items that ``over`` removes although ``base`` doesn't hold them: most often a typing mistake."""
    if isinstance(over, ListEdit):
        held = {_key(item.value) for item in base.append} if isinstance(base, ListEdit) else set()
        for item in over.remove:
            if _key(item.value) not in held:
                yield path, item
    elif isinstance(over, Tree):
        for key, child in over.children.items():
            below = base.children.get(key) if isinstance(base, Tree) else None
            yield from removals_without_effect(below, child, (*path, key))


def _compose(base: ListEdit, over: ListEdit) -> ListEdit:
    if over.fresh:
        return over
    gone = {_key(item.value) for item in over.remove}
    kept = tuple(item for item in base.append if _key(item.value) not in gone)
    remove = () if base.fresh else _unique((*base.remove, *over.remove))
    return ListEdit(_unique((*kept, *over.append)), base.where, remove=remove, fresh=base.fresh)


def _items(node: Node | None) -> tuple[Item, ...]:
    if not isinstance(node, Sequence):
        return ()
    return tuple(Item(item.value, item.where) for item in node.items if isinstance(item, Scalar))


def _unique(items: tuple[Item, ...]) -> tuple[Item, ...]:
    seen: dict[tuple[str, Any], Item] = {}
    for item in items:
        seen.setdefault(_key(item.value), item)
    return tuple(seen.values())


def _key(value: Any) -> tuple[str, Any]:
    return type(value).__name__, value  # 1 and True are equal in Python but not in a recipe


def _is_null(value: Value) -> bool:
    return isinstance(value, Leaf) and value.value is None
