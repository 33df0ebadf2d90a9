"""Where Debian's files go in an Enterprise Linux layout: one /usr, libexec, no documentation."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PathRules", "merge_usr", "relocate_target"]

_USR_MERGE = re.compile(r"^/(bin|sbin|lib|lib64)(?=/|$)")


def merge_usr(path: str) -> str:
    """/bin, /sbin, /lib and /lib64 live below /usr."""
    return _USR_MERGE.sub(r"/usr/\1", path)


@dataclass(frozen=True, slots=True)
class PathRules:
    """``drop``: shell patterns of paths to leave out (a pattern covers what is below).

    ``move``: prefixes to rename.
    """

    drop: tuple[str, ...]
    move: tuple[tuple[str, str], ...]

    def compile(self) -> re.Pattern[str]:
        """One expression that matches every path to drop."""
        if not self.drop:
            return re.compile(r"(?!)")
        alternatives = "|".join(fnmatch.translate(pattern).removesuffix(r"\Z") for pattern in self.drop)
        return re.compile(f"(?:{alternatives})(?:/.*)?\\Z", re.DOTALL)

    def place(self, path: str) -> str:
        """The new place of a path, /usr merged and prefixes renamed."""
        return rename_prefix(merge_usr(path), self.move)


def rename_prefix(path: str, moves: Sequence[tuple[str, str]]) -> str:
    """``path`` with the first prefix of ``moves`` that it starts with replaced."""
    for old, new in moves:
        if path == old or path.startswith(old + "/"):
            return new + path[len(old) :]
    return path


def relocate_target(link: str, target: str, *, rules: PathRules) -> str:
    """The target for a symbolic link after the move of both ends.

    A relative target is resolved against the directory where Debian has the link, moved like any path, and
    made relative to the link's new directory; an absolute one stays absolute.

    :param link: the path in the Debian package.
    """
    absolute = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
    if absolute.startswith("/dev/"):
        return target
    moved = rules.place(absolute)
    if target.startswith("/"):
        return moved
    return posixpath.relpath(moved, posixpath.dirname(rules.place(link)))
