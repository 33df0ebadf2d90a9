"""Which parts of a file hold data.

The filesystem knows its holes (lseek(2), SEEK_DATA); what it stores may be zeros all the same. Both are
skipped, so that a 30 GiB image with 500 MiB in it costs 500 MiB to read, hash or send.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from builder.errors import HallmarkError

__all__ = ["GRANULARITY", "SECTOR", "copy_data", "data_segments", "extents"]

SECTOR = 512
#: Zero runs shorter than this stay inside an extent: another request costs more than 64 KiB of zeros.
GRANULARITY = 64 << 10
_READ = 1 << 20
_ZEROS = bytes(_READ)


def data_segments(handle: int, size: int) -> Iterator[tuple[int, int]]:
    """What the filesystem stores of an open file, as ``(start, end)`` in bytes, in order."""
    position = 0
    while position < size:
        try:
            start = os.lseek(handle, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # nothing but a hole is left
        end = min(size, os.lseek(handle, start, os.SEEK_HOLE))
        if start >= size:
            return
        yield start, end
        position = end


def extents(path: Path, *, granularity: int = GRANULARITY) -> Iterator[tuple[int, int]]:
    """The non-zero data of a file as ``(offset, length)`` in bytes, ascending and never touching each other.

    Offsets are multiples of 512; so are lengths, except that the last one ends with the file. All bytes
    outside the extents are zero. Extents begin and end with a sector that isn't zero.

    :param granularity: zero runs of fewer bytes may stay inside an extent; a multiple of 512.
    :raises HallmarkError: the file can't be read, or became shorter while it was read.
    """
    if granularity < SECTOR or granularity % SECTOR:
        raise ValueError(f"granularity must be a multiple of {SECTOR}, not {granularity}")
    try:
        with path.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            begin = end = -1
            for start, stop in _nonzero(stream.fileno(), size, granularity, path):
                if begin >= 0 and start - end < granularity:
                    end = stop
                    continue
                if begin >= 0:
                    yield begin, end - begin
                begin, end = start, stop
            if begin >= 0:
                yield begin, end - begin
    except OSError as error:
        raise HallmarkError(f"cannot read the file: {error.strerror}", where=path) from None


def _nonzero(handle: int, size: int, granularity: int, path: Path) -> Iterator[tuple[int, int]]:
    """Non-zero pieces as ``(start, end)``, each trimmed to its first and last sector with data."""
    for first, stop in data_segments(handle, size):
        position = first - first % SECTOR
        while position < stop:
            data = os.pread(handle, min(_READ, stop - position), position)
            if not data:
                raise HallmarkError("the file became shorter while it was read", where=path)
            if data != _ZEROS[: len(data)]:
                yield from _pieces(data, position, granularity)
            position += len(data)


def _pieces(data: bytes, base: int, granularity: int) -> Iterator[tuple[int, int]]:
    """The non-zero runs of one buffer; a run ends where ``granularity`` zero bytes (aligned) follow."""
    for offset in range(0, len(data), granularity):
        cell = data[offset : offset + granularity]
        head = len(cell) - len(cell.lstrip(b"\0"))
        if head == len(cell):
            continue
        head -= head % SECTOR
        tail = len(cell.rstrip(b"\0"))
        tail = min(len(cell), -(-tail // SECTOR) * SECTOR)
        yield base + offset + head, base + offset + tail


def copy_data(source: Path, target: int, *, offset: int = 0) -> None:
    """Copy what ``source`` stores into the open file ``target`` at ``offset``; holes are left alone.

    The target must read as zeros there already.
    """
    with source.open("rb", buffering=0) as stream:
        handle = stream.fileno()
        for start, end in data_segments(handle, os.fstat(handle).st_size):
            position = start
            while position < end:
                data = os.pread(handle, min(_READ, end - position), position)
                if not data:
                    raise HallmarkError("the file became shorter while it was copied", where=source)
                # Not copy_file_range(2): it refuses two filesystems of different types.
                position += os.pwrite(target, data, offset + position)
