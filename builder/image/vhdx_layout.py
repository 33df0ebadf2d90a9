"""The structures of a VHDX: where they lie, how they are packed.

All integers are little-endian; CRC-32C protects headers and region tables. Layout: Microsoft's [MS-VHDX]
"Virtual Hard Disk v2 (VHDX) File Format", section 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from builder.image.crc32c import crc32c

__all__ = [
    "BAT",
    "FILE_PARAMETERS",
    "HEADER",
    "HEADERS",
    "HEADER_SIZE",
    "IDENTIFIER",
    "ITEM",
    "LOGICAL_SECTOR",
    "METADATA",
    "METADATA_TABLE",
    "MIB",
    "PAGE_83",
    "PHYSICAL_SECTOR",
    "REGION",
    "REGION_TABLES",
    "TABLE",
    "TABLE_SIZE",
    "VIRTUAL_SIZE",
    "Header",
    "Span",
    "region_table",
]

KIB = 1 << 10
MIB = 1 << 20
IDENTIFIER = b"vhdxfile"
HEADERS = (64 * KIB, 128 * KIB)
HEADER_SIZE = 4 * KIB
REGION_TABLES = (192 * KIB, 256 * KIB)
TABLE_SIZE = 64 * KIB

HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
TABLE = struct.Struct("<4sIII")
REGION = struct.Struct("<16sQII")
METADATA_TABLE = struct.Struct("<8sHH20s")
ITEM = struct.Struct("<16sIIII")

BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
#: The SCSI identifier of the disk (INQUIRY page 0x83).
PAGE_83 = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR = UUID("cda348c7-445d-4471-9cc9-e9885251c556")


class Span(NamedTuple):
    """A part of the file; ``offset`` and ``length`` in bytes."""

    offset: int
    length: int
    what: str

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Header:
    """One of the two headers. The valid one with the higher sequence number counts."""

    signature: bytes
    checksum: int
    sequence: int
    file_write: UUID
    data_write: UUID
    log: UUID
    log_version: int
    version: int
    log_length: int
    log_offset: int

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Take 4 KiB apart; nothing is judged here."""
        signature, checksum, sequence, file, disk, log, *rest = HEADER.unpack_from(data)
        guids = (UUID(bytes_le=file), UUID(bytes_le=disk), UUID(bytes_le=log))
        return cls(signature, checksum, sequence, *guids, *rest)

    def pack(self) -> bytes:
        """The 4 KiB, with the right checksum."""
        fields = (self.sequence, self.file_write.bytes_le, self.data_write.bytes_le, self.log.bytes_le)
        rest = (self.log_version, self.version, self.log_length, self.log_offset)
        data = bytearray(HEADER_SIZE)
        HEADER.pack_into(data, 0, self.signature, 0, *fields, *rest)
        data[4:8] = crc32c(bytes(data)).to_bytes(4, "little")
        return bytes(data)


def region_table(regions: Iterable[tuple[UUID, Span, bool]]) -> bytes:
    """The 64 KiB of a region table, with the right checksum."""
    entries = [
        REGION.pack(guid.bytes_le, span.offset, span.length, int(required))
        for guid, span, required in regions
    ]
    data = bytearray(TABLE_SIZE)
    TABLE.pack_into(data, 0, b"regi", 0, len(entries), 0)
    data[TABLE.size : TABLE.size + len(entries) * REGION.size] = b"".join(entries)
    data[4:8] = crc32c(bytes(data)).to_bytes(4, "little")
    return bytes(data)
