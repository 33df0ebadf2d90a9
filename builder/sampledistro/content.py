"""The paths of one package, and the changes that the data of the distribution asks for."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace

from builder.errors import HallmarkError
from builder.sampledistro.definition import Attributes, Change, Definition, parents
from builder.sampledistro.paths import PathRules
from builder.sampledistro.rpm import Entry

__all__ = ["Content", "apply_change", "finish"]

Content = dict[str, Entry]


def apply_change(content: Content, change: Change, *, package: str, definition: Definition) -> None:
    """Drop, move, copy, concatenate, overlay, edit, link and set modes, in this order, in place.

    :raises HallmarkError: a rule finds nothing to act on: the Debian package has changed, and the data must
    follow.
    """
    where = definition.root / "changes" / f"{package}.yaml"
    for pattern in change.drop:
        dropped = PathRules((pattern,), ()).compile()
        gone = [path for path in content if dropped.match(path)]
        if not gone:
            raise HallmarkError(f"{package} has no path {pattern} to drop", where=where)
        for path in gone:
            del content[path]
    for pattern, target in change.move.items():
        for path, new in _matches(content, pattern, target, package, where):
            content[new] = replace(content.pop(path), path=new)
    for pattern, target in change.copy_.items():
        for path, new in _matches(content, pattern, target, package, where):
            content[new] = replace(content[path], path=new)
    for target, pattern in change.concatenate.items():
        parts = sorted(path for path, _ in _matches(content, pattern, target, package, where))
        content[target] = Entry(target, "file", content=b"".join(content[path].content for path in parts))
    for path, (kind, mode, data) in definition.overlay(package).items():
        if kind == "link":
            content[path] = Entry(path, "link", mode=0o777, target=data.decode())
        else:
            content[path] = Entry(path, "file", mode=mode, content=data, config=path.startswith("/etc/"))
    for path, edits in change.edits.items():
        entry = content.get(path)
        if entry is None or entry.kind != "file":
            raise HallmarkError(f"{package} has no file {path} to edit", where=where)
        text = entry.content.decode()
        for edit in edits:
            text, count = re.subn(edit.find, edit.replace, text, flags=re.MULTILINE)
            if not count:
                raise HallmarkError(f"{package}: nothing in {path} matches {edit.find!r}", where=where)
        content[path] = replace(entry, content=text.encode())
    for path, target in change.links.items():
        content[path] = Entry(path, "link", mode=0o777, target=target)
    for path, attributes in change.directories.items():
        content[path] = _with(Entry(path, "directory", mode=0o755), attributes)
    for path, attributes in change.ghosts.items():
        content[path] = _with(Entry(path, "ghost"), attributes)
    for path, attributes in change.modes.items():
        if path not in content:
            raise HallmarkError(f"{package} has no path {path} to set the mode of", where=where)
        content[path] = _with(content[path], attributes)


def finish(content: Content, *, package: str, definition: Definition) -> tuple[Entry, ...]:
    """The entries in order, with the directories that this package needs and ``filesystem`` doesn't own."""
    result: Content = {}
    for path, entry in content.items():
        for parent in parents(path):
            result.setdefault(parent, content.get(parent) or Entry(parent, "directory", mode=0o755))
        result[path] = entry
    if package != "filesystem":
        for path in definition.owned_directories:
            if (entry_ := result.get(path)) is not None and entry_.kind == "directory":
                del result[path]
    for path in result:
        for parent in parents(path):
            above = result.get(parent)
            if above is not None and above.kind != "directory":
                raise HallmarkError(f"{package} has {path} below {parent}, which is no directory")
    return tuple(result[path] for path in sorted(result))


def _with(entry: Entry, attributes: Attributes) -> Entry:
    return replace(
        entry,
        mode=int(attributes.mode, 8) if attributes.mode else entry.mode,
        user=attributes.user or entry.user,
        group=attributes.group or entry.group,
    )


def _matches(
    content: Mapping[str, Entry], pattern: str, target: str, package: str, where: object
) -> list[tuple[str, str]]:
    expression = re.compile(pattern)
    found = [(path, match.expand(target)) for path in content if (match := expression.fullmatch(path))]
    if not found:
        raise HallmarkError(f"{package} has no path that matches {pattern}", where=str(where))
    return [(path, posixpath.normpath(new)) for path, new in found]
