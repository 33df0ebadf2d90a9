"""A VHDX by hand, from the specification alone: neither our writer nor QEMU's had a part in it."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

from builder.image.crc32c import crc32c

KIB, MIB = 1 << 10, 1 << 20
BLOCK = MIB
DISK = 8 * MIB
LOG, METADATA, BAT, DATA = MIB, 2 * MIB, 3 * MIB, 4 * MIB

BAT_GUID = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_GUID = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
ITEMS = [
    (UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b"), 4, struct.pack("<II", BLOCK, 0)),
    (UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8"), 6, struct.pack("<Q", DISK)),
    (UUID("beca12ab-b2e6-4523-93ef-c309e000c746"), 6, bytes(range(16))),
    (UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f"), 6, struct.pack("<I", 512)),
    (UUID("cda348c7-445d-4471-9cc9-e9885251c556"), 6, struct.pack("<I", 4096)),
]
#: Where the value of each item lies: 64 KiB into the region, 16 bytes each.
VALUES = {
    name: METADATA + 64 * KIB + 16 * n for n, name in enumerate(("file", "size", "id", "logical", "physical"))
}


def make(path: Path) -> Path:
    """A disk of 8 MiB whose blocks 1 and 6 hold something; the log is empty."""
    data = bytearray(DATA + 2 * BLOCK)
    data[:8] = b"vhdxfile"
    for number, place in enumerate((64 * KIB, 128 * KIB), 1):
        guids = [UUID(int=value).bytes_le for value in (11, 12, 0)]
        struct.pack_into("<4sIQ16s16s16sHHIQ", data, place, b"head", 0, number, *guids, 0, 1, MIB, LOG)
    for place in (192 * KIB, 256 * KIB):
        struct.pack_into("<4sIII", data, place, b"regi", 0, 2, 0)
        struct.pack_into("<16sQII", data, place + 16, BAT_GUID.bytes_le, BAT, MIB, 1)
        struct.pack_into("<16sQII", data, place + 48, METADATA_GUID.bytes_le, METADATA, MIB, 1)
    struct.pack_into("<8sHH20s", data, METADATA, b"metadata", 0, len(ITEMS), b"")
    for number, (guid, flags, value) in enumerate(ITEMS):
        offset = 64 * KIB + 16 * number
        entry = METADATA + 32 * (number + 1)
        struct.pack_into("<16sIIII", data, entry, guid.bytes_le, offset, len(value), flags, 0)
        data[METADATA + offset : METADATA + offset + len(value)] = value
    for index in range(8):
        struct.pack_into("<Q", data, BAT + 8 * index, 2)
    for index, block in ((1, 0), (6, 1)):
        struct.pack_into("<Q", data, BAT + 8 * index, (DATA + block * BLOCK) // MIB << 20 | 6)
        data[DATA + block * BLOCK : DATA + block * BLOCK + 5] = b"block"
    path.write_bytes(data)
    sign(path)
    return path


def sign(path: Path) -> None:
    """Make every checksum right again."""
    with path.open("r+b") as stream:
        for place, length in ((64, 4), (128, 4), (192, 64), (256, 64)):
            stream.seek(place * KIB)
            part = bytearray(stream.read(length * KIB))
            part[4:8] = bytes(4)
            stream.seek(place * KIB + 4)
            stream.write(crc32c(bytes(part)).to_bytes(4, "little"))


def put(path: Path, offset: int, data: bytes) -> None:
    """Overwrite a few bytes."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)
