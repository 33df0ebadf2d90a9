"""A testinfra backend over files that nobody runs: answered from one listing of all files, each read once.

Everything that is answered is recorded. Where the files come from (a disk in an appliance, the layers of a
container image) is the reader's business.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from testinfra.backend.base import BaseBackend
from testinfra.host import Host

from builder.errors import HallmarkError
from certification.evidence import EvidenceLog
from certification.views import rpmdb
from certification.views.inventory import Inventory, pack
from certification.views.native import NATIVE

__all__ = ["TreeBackend", "TreeReader", "tree_host"]

_READ_LIMIT = 16 << 20


class TreeReader(Protocol):
    """Gets files out of a tree; paths have no links in them."""

    def read(self, path: str) -> bytes:
        """The content of a regular file."""

    def download(self, path: str, target: Path) -> None:
        """Copy a regular file to ``target`` on this machine."""

    def tar(self, directory: str, work: Path) -> bytes:
        """An uncompressed tar of a directory; ``work`` is for temporary files."""


class TreeBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types
    """``certification.views.base.GuestAccess`` over a tree."""

    def __init__(self, hostspec: str, *, reader: TreeReader, work: Path, evidence: EvidenceLog) -> None:
        super().__init__(hostspec)
        self._encoding = "utf-8"
        self._reader = reader
        self._work = work
        self._evidence = evidence
        self._files: dict[str, bytes | None] = {}
        self._fetched: dict[str, Path] = {}
        self._inventory: Inventory | None = None
        self._rpmdb: Path | None = None

    @abstractmethod
    def _gather(self) -> Inventory:
        """List every file, with labels and digests."""

    def read_bytes(self, path: str) -> bytes | None:
        """A file's content, links followed; None when there is no such regular file."""
        entry = self.inventory().get(path)
        if entry is None or entry.type != "f":
            self._evidence.read(path, None)
            return None
        if entry.path not in self._files:
            if entry.size > _READ_LIMIT:
                raise HallmarkError(
                    f"{path} has {entry.size} bytes, too many for one read", hint="use fetch()"
                )
            self._files[entry.path] = self._reader.read(entry.path) if entry.size else b""
        data = self._files[entry.path]
        self._evidence.read(path, data)
        return data

    def fetch(self, path: str) -> Path | None:
        """A copy of a guest file on this machine; None when there is no such regular file."""
        entry = self.inventory().get(path)
        if entry is None or entry.type != "f":
            self._evidence.fetched(path, None)
            return None
        if entry.path not in self._fetched:
            target = self._work / f"fetched-{len(self._fetched)}"
            self._reader.download(entry.path, target)
            self._fetched[entry.path] = target
        self._evidence.fetched(path, self._fetched[entry.path])
        return self._fetched[entry.path]

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a shell pattern."""
        return self.inventory().glob(pattern)

    def inventory(self) -> Inventory:
        """Every file of the guest's own filesystems, with labels and digests."""
        if self._inventory is None:
            self._inventory = self._gather()
            self._evidence.whole("inventory", pack(self._inventory), summary=f"{len(self._inventory)} files")
        return self._inventory

    def rpmdb(self) -> Path:
        """A copy of the guest's rpm database."""
        if self._rpmdb is None:
            inventory = self.inventory()
            places = [place for place in rpmdb.PLACES if any(inventory.below(place))]
            if not places:
                raise HallmarkError(
                    "the guest has no rpm database", details=[f"looked in {', '.join(rpmdb.PLACES)}"]
                )
            place = inventory.resolve(places[0]) or places[0]
            self._rpmdb = rpmdb.unpack(self._reader.tar(place, self._work), self._work / "rpmdb")
            self._evidence.directory("rpmdb", {path.name: path for path in self._rpmdb.iterdir()})
        return self._rpmdb

    def made(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` makes for a test, recorded."""
        return self._evidence.made(name, make)


def tree_host(backend: BaseBackend) -> Any:
    """A testinfra Host over a backend that runs nothing of its own for files, packages and accounts."""
    host = Host(backend)
    backend.set_host(host)
    for name, module in NATIVE.items():
        setattr(host, name, module.get_module(host))
    return host
