"""The VHDX for Hyper-V generation 2 and System Center VMM: made by qemu-img, corrected, and proven."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid5

from builder.errors import HallmarkError
from builder.image import qemu
from builder.image.sparse import data_segments
from builder.image.vhd import FOOTER_SIZE
from builder.image.vhdx import Reader, deviations
from builder.image.vhdx_layout import (
    HEADER_SIZE,
    HEADERS,
    IDENTIFIER,
    PAGE_83,
    REGION_TABLES,
    Header,
    region_table,
)

__all__ = ["compare", "seal", "write"]

#: Microsoft's "Best Practices for running Linux on Hyper-V": ext4 scatters small writes, and a block is
#: allocated whole, so a dynamic VHDX with the default of 32 MiB grows far beyond its content.
BLOCK_SIZE = 1 << 20
_CREATOR = "Hallmark"


def write(image: Path, target: Path, *, identity: UUID) -> None:
    """Write the disk of the fixed VHD ``image`` as a dynamic VHDX, and prove it.

    :param identity: what the file's identifiers are derived from.
    :raises HallmarkError: qemu-img failed, or the file is not a VHDX with the very same disk.
    """
    qemu.convert(image, target, to="vhdx", options=("subformat=dynamic", f"block_size={BLOCK_SIZE}"))
    seal(target, identity=identity)
    if found := deviations(target, virtual_size=image.stat().st_size - FOOTER_SIZE):
        raise HallmarkError(
            "the VHDX is not one that Hyper-V takes",
            where=target,
            details=[str(item) for item in found],
            hint="another version of qemu-img may write it right",
        )
    compare(image, target)


def seal(path: Path, *, identity: UUID) -> None:
    """Give a VHDX that qemu-img wrote identifiers derived from ``identity``, and clear its log.

    qemu-img draws identifiers and sequence numbers at random and leaves what it logged in the file. After
    this the same disk gives the same file, byte for byte, whenever the same qemu-img converts it. qemu-img
    also forgets to mark the regions as required ([MS-VHDX] 2.2.3.2).

    :raises HallmarkError: the file holds no header or no identifier to replace, or it can't be written.
    """
    try:
        with path.open("r+b") as stream:
            reader = Reader(stream)
            header = Header.parse(reader.read(HEADERS[0], HEADER_SIZE))
            regions = [(guid, span, True) for guid, span, _ in reader.regions()]
            disk = next((offset for guid, offset, _ in reader.items() if guid == PAGE_83), None)
            if header.signature != b"head" or header.log.int or disk is None:
                raise HallmarkError("qemu-img left no complete VHDX", where=path)

            def put(offset: int, data: bytes) -> None:
                stream.seek(offset)
                stream.write(data)

            put(0, IDENTIFIER + _CREATOR.encode("utf-16-le").ljust(512, b"\0"))
            for number, place in enumerate(HEADERS, 1):
                new = Header(
                    signature=b"head",
                    checksum=0,
                    sequence=number,
                    file_write=uuid5(identity, "vhdx/file-write"),
                    data_write=uuid5(identity, "vhdx/data-write"),
                    log=UUID(int=0),
                    log_version=0,
                    version=1,
                    log_length=header.log_length,
                    log_offset=header.log_offset,
                )
                put(place, new.pack())
            for place in REGION_TABLES:
                put(place, region_table(regions))
            put(header.log_offset, bytes(header.log_length))
            put(disk, uuid5(identity, "vhdx/virtual-disk").bytes_le)
    except OSError as error:
        raise HallmarkError(f"cannot write the VHDX: {error.strerror}", where=path) from None


def compare(image: Path, vhdx: Path) -> None:
    """Make sure that a VHDX without deviations holds the disk of the fixed VHD ``image``, byte for byte.

    Our own reader looks at what qemu-img wrote: a second opinion, and faster than qemu-img's, which reads
    every block that is not there.

    :raises HallmarkError: a byte differs.
    """
    with vhdx.open("rb") as stream, image.open("rb", buffering=0) as source:
        size, blocks = Reader(stream).blocks()
        disk = os.fstat(source.fileno()).st_size - FOOTER_SIZE
        stored = {
            number
            for start, end in data_segments(source.fileno(), disk)
            for number in range(start // size, -(-end // size))
        }
        zeros = bytes(size)
        for number in sorted(stored | blocks.keys()):
            length = min(size, disk - number * size)
            expected = (
                os.pread(source.fileno(), length, number * size) if number in stored else zeros[:length]
            )
            found = os.pread(stream.fileno(), length, blocks[number]) if number in blocks else zeros[:length]
            if expected != found:
                raise HallmarkError(
                    f"the VHDX holds another disk than the image: block {number} differs",
                    where=vhdx,
                    why="the certificate speaks for the disk that was looked at",
                )
