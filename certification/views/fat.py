"""Reads the files of a FAT12, FAT16 or FAT32 filesystem, enough for an EFI system partition.

Layout: Microsoft "FAT: General Overview of On-Disk Format" 1.03; long names as in its chapter 7.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from builder.errors import HallmarkError

__all__ = ["Fat", "FatFile"]

Read = Callable[[int, int], bytes]
_LONG_NAME, _VOLUME, _DIRECTORY = 0x0F, 0x08, 0x10
_MAX_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class FatFile:
    """A file or directory; ``path`` starts with ``/`` and keeps its case."""

    path: str
    size: int
    directory: bool
    cluster: int


class Fat:
    """A FAT filesystem behind ``read(offset, length)``.

    :raises HallmarkError: there is no FAT filesystem.
    """

    def __init__(self, read: Read, *, where: str = "ESP") -> None:
        boot = read(0, 512)
        self._where = where
        if len(boot) < 512 or boot[510:512] != b"\x55\xaa":
            raise HallmarkError("there is no FAT filesystem: the boot sector has no signature", where=where)
        sector, self._per_cluster, reserved, fats, roots, small = struct.unpack_from("<HBHBHH", boot, 11)
        per_fat16, large = struct.unpack_from("<H", boot, 22)[0], struct.unpack_from("<I", boot, 32)[0]
        per_fat32, root_cluster = struct.unpack_from("<I", boot, 36)[0], struct.unpack_from("<I", boot, 44)[0]
        if sector not in (512, 1024, 2048, 4096) or not self._per_cluster or not fats:
            raise HallmarkError(
                "there is no FAT filesystem: the geometry in the boot sector is senseless", where=where
            )
        per_fat = per_fat16 or per_fat32
        root_sectors = -(-roots * 32 // sector)
        self._first_data = reserved + fats * per_fat + root_sectors
        clusters = ((small or large) - self._first_data) // self._per_cluster
        self.bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
        self._read, self._sector = read, sector
        self._fat = read(reserved * sector, per_fat * sector)
        extended = 64 if self.bits == 32 else 36
        self.serial = "{:04X}-{:04X}".format(*reversed(struct.unpack_from("<HH", boot, extended + 3)))
        self.label = boot[extended + 7 : extended + 18].decode("ascii", errors="replace").strip()
        if self.bits == 32:
            root = self._chain(root_cluster)
        else:
            root = read((reserved + fats * per_fat) * sector, roots * 32)
        self._files = {entry.path.lower(): entry for entry in self._walk(root, "", 0)}

    @property
    def files(self) -> dict[str, FatFile]:
        """Every file and directory by its path in lower case (FAT ignores case)."""
        return self._files

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None when there is no such file."""
        entry = self._files.get(path.lower())
        if entry is None or entry.directory:
            return None
        return self._chain(entry.cluster)[: entry.size] if entry.cluster else b""

    def _next(self, cluster: int) -> int:
        try:
            if self.bits == 32:
                return int(struct.unpack_from("<I", self._fat, cluster * 4)[0]) & 0x0FFFFFFF
            if self.bits == 16:
                return int(struct.unpack_from("<H", self._fat, cluster * 2)[0])
            pair = int(struct.unpack_from("<H", self._fat, cluster + cluster // 2)[0])
            return pair >> 4 if cluster & 1 else pair & 0xFFF
        except struct.error:
            raise HallmarkError(f"the FAT has no entry for cluster {cluster}", where=self._where) from None

    def _chain(self, cluster: int) -> bytes:
        end = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self.bits]
        size = self._per_cluster * self._sector
        parts: list[bytes] = []
        seen: set[int] = set()
        while 2 <= cluster < end:
            if cluster in seen:
                raise HallmarkError("a cluster chain of the FAT runs in a circle", where=self._where)
            seen.add(cluster)
            parts.append(
                self._read((self._first_data + (cluster - 2) * self._per_cluster) * self._sector, size)
            )
            cluster = self._next(cluster)
        return b"".join(parts)

    def _walk(self, data: bytes, parent: str, depth: int) -> Iterator[FatFile]:
        if depth > 16:
            raise HallmarkError("the directories of the FAT nest too deeply", where=self._where)
        long_name: list[str] = []
        for offset in range(0, min(len(data), _MAX_ENTRIES * 32), 32):
            entry = data[offset : offset + 32]
            if entry[0] == 0:
                return
            if entry[0] == 0xE5:
                long_name = []
                continue
            attributes = entry[11]
            if attributes & 0x3F == _LONG_NAME:
                raw = entry[1:11] + entry[14:26] + entry[28:32]
                long_name.insert(0, raw.decode("utf-16-le", errors="replace").split("\0")[0].rstrip("\uffff"))
                continue
            name, long_name = "".join(long_name) or _short_name(entry), []
            if attributes & _VOLUME or name in (".", ".."):
                continue
            cluster = struct.unpack_from("<H", entry, 26)[0] | (
                struct.unpack_from("<H", entry, 20)[0] << 16 if self.bits == 32 else 0
            )
            size = struct.unpack_from("<I", entry, 28)[0]
            found = FatFile(f"{parent}/{name}", size, bool(attributes & _DIRECTORY), cluster)
            yield found
            if found.directory:
                yield from self._walk(self._chain(cluster), found.path, depth + 1)


def _short_name(entry: bytes) -> str:
    stem = entry[:8].decode("cp437").rstrip()
    suffix = entry[8:11].decode("cp437").rstrip()
    # Bits 3 and 4 of byte 12: stem and suffix are in lower case (Windows NT and Linux write them).
    stem = stem.lower() if entry[12] & 0x08 else stem
    suffix = suffix.lower() if entry[12] & 0x10 else suffix
    return f"{stem}.{suffix}" if suffix else stem
