"""Looks into the filesystems of an image with the host's own checkers; nothing is changed.

ext4 is read in place (e2fsprogs takes an offset into a file); XFS and FAT checkers want a file of their own
and get a sparse copy of the partition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.image.sparse import data_segments
from builder.run import run
from certification.parse.superblock import Filesystem, probe

if TYPE_CHECKING:
    from certification.views.format import ImageBytes

__all__ = ["Volume", "free_ranges", "not_zero", "problems", "volumes"]

_SECTOR = 512
_PIECE = 1 << 20
_HINT = "install e2fsprogs, xfsprogs and dosfstools"


@dataclass(frozen=True, slots=True)
class Volume:
    """A partition with something on it; ``offset`` and ``length`` are bytes of the disk."""

    name: str
    offset: int
    length: int
    filesystem: Filesystem


def volumes(image: ImageBytes) -> list[Volume]:
    """Every partition that holds a filesystem, swap or an LVM volume."""
    if image.gpt is not None:
        places = [(part.number, part.offset, part.length) for part in image.partitions]
    else:
        entries = [(n, entry) for n, entry in enumerate(image.mbr.entries, 1) if entry.type]
        places = [(n, entry.start * _SECTOR, entry.sectors * _SECTOR) for n, entry in entries]
    found = []
    for number, offset, length in places:

        def read(at: int, size: int, begin: int = offset, most: int = length) -> bytes:
            return image.read(begin + at, max(0, min(size, most - at)))

        filesystem = probe(read)
        if filesystem is not None:
            found.append(Volume(f"partition {number} ({filesystem.type})", offset, length, filesystem))
    return found


def problems(image: ImageBytes, volume: Volume, *, work: Path) -> list[str]:
    """What the filesystem's own checker would repair; empty when all is well or there is nothing to check.

    :param work: a directory for a sparse copy of the partition, deleted again.
    """
    kind = volume.filesystem.type
    if kind.startswith("ext"):
        return _complaints(["e2fsck", "-fn", f"{image.path}?offset={volume.offset}"])
    if kind not in ("xfs", "vfat"):
        return []
    copy = work / "partition"
    try:
        _copy(image, volume, copy)
        return _complaints(["xfs_repair", "-n", "-f", copy] if kind == "xfs" else ["fsck.fat", "-n", copy])
    finally:
        copy.unlink(missing_ok=True)


def free_ranges(image: ImageBytes, volume: Volume) -> list[tuple[int, int]]:
    """(offset, length) of the free blocks of an ext4 filesystem."""
    listing = run(["dumpe2fs", f"{image.path}?offset={volume.offset}"], timeout=120, hint=_HINT).stdout
    size = int(re.search(r"^Block size:\s+(\d+)", listing, re.M)[1])  # type: ignore[index]  # always printed
    found: list[tuple[int, int]] = []
    for line in re.findall(r"^  Free blocks: (.*)$", listing, re.M):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line):
            count = int(last or first) - int(first) + 1
            found.append((volume.offset + int(first) * size, count * size))
    return found


def not_zero(image: ImageBytes, ranges: list[tuple[int, int]], *, most: int = 20) -> list[int]:
    """Offsets of pieces (at most 1 MiB each) in ``ranges`` that aren't all zeros; holes aren't read.

    :param most: stop after so many.
    """
    zeros = bytes(_PIECE)
    found: list[int] = []
    for start, size in _stored(image, ranges):
        piece = image.read(start, size)
        if piece != zeros[: len(piece)]:
            found.append(start)
            if len(found) >= most:
                break
    return found


def _stored(image: ImageBytes, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of ``ranges`` that the file stores, as (offset, length) of at most 1 MiB."""
    with image.path.open("rb", buffering=0) as stream:
        segments = list(data_segments(stream.fileno(), image.disk_size))
    first = 0
    for offset, length in sorted(ranges):
        end = offset + length
        while first < len(segments) and segments[first][1] <= offset:
            first += 1
        for begin, stop in segments[first:]:
            if begin >= end:
                break
            for position in range(max(begin, offset), min(stop, end), _PIECE):
                yield position, min(_PIECE, min(stop, end) - position)


def _copy(image: ImageBytes, volume: Volume, target: Path) -> None:
    with target.open("wb") as sink:
        sink.truncate(volume.length)
        for start, size in _stored(image, [(volume.offset, volume.length)]):
            sink.seek(start - volume.offset)
            sink.write(image.read(start, size))


def _complaints(argv: list[str | Path]) -> list[str]:
    result = run(argv, timeout=300, check=False, hint=_HINT)
    if result.returncode == 0:
        return []
    lines = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    return lines[-8:] or [f"{argv[0]} ended with status {result.returncode}"]
