"""The GUID partition table: written byte for byte from a layout, and read strictly.

UEFI specification 2.10, chapter 5. Sectors of 512 bytes; 128 entries of 128 bytes; the primary header in
sector 1, its entries in sectors 2 to 33; the backup entries and header in the last 33 sectors of the disk.
The same layout always gives the same bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from builder.disk.layout import SECTOR, Layout
from builder.errors import HallmarkError

__all__ = ["Entry", "Table", "protective_mbr", "read", "table_bytes", "write"]

ENTRIES = 128
ENTRY_SIZE = 128
_ARRAY_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_SIGNATURE = b"EFI PART"
_REVISION = 0x0001_0000


@dataclass(frozen=True, slots=True)
class Entry:
    """A used entry; LBAs are inclusive sector numbers."""

    number: int
    type: UUID
    guid: UUID
    first_lba: int
    last_lba: int
    attributes: int
    name: str


@dataclass(frozen=True, slots=True)
class Table:
    """A partition table that was read and found whole. ``backup_lba`` is where the backup header lies."""

    disk_guid: UUID
    first_usable: int
    last_usable: int
    backup_lba: int
    entries: tuple[Entry, ...]


def write(handle: int, layout: Layout) -> None:
    """Write both tables and the protective MBR into the open file ``handle``, which has the disk's size
    already.

    The first 440 bytes (boot code) are left alone.
    """
    primary, backup = table_bytes(layout)
    os.pwrite(handle, protective_mbr(layout.size), 440)
    os.pwrite(handle, primary, SECTOR)
    os.pwrite(handle, backup, layout.size - len(backup))


def protective_mbr(size: int) -> bytes:
    """Bytes 440 to 511 of sector 0: one partition of type EE over the whole disk, as far as 32 bits count."""
    sectors = min(size // SECTOR - 1, 0xFFFF_FFFF)
    # CHS of the first sector is 0/0/2; the last one is beyond what CHS can say.
    record = b"\x00\x00\x02\x00\xee\xff\xff\xff" + struct.pack("<II", 1, sectors)
    return bytes(6) + record + bytes(48) + b"\x55\xaa"


def table_bytes(layout: Layout) -> tuple[bytes, bytes]:
    """The primary table (from sector 1 on) and the backup table (which ends with the disk)."""
    last = layout.size // SECTOR - 1
    array = bytearray(ENTRIES * ENTRY_SIZE)
    for partition in layout.partitions:
        _ENTRY.pack_into(
            array,
            (partition.number - 1) * ENTRY_SIZE,
            partition.type.bytes_le,
            partition.guid.bytes_le,
            partition.first_lba,
            partition.last_lba,
            0,
            partition.name.encode("utf-16-le"),
        )
    entries = bytes(array)

    def header(own: int, other: int, array_lba: int) -> bytes:
        def packed(crc: int) -> bytes:
            return _HEADER.pack(
                _SIGNATURE,
                _REVISION,
                _HEADER.size,
                crc,
                0,
                own,
                other,
                2 + _ARRAY_SECTORS,
                last - 1 - _ARRAY_SECTORS,
                layout.guid.bytes_le,
                array_lba,
                ENTRIES,
                ENTRY_SIZE,
                zlib.crc32(entries),
            )

        return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")

    return header(1, last, 2) + entries, entries + header(last, 1, last - _ARRAY_SECTORS)


def read(path: Path, *, size: int | None = None) -> Table:
    """Read a disk's partition table and check everything that can be checked.

    :param size: the disk's size in bytes when the file is longer (a VHD: its length without the footer).
    :raises HallmarkError: no table, a checksum that doesn't match, a backup that isn't in the last sector or
        that differs, entries outside the usable range or over each other.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size if size is None else size
            last = size // SECTOR - 1
            mbr = os.pread(stream.fileno(), SECTOR, 0)
            if mbr[510:512] != b"\x55\xaa" or mbr[450] != 0xEE:
                raise HallmarkError("the protective MBR is missing", where=path)
            primary, entries = _read_half(stream.fileno(), 1, "primary", path)
            if primary[6] != last:
                raise HallmarkError(
                    f"the backup partition table is at sector {primary[6]}, not in the last one ({last})",
                    where=path,
                )
            backup, copy = _read_half(stream.fileno(), last, "backup", path)
    except OSError as error:
        raise HallmarkError(f"cannot read the disk: {error.strerror}", where=path) from None
    same = (7, 8, 9, 11, 12, 13)
    if entries != copy or backup[6] != 1 or any(primary[index] != backup[index] for index in same):
        raise HallmarkError("the backup partition table differs from the primary one", where=path)
    table = Table(UUID(bytes_le=primary[9]), primary[7], primary[8], primary[6], _entries(entries, primary))
    _check_ranges(table.entries, table, path)
    return table


def _read_half(handle: int, lba: int, which: str, path: Path) -> tuple[tuple[Any, ...], bytes]:
    raw = os.pread(handle, SECTOR, lba * SECTOR)
    if raw[:8] != _SIGNATURE:
        raise HallmarkError(f"there is no {which} GPT header in sector {lba}", where=path)
    fields = _HEADER.unpack_from(raw)
    blank = raw[:16] + bytes(4) + raw[20 : _HEADER.size]
    if fields[2] != _HEADER.size or zlib.crc32(blank) != fields[3] or fields[5] != lba:
        raise HallmarkError(f"the {which} GPT header is damaged", where=path)
    length = fields[11] * fields[12]
    if fields[12] != ENTRY_SIZE or length > 1 << 20:
        raise HallmarkError(f"the {which} GPT header asks for unusual entries", where=path)
    entries = os.pread(handle, length, fields[10] * SECTOR)
    if zlib.crc32(entries) != fields[13]:
        raise HallmarkError(f"the {which} GPT's partition entries are damaged", where=path)
    return fields, entries


def _entries(raw: bytes, header: Sequence[Any]) -> tuple[Entry, ...]:
    found: list[Entry] = []
    for index in range(header[11]):
        kind, guid, first, last, attributes, name = _ENTRY.unpack_from(raw, index * ENTRY_SIZE)
        if any(kind):
            text = name.decode("utf-16-le", errors="replace").split("\0", 1)[0]
            found.append(
                Entry(index + 1, UUID(bytes_le=kind), UUID(bytes_le=guid), first, last, attributes, text)
            )
    return tuple(found)


def _check_ranges(entries: tuple[Entry, ...], table: Table, path: Path) -> None:
    end = table.first_usable - 1
    for entry in sorted(entries, key=lambda item: item.first_lba):
        if not end < entry.first_lba <= entry.last_lba <= table.last_usable:
            raise HallmarkError(
                f"partition {entry.number} overlaps another or leaves the usable sectors", where=path
            )
        end = entry.last_lba
