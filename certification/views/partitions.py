"""Reads MBR and GPT partition tables from bytes, both copies of the GPT, and says what is wrong with them.

Written apart from the code that makes the tables, so that one mistake can't hide in both. Layouts: UEFI
Specification 2.10, chapter 5 (GUID Partition Table); sectors are 512 bytes, as in every VHD.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

__all__ = [
    "SECTOR",
    "TYPE_NAMES",
    "Gpt",
    "GptHeader",
    "Mbr",
    "MbrEntry",
    "Partition",
    "parse_gpt",
    "parse_mbr",
]

SECTOR = 512
Read = Callable[[int, int], bytes]

TYPE_NAMES = {
    UUID("21686148-6449-6e6f-744e-656564454649"): "bios-boot",
    UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"): "esp",
    UUID("bc13c2ff-59e6-4262-a352-b275fd6f7172"): "xbootldr",
    UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"): "linux",
    UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"): "root-x86-64",
    UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"): "root-arm64",
    UUID("e6d6d379-f507-44c2-a23c-238f2a3df928"): "lvm",
    UUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"): "swap",
}


@dataclass(frozen=True, slots=True)
class MbrEntry:
    """A slot of the MBR; ``start`` and ``sectors`` count 512-byte sectors."""

    active: bool
    type: int
    start: int
    sectors: int


@dataclass(frozen=True, slots=True)
class Mbr:
    """The first sector. ``boot_code`` is its first 440 bytes."""

    boot_code: bytes
    entries: tuple[MbrEntry, ...]
    signature: bytes

    @property
    def valid(self) -> bool:
        return self.signature == b"\x55\xaa"

    @property
    def protective(self) -> bool:
        """One entry of type 0xEE: the disk is partitioned by its GPT."""
        return [entry.type for entry in self.entries if entry.type] == [0xEE]

    @property
    def has_boot_code(self) -> bool:
        """There is something that a BIOS could run."""
        return any(self.boot_code)


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition; LBAs are inclusive, ``offset`` and ``length`` are bytes."""

    number: int
    type: UUID
    guid: UUID
    first_lba: int
    last_lba: int
    attributes: int
    name: str

    @property
    def kind(self) -> str:
        """A short name of the type (``esp``, ``linux``, …), or the GUID."""
        return TYPE_NAMES.get(self.type, str(self.type))

    @property
    def offset(self) -> int:
        return self.first_lba * SECTOR

    @property
    def length(self) -> int:
        return (self.last_lba - self.first_lba + 1) * SECTOR


@dataclass(frozen=True, slots=True)
class GptHeader:
    """One copy of the GPT header with what its checksums say."""

    lba: int
    my_lba: int
    alternate_lba: int
    first_usable: int
    last_usable: int
    disk_guid: UUID
    entries_lba: int
    entry_count: int
    entry_size: int
    header_crc_ok: bool
    entries_crc_ok: bool
    entries: bytes

    @property
    def intact(self) -> bool:
        return self.header_crc_ok and self.entries_crc_ok and self.my_lba == self.lba


@dataclass(frozen=True, slots=True)
class Gpt:
    """Both headers (None: not there) and the partitions of the first one that is intact."""

    primary: GptHeader | None
    backup: GptHeader | None
    last_lba: int
    partitions: tuple[Partition, ...]
    problems: tuple[str, ...]


def parse_mbr(sector: bytes) -> Mbr:
    """The MBR in the first 512 bytes of a disk."""
    entries = []
    for slot in range(4):
        status, kind, start, count = struct.unpack_from("<B3xB3xII", sector, 446 + 16 * slot)
        entries.append(MbrEntry(status == 0x80, kind, start, count))
    return Mbr(sector[:440], tuple(entries), sector[510:512])


def parse_gpt(read: Read, size: int) -> Gpt | None:
    """Both copies of the GPT of a disk of ``size`` bytes; None when neither is there.

    :param read: ``read(offset, length)`` returns at most ``length`` bytes of the disk.
    """
    last = size // SECTOR - 1
    primary, backup = _header(read, 1), _header(read, last)
    if primary is None and backup is None:
        return None
    problems: list[str] = []
    for name, header in (("primary", primary), ("backup", backup)):
        if header is None:
            problems.append(f"no {name} GPT header at LBA {1 if name == 'primary' else last}")
            continue
        if not header.header_crc_ok:
            problems.append(f"the {name} header's checksum is wrong")
        if not header.entries_crc_ok:
            problems.append(f"the checksum of the {name} partition entries is wrong")
        if header.my_lba != header.lba:
            problems.append(
                f"the {name} header says that it is at LBA {header.my_lba}, it is at {header.lba}"
            )
        other = last if name == "primary" else 1
        if header.alternate_lba != other:
            problems.append(
                f"the {name} header expects the other copy at LBA {header.alternate_lba}, not {other}"
            )
        if header.last_usable > last - 33:
            problems.append(
                f"the {name} header calls LBA {header.last_usable} usable; the backup GPT is there"
            )
    if primary and backup and (primary.entries != backup.entries or primary.disk_guid != backup.disk_guid):
        problems.append("the two copies of the GPT differ")
    best = next((header for header in (primary, backup) if header and header.intact), primary or backup)
    assert best is not None
    partitions = _partitions(best)
    taken = sorted(partitions, key=lambda part: part.first_lba)
    for part in taken:
        if part.first_lba < best.first_usable or part.last_lba > best.last_usable:
            problems.append(f"partition {part.number} lies outside the usable area")
    for left, right in pairwise(taken):
        if right.first_lba <= left.last_lba:
            problems.append(f"partitions {left.number} and {right.number} overlap")
    return Gpt(primary, backup, last, partitions, tuple(problems))


def _header(read: Read, lba: int) -> GptHeader | None:
    sector = read(lba * SECTOR, SECTOR)
    if len(sector) < SECTOR or sector[:8] != b"EFI PART":
        return None
    size, crc = struct.unpack_from("<II", sector, 12)
    my, other, first, last = struct.unpack_from("<QQQQ", sector, 24)
    entries_lba, count, entry_size, entries_crc = struct.unpack_from("<QIII", sector, 72)
    size = size if 92 <= size <= SECTOR else 92
    cleared = sector[:16] + bytes(4) + sector[20:size]
    # A broken header must not make us read gigabytes: 128 entries of 128 bytes are usual, 64 KiB is plenty.
    entries = (
        read(entries_lba * SECTOR, count * entry_size)
        if entry_size >= 128 and count * entry_size <= 65536
        else b""
    )
    return GptHeader(
        lba=lba,
        my_lba=my,
        alternate_lba=other,
        first_usable=first,
        last_usable=last,
        disk_guid=UUID(bytes_le=sector[56:72]),
        entries_lba=entries_lba,
        entry_count=count,
        entry_size=entry_size,
        header_crc_ok=zlib.crc32(cleared) == crc,
        entries_crc_ok=bool(entries) and zlib.crc32(entries) == entries_crc,
        entries=entries,
    )


def _partitions(header: GptHeader) -> tuple[Partition, ...]:
    found = []
    for index in range(len(header.entries) // header.entry_size if header.entry_size else 0):
        entry = header.entries[index * header.entry_size : (index + 1) * header.entry_size]
        if not any(entry[:16]):
            continue
        first, last, attributes = struct.unpack_from("<QQQ", entry, 32)
        name = entry[56:128].decode("utf-16-le", errors="replace").split("\0")[0]
        found.append(
            Partition(
                index + 1,
                UUID(bytes_le=entry[:16]),
                UUID(bytes_le=entry[16:32]),
                first,
                last,
                attributes,
                name,
            )
        )
    return tuple(found)
