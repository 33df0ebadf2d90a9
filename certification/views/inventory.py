"""Every file of a guest in one listing, gathered by a few bulk commands instead of thousands of calls.

The listing comes from find(1) with NUL-separated fields, extended attributes from getfattr(1), digests from
sha256sum(1). Paths that are no valid UTF-8 keep their bytes as surrogate escapes.
"""

from __future__ import annotations

import fnmatch
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Literal

__all__ = [
    "FIND_FORMAT",
    "Entry",
    "Inventory",
    "pack",
    "parse_digests",
    "parse_find",
    "parse_xattrs",
    "resolve",
    "unpack",
]

FileType = Literal["f", "d", "l", "c", "b", "p", "s"]
# type, mode, uid, gid, size, mtime, the filesystem's device number, inode, link target, path
FIND_FORMAT = r"%y\0%m\0%U\0%G\0%s\0%T@\0%D\0%i\0%l\0%p\0"
_FIELDS = 10
_LINKS = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. ``mode`` are the permission bits, ``mtime`` seconds since 1970, ``link`` a symlink's target.

    Paths with the same ``device`` and ``inode`` are one file.
    ``label`` is the SELinux context and ``capability`` the raw file capabilities, None when there are none;
    ``sha256`` is known for regular files where the view gathered digests.
    """

    path: str
    type: FileType
    mode: int
    uid: int
    gid: int
    size: int
    mtime: float
    device: int
    inode: int = 0
    link: str = ""
    label: str | None = None
    capability: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Inventory:
    """The files by absolute path. Virtual filesystems (/proc, /sys, /dev, /run) of a running guest aren't in
    it.
    """

    entries: Mapping[str, Entry]

    def __contains__(self, path: object) -> bool:
        return path in self.entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, path: str, *, follow: bool = True) -> Entry | None:
        """The file behind ``path``; links on the way are always followed, the last one with ``follow``."""
        real = self.resolve(path, follow=follow)
        return self.entries.get(real) if real is not None else None

    def resolve(self, path: str, *, follow: bool = True) -> str | None:
        """The path without symbolic links; None when it doesn't exist or the links run in a circle."""
        return resolve(
            path, lambda name: self._link(name), exists=lambda name: name in self.entries, follow=follow
        )

    def children(self, directory: str) -> list[Entry]:
        """What is in a directory (links followed), by name."""
        real = self.resolve(directory)
        return [self.entries[path] for path in self._children.get(real or "", ())]

    def below(self, directory: str) -> Iterator[Entry]:
        """Everything below a directory, at any depth."""
        real = self.resolve(directory)
        pending = list(self._children.get(real or "", ()))
        while pending:
            path = pending.pop()
            yield self.entries[path]
            pending += self._children.get(path, ())

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a shell pattern in which ``*`` and ``?`` don't cross ``/``; links on the way
        followed.
        """
        found = ["/"]
        for part in pattern.strip("/").split("/"):
            step: list[str] = []
            for base in found:
                if not any(letter in part for letter in "*?["):
                    path = posixpath.join(base, part)
                    if self.get(path, follow=False) is not None:
                        step.append(path)
                    continue
                match = re.compile(fnmatch.translate(part)).match
                for child in self.children(base):
                    name = posixpath.basename(child.path)
                    if match(name) and (part.startswith(".") or not name.startswith(".")):
                        step.append(posixpath.join(base, name))
            found = step
        return sorted(found)

    def with_details(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        capabilities: Mapping[str, str] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> Inventory:
        """The same files with extended attributes and digests filled in."""
        labels, capabilities, digests = labels or {}, capabilities or {}, digests or {}
        return Inventory(
            {
                path: replace(
                    entry,
                    label=labels.get(path, entry.label),
                    capability=capabilities.get(path, entry.capability),
                    sha256=digests.get(path, entry.sha256),
                )
                for path, entry in self.entries.items()
            }
        )

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        children: dict[str, list[str]] = {}
        for path in sorted(self.entries):
            if path != "/":
                children.setdefault(posixpath.dirname(path), []).append(path)
        return children

    def _link(self, path: str) -> str | None:
        entry = self.entries.get(path)
        return entry.link if entry is not None and entry.type == "l" else None


def resolve(path: str, link: object, *, exists: object, follow: bool = True) -> str | None:
    """Follow symbolic links inside a guest's tree, absolute ones from its root.

    :param link: ``link(path)`` gives a symlink's target or None.
    :param exists: ``exists(path)`` says whether there is such a file.
    """
    assert callable(link) and callable(exists)
    pending = [part for part in path.split("/") if part and part != "."][::-1]
    real = "/"
    budget = _LINKS
    while pending:
        part = pending.pop()
        if part == "..":
            real = posixpath.dirname(real)
            continue
        step = posixpath.join(real, part)
        target = link(step)
        if target is not None and (pending or follow):
            budget -= 1
            if budget < 0:
                return None
            if target.startswith("/"):
                real = "/"
            pending += [piece for piece in target.split("/") if piece and piece != "."][::-1]
            continue
        if not exists(step):
            return None
        real = step
    return real


def pack(inventory: Inventory) -> bytes:
    """The listing as it is recorded: a JSON array of the fields of ``Entry`` a line."""
    return b"".join(json.dumps(astuple(entry)).encode() + b"\n" for entry in inventory)


def unpack(data: bytes) -> Inventory:
    """What ``pack`` made.

    :raises ValueError: it is damaged.
    """
    try:
        entries = [Entry(*json.loads(line)) for line in data.splitlines()]
    except TypeError as error:
        raise ValueError(str(error)) from None
    return Inventory({entry.path: entry for entry in entries})


def parse_find(data: bytes, *, root: str = "") -> dict[str, Entry]:
    """The output of find(1) with ``FIND_FORMAT``; ``root`` is taken off the front of every path.

    :raises ValueError: the output is cut off or garbled.
    """
    fields = data.split(b"\0")
    if fields[-1] != b"" or (len(fields) - 1) % _FIELDS:
        raise ValueError("the file listing is cut off")
    found: dict[str, Entry] = {}
    for start in range(0, len(fields) - 1, _FIELDS):
        kind, mode, uid, gid, size, mtime, device, inode, link, path = (
            field.decode(errors="surrogateescape") for field in fields[start : start + _FIELDS]
        )
        path = path.removeprefix(root) or "/"
        # A mount point is listed by both filesystems: the mounted one comes later and counts.
        found.pop(path, None)
        found[path] = Entry(
            path=path,
            type=kind,  # type: ignore[arg-type]  # find prints one of these letters
            mode=int(mode, 8),
            uid=int(uid),
            gid=int(gid),
            size=int(size),
            mtime=float(mtime),
            device=int(device),
            inode=int(inode),
            link=link,
        )
    return found


def parse_xattrs(data: bytes, *, root: str = "") -> dict[str, dict[str, str]]:
    """The output of ``getfattr -R -h -d -e hex --absolute-names``: attribute name to value by path.

    Values are hexadecimal without the 0x.
    """
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in data.decode(errors="surrogateescape").splitlines():
        if line.startswith("# file: "):
            path = _unescape_octal(line[8:]).removeprefix(root) or "/"
            current = found.setdefault(path, {})
        elif "=0x" in line:
            name, _, value = line.partition("=0x")
            current[name] = value
    return found


def parse_digests(data: bytes, *, root: str = "") -> dict[str, str]:
    """The output of sha256sum(1): digest by path. Escaped names (leading backslash) are restored."""
    found: dict[str, str] = {}
    for line in data.decode(errors="surrogateescape").split("\n"):
        if not line:
            continue
        escaped = line.startswith("\\")
        digest, _, path = line.lstrip("\\").partition("  ")
        if escaped:
            path = path.replace("\\n", "\n").replace("\\\\", "\\")
        found[path.removeprefix(root)] = digest
    return found


def _unescape_octal(text: str) -> str:
    if "\\" not in text:
        return text
    raw = re.sub(
        rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), text.encode(errors="surrogateescape")
    )
    return raw.decode(errors="surrogateescape")
