"""Moving an image's bytes into a page blob: only data travels, and every byte is read back.

Resuming asks the server what it has. There is no local journal: Azurite loses acknowledged writes when it is
killed, so a journal would be wrong exactly when it matters.

Limits of the service (REST reference, Put Page): offsets and lengths are multiples of 512, at most 4 MiB a
write.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient

from builder.image.sparse import SECTOR
from builder.publish import delta
from builder.publish.meter import Meter
from builder.publish.parallel import concurrently
from builder.publish.piece import Piece
from builder.publish.ranges import PUT_LIMIT, Ranges, merged, puts, size_of, subtract
from builder.publish.readback import RangeReader
from builder.publish.storage import API_VERSION

__all__ = ["Mismatch", "Transfer", "covered", "send", "verify"]

#: How many pieces the sampled comparison reads.
SAMPLE = 64
#: The most bytes that are read back with one request; what comes is compared block by block.
READ_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one upload moved, in bytes: ``sent`` now, ``copied`` by the service from an earlier release,
    ``present`` on the server already, ``skipped`` because zero.
    """

    sent: int
    present: int
    skipped: int
    requests: int
    copied: int = 0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A range of whole pages of the blob that isn't what the file has; ``at`` is the first wrong byte's
    offset.
    """

    offset: int
    length: int
    at: int
    expected: str
    found: str

    def __str__(self) -> str:
        return f"byte {self.at}: expected {self.expected}, the blob has {self.found}"


def covered(blob: BlobClient, *, lease: str | None = None) -> Ranges:
    """The ranges of a page blob that have been written, by the server's word."""
    pages = blob.list_page_ranges(lease=lease) if lease else blob.list_page_ranges()
    ranges = []
    for page in pages:
        if page.start is None or page.end is None or page.cleared:
            continue
        ranges.append((page.start, page.end - page.start + 1))  # the service counts ends inclusively
    return merged(ranges)


def send(
    blob: BlobClient,
    image: Path,
    data: Ranges,
    *,
    lease: str,
    alive: Callable[[], None] = lambda: None,
    base: delta.Base | None = None,
) -> Transfer:
    """Make the blob hold exactly the image's data: send what is missing, clear what doesn't belong.

    :param data: the extents of the image's non-zero data.
    :param alive: called before each request; raises when the lease is lost, which stops the upload.
    :param base: an earlier release; what is the same in it is copied by the service, if it can.
    :raises HallmarkError: the file can't be read or became shorter.
    :raises azure.core.exceptions.AzureError: the service refused; running again resumes.
    """
    present = covered(blob, lease=lease)
    total = size_of(data)
    missing = subtract(data, present)
    there = total - size_of(missing)
    for offset, length in subtract(present, data):
        blob.clear_page(offset=offset, length=length, lease=lease)
    copied = requests = 0
    if base is not None:
        same = delta.unchanged(base.image, image, missing)
        copied, requests = delta.copy(blob, base, same, lease=lease, alive=alive)
        if copied:
            # Not every request may have been answered: the server says what it has.
            missing = subtract(data, covered(blob, lease=lease))
    to_send = size_of(missing)
    skipped = image.stat().st_size - total
    meter = Meter("sent", to_send, present=total - to_send, skipped=skipped)
    sent = 0
    with image.open("rb", buffering=0) as stream:

        def put(piece: tuple[int, int]) -> int:
            alive()
            _put(blob, Piece(stream.fileno(), *piece, image), lease)
            return piece[1]

        for length in concurrently(put, puts(missing)):
            sent += length
            requests += 1
            meter.add(length)
    return Transfer(sent, there, skipped, requests, copied)


def _put(blob: BlobClient, piece: Piece, lease: str) -> None:
    """Write one piece with its MD5; what was damaged on the way is refused by the service and sent again.

    The MD5 is ours: the SDK makes it of bytes only, and would hold the whole piece in memory for it.
    """
    page, md5 = cast(bytes, piece), {"Content-MD5": piece.md5()}
    for last in (False, False, True):
        try:
            blob.upload_page(page, offset=piece.offset, length=piece.length, lease=lease, headers=md5)
        except HttpResponseError as error:
            if last or getattr(error, "error_code", None) != "Md5Mismatch":
                raise
        else:
            return


def verify(
    blob: BlobClient, image: Path, data: Ranges, *, etag: str, sampled: bool = False
) -> list[Mismatch]:
    """Read the blob back and compare it with the file; everything that differs, by offset.

    Written ranges are compared byte for byte. What the file has and the blob hasn't is a mismatch; so is a
    written range where the file has a hole. The rest was never written, and unwritten pages read as zeros.

    :param data: the extents of the image's non-zero data.
    :param etag: the state of the blob that is meant; a change while reading is an error (412), not a wrong
        result.
    :param sampled: compare the ranges, but only ``SAMPLE`` of the written pieces: the first, the last (which
        hold the boot code, the partition tables and the footer), and others that nobody can foresee.
    """
    present = covered(blob)
    missing = subtract(data, present)
    wrong = [Mismatch(o, n, o, "data", "nothing written") for o, n in puts(missing)]
    wrong += [Mismatch(o, n, o, "nothing written", "data") for o, n in puts(subtract(present, data))]
    pieces = list(puts(subtract(data, missing), limit=PUT_LIMIT if sampled else READ_LIMIT))
    if sampled and len(pieces) > SAMPLE:
        pieces = sorted({pieces[0], pieces[-1], *random.SystemRandom().sample(pieces[1:-1], SAMPLE - 2)})
    meter = Meter("read back", size_of(pieces))
    with image.open("rb", buffering=0) as stream, RangeReader(blob, api_version=API_VERSION) as reader:

        def compare(piece: tuple[int, int]) -> tuple[int, list[Mismatch]]:
            return piece[1], list(_differences(reader, Piece(stream.fileno(), *piece, image), etag))

        for length, mismatches in concurrently(compare, iter(pieces)):
            meter.add(length)
            wrong += mismatches
    return sorted(wrong, key=lambda mismatch: mismatch.at)


def _differences(reader: RangeReader, piece: Piece, etag: str) -> Iterator[Mismatch]:
    """The blocks of the piece that the blob has otherwise."""
    position = piece.offset
    for found in reader.blocks(piece.offset, piece.length, etag=etag):
        expected = piece.part(position, len(found))
        if found != expected:
            at = next(index for index, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
            start, end = position - position % SECTOR, position + len(found)
            yield Mismatch(
                offset=start,
                length=end + -end % SECTOR - start,
                at=position + at,
                expected=f"0x{expected[at]:02x}",
                found=f"0x{found[at]:02x}",
            )
        position += len(found)
