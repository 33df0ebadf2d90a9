"""A guest in a directory of this machine: what suites and views ask of a disk, answered from local files.

For tests only: a small made-up tree runs the real suites in milliseconds, an unpacked root filesystem in
seconds.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from certification.views.guest import Guest
from certification.views.inventory import Entry, Inventory

__all__ = ["DirectoryAccess", "directory_guest"]

_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}


class DirectoryAccess:
    """``certification.views.base.GuestAccess`` over the files below ``root``.

    :param owner: count the user who runs the test as root, as a test can't make files of root.
    :param filler: add that many empty files to the listing, for suites that refuse to judge an empty image.
    :param database: the directory of the rpm database; default: where the tree has it.
    """

    def __init__(
        self, root: Path, *, owner: bool = True, filler: int = 0, database: Path | None = None
    ) -> None:
        self.root = root
        self._filler = filler
        self._database = database or root / "var/lib/rpm"
        self._mine = (os.getuid(), os.getgid()) if owner else (0, 0)
        self._inventory: Inventory | None = None

    def inventory(self) -> Inventory:
        if self._inventory is None:
            root = str(self.root)
            entries = {"/": self._entry("/", root)}
            for directory, names, files in os.walk(root):
                inside = directory[len(root) :]
                for name in [*names, *files]:
                    entries[f"{inside}/{name}"] = self._entry(f"{inside}/{name}", f"{directory}/{name}")
            for number in range(self._filler):
                path = f"/usr/lib/filler-{number}"
                entries[path] = Entry(path, "f", 0o644, 0, 0, 0, 0.0, 0)
            self._inventory = Inventory(entries)
        return self._inventory

    def _entry(self, guest_path: str, path: str) -> Entry:
        # Strings, not Path objects: hundreds of small trees are listed, and the objects would take the time.
        found = os.lstat(path)
        kind = _KINDS[stat.S_IFMT(found.st_mode)]
        label = capability = None
        for name in os.listxattr(path, follow_symlinks=False):
            if name == "security.selinux":
                label = os.getxattr(path, name, follow_symlinks=False).rstrip(b"\0").decode()
            elif name == "security.capability":
                capability = os.getxattr(path, name, follow_symlinks=False).hex()
        digest = None
        if kind == "f":
            with open(path, "rb") as content:  # noqa: PTH123
                digest = hashlib.sha256(content.read()).hexdigest()
        return Entry(
            path=guest_path,
            type=kind,  # type: ignore[arg-type]  # one of find's letters
            mode=stat.S_IMODE(found.st_mode),
            uid=0 if found.st_uid == self._mine[0] else found.st_uid,
            gid=0 if found.st_gid == self._mine[1] else found.st_gid,
            size=found.st_size,
            mtime=found.st_mtime,
            device=found.st_dev,
            link=os.readlink(path) if kind == "l" else "",  # noqa: PTH115
            label=label,
            capability=capability,
            sha256=digest,
        )

    def read_bytes(self, path: str) -> bytes | None:
        found = self.fetch(path)
        return None if found is None else found.read_bytes()

    def fetch(self, path: str) -> Path | None:
        real = self.inventory().resolve(path)
        entry = self.inventory().entries.get(real or "")
        return self.root / entry.path.lstrip("/") if entry is not None and entry.type == "f" else None

    def glob(self, pattern: str) -> list[str]:
        return self.inventory().glob(pattern)

    def rpmdb(self) -> Path:
        return self._database


def directory_guest(root: Path, **options: Any) -> Guest:
    """A guest over ``root``; ``options`` are those of ``DirectoryAccess``."""
    return Guest(SimpleNamespace(backend=DirectoryAccess(root, **options)), booted=False)
