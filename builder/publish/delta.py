"""Copying what an earlier release has already, inside the service (Put Page From URL).

Which bytes are the same is seen by comparing the two images here. Whether they arrived is not believed: the
blob is read back like any other, and what is wrong is sent. So a base that was changed, or a service that
can't copy (Azurite), costs time and never correctness.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient

from builder import log
from builder.publish.meter import Meter
from builder.publish.parallel import concurrently
from builder.publish.ranges import Ranges, merged, puts, size_of
from builder.publish.readback import readable

__all__ = ["Base", "copy", "unchanged"]

#: Images are compared in pieces of this size: smaller ones save bytes and cost requests.
CELL = 256 << 10


@dataclass(frozen=True, slots=True)
class Base:
    """An earlier release: its blob as it was at ``etag``, and the file that the blob was made of."""

    blob: BlobClient
    image: Path
    etag: str


def unchanged(base: Path, image: Path, data: Ranges) -> Ranges:
    """The parts of ``data`` (what isn't zero in ``image``) in which both files hold the same bytes."""
    return merged(_equal(base, image, data))


def _equal(base: Path, image: Path, data: Ranges) -> Iterator[tuple[int, int]]:
    with base.open("rb", buffering=0) as old, image.open("rb", buffering=0) as new:
        size = os.fstat(old.fileno()).st_size
        for offset, length in puts(data, limit=CELL):
            if offset + length > size:
                return
            if os.pread(old.fileno(), length, offset) == os.pread(new.fileno(), length, offset):
                yield offset, length


def copy(
    blob: BlobClient, base: Base, ranges: Ranges, *, lease: str, alive: Callable[[], None]
) -> tuple[int, int]:
    """Let the service copy these ranges from the base; bytes and requests. It may do less, or nothing.

    :param alive: called before each request; raises when the lease is lost.
    """
    pieces = list(puts(ranges))
    if not pieces:
        return 0, 0
    source = readable(base.blob)

    def one(piece: tuple[int, int]) -> int:
        alive()
        offset, length = piece
        blob.upload_pages_from_url(
            source.url,
            offset=offset,
            length=length,
            source_offset=offset,
            source_etag=base.etag,
            source_match_condition=MatchConditions.IfNotModified,
            lease=lease,
            source_authorization=source.authorization(),
        )
        return length

    meter = Meter("copied", size_of(ranges))
    done = 0
    try:
        # The first one alone: it tells whether the service can.
        for piece in (pieces[:1], pieces[1:]):
            for length in concurrently(one, iter(piece)):
                meter.add(length)
                done += 1
    except HttpResponseError as error:
        code = getattr(error, "error_code", None) or error.reason
        code = getattr(code, "value", code)
        what = "no more pages" if done else "no pages"
        log.info(f"the service copies {what} ({error.status_code} {code}): they are sent")
    return meter.moved, done
