"""YAML text to a tree that remembers line and column of every value.

The language is a plain subset of YAML: maps with text keys, lists and scalars. Tags, anchors and aliases are
refused (so no object is ever constructed and no small file expands to a large one), and so are duplicate
keys, several documents and tabs as indentation. Only ``null``, ``true``, ``false`` and whole decimal numbers
have a type; everything else is text, hence ``9.10`` stays ``9.10`` and ``no`` stays ``no``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from builder.errors import Where
from builder.recipe.violations import Violation

__all__ = ["Mapping", "Node", "Scalar", "Sequence", "locate", "parse", "plain"]

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 24
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})\Z")
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value."""

    value: str | int | bool | None
    where: Where


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class Mapping:
    """A map; ``keys`` has the place of each key."""

    entries: dict[str, Node]
    keys: dict[str, Where]
    where: Where


Node = Scalar | Sequence | Mapping


class _Stop(Exception):
    """Reading on makes no sense after this violation."""

    def __init__(self, violation: Violation) -> None:
        self.violation = violation


def parse(data: bytes, *, path: str) -> tuple[Mapping | None, list[Violation]]:
    """Read one document.

    :param path: the name to show in places.
    :returns: the top-level map, or None if there is no use in going on, and every violation found.
    """
    start = Where(path, 1, 1)
    if len(data) > _MAX_BYTES:
        return None, [
            Violation(
                "HM011",
                start,
                f"the file has {len(data)} bytes",
                f"the limit is {_MAX_BYTES}",
                "name large files with `source`, and share values through layers",
            )
        ]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [
            Violation("HM001", Where(path, line), f"not UTF-8 text: {error.reason}", fix="save it as UTF-8")
        ]
    reader = _Reader(path)
    try:
        root = reader.document(yaml.parse(text, Loader=_LOADER))
    except _Stop as stop:
        return None, [*reader.violations, stop.violation]
    except yaml.YAMLError as error:
        return None, [*reader.violations, *_syntax(error, text, path)]
    if root is None or (isinstance(root, Scalar) and root.value is None):
        return None, [
            *reader.violations,
            Violation("HM002", start, "the file is empty", fix="see images/README.md"),
        ]
    if not isinstance(root, Mapping):
        what = "the file holds a list" if isinstance(root, Sequence) else "the file holds a single value"
        return None, [
            *reader.violations,
            Violation("HM002", root.where, what, fix="write `key: value` lines"),
        ]
    return root, reader.violations


def plain(node: Node) -> Any:
    """The tree as dictionaries, lists and scalars."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.value


def locate(node: Node, path: tuple[str | int, ...], *, key: bool = False) -> Where:
    """The place of a value, or of the nearest thing around it that exists.

    :param key: tell the place of the last key rather than of its value.
    """
    where = node.where
    for step in path:
        if isinstance(node, Mapping) and str(step) in node.entries:
            where = node.keys[str(step)]
            node = node.entries[str(step)]
            if isinstance(node, Scalar) and node.value is not None and not key:
                where = node.where
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            where = node.where
    return where


class _Reader:
    def __init__(self, path: str) -> None:
        self.path = path
        self.violations: list[Violation] = []

    def document(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Stop(
                        Violation(
                            "HM002",
                            self._at(event),
                            "a second document starts here",
                            fix="one file, one document",
                        )
                    )
            elif isinstance(event, (yaml.NodeEvent,)):
                root = self._node(event, events, 0)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        where = self._at(event)
        if depth > _MAX_DEPTH:
            raise _Stop(
                Violation(
                    "HM011",
                    where,
                    f"nested deeper than {_MAX_DEPTH} levels",
                    fix="look for a bracket too many; the language itself needs eight",
                )
            )
        if isinstance(event, yaml.AliasEvent):
            raise _Stop(_alias(where, f"*{event.anchor}"))
        if event.anchor:
            self.violations.append(_alias(where, f"&{event.anchor}"))
        if event.tag is not None:
            self.violations.append(
                Violation(
                    "HM004", where, f"the tag {event.tag!r}", "tags are not part of the language", "remove it"
                )
            )
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(_value(event), where)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(self._node(inner, events, depth + 1))
            return Sequence(tuple(items), where)
        return self._mapping(where, events, depth)

    def _mapping(self, where: Where, events: Iterator[Any], depth: int) -> Mapping:
        entries: dict[str, Node] = {}
        keys: dict[str, Where] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            place = self._at(event)
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Scalar):
                self.violations.append(
                    Violation("HM002", place, "a list or map is used as a key", fix="keys are text")
                )
                continue
            name = event.value
            if name in entries:
                self.violations.append(
                    Violation(
                        "HM003",
                        place,
                        f"the key {name!r} is there twice",
                        f"it is already set in line {keys[name].line}, and one of the two would be lost",
                        "keep one",
                    )
                )
                continue
            entries[name] = value
            keys[name] = place
        return Mapping(entries, keys, where)

    def _at(self, event: Any) -> Where:
        return Where(self.path, event.start_mark.line + 1, event.start_mark.column + 1)


def _value(event: Any) -> str | int | bool | None:
    text: str = event.value
    if event.style not in (None, ""):  # quoted and block scalars are text
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return int(text) if _INTEGER.match(text) else text


def _alias(where: Where, word: str) -> Violation:
    return Violation(
        "HM004",
        where,
        f"the anchor or alias {word!r}",
        "they are not part of the language",
        "share values through a layer",
    )


def _syntax(error: yaml.YAMLError, text: str, path: str) -> list[Violation]:
    tabs = [
        number
        for number, line in enumerate(text.splitlines(), 1)
        if "\t" in line[: len(line) - len(line.lstrip())]
    ]
    mark = getattr(error, "problem_mark", None)
    if tabs:
        return [
            Violation(
                "HM002", Where(path, number, 1), "a tab in the indentation", "YAML allows none", "use spaces"
            )
            for number in tabs
        ]
    where = Where(path, mark.line + 1, mark.column + 1) if mark is not None else Where(path, 1)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    what = f"not valid YAML: {problem}" + (f" ({context})" if context else "")
    return [Violation("HM002", where, what, fix="look at this line and the one before it")]
