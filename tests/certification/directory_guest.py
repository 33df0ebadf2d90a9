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
            entries = {"/": self._entry("/", self.root)}
            for directory, names, files in os.walk(self.root):
                for name in [*names, *files]:
                    path = Path(directory) / name
                    guest_path = "/" + path.relative_to(self.root).as_posix()
                    entries[guest_path] = self._entry(guest_path, path)
            for number in range(self._filler):
                path = f"/usr/lib/filler-{number}"
                entries[path] = Entry(path, "f", 0o644, 0, 0, 0, 0.0, 0)
            self._inventory = Inventory(entries)
        return self._inventory

    def _entry(self, guest_path: str, path: Path) -> Entry:
        found = path.lstat()
        kind = _KINDS[stat.S_IFMT(found.st_mode)]
        try:
            label = os.getxattr(path, "security.selinux", follow_symlinks=False).rstrip(b"\0").decode()
        except OSError:
            label = None
        try:
            capability = os.getxattr(path, "security.capability", follow_symlinks=False).hex()
        except OSError:
            capability = None
        return Entry(
            path=guest_path,
            type=kind,  # type: ignore[arg-type]  # one of find's letters
            mode=stat.S_IMODE(found.st_mode),
            uid=0 if found.st_uid == self._mine[0] else found.st_uid,
            gid=0 if found.st_gid == self._mine[1] else found.st_gid,
            size=found.st_size,
            mtime=found.st_mtime,
            device=found.st_dev,
            link=str(path.readlink()) if kind == "l" else "",
            label=label,
            capability=capability,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest() if kind == "f" else None,
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
