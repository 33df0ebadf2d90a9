"""A further output of a release (VHDX, qcow2, OCI) as one block blob beside the image's page blob.

Its blocks are staged first and get the final name together, with one conditional request; a run that is
killed before leaves nothing that anybody sees, and the service forgets staged blocks after a week. What has
the name is read back before it is marked complete, as an image is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
from azure.storage.blob import BlobClient, BlobProperties, BlobType, ContentSettings

from builder import log
from builder.errors import HallmarkError
from builder.publish.meter import Meter
from builder.publish.parallel import CONCURRENCY
from builder.publish.parcel import (
    COMPLETE,
    INCOMPLETE,
    Contents,
    complete,
    digest_in,
    look,
    metadata,
    must_be_same,
    must_be_unfinished,
    must_not_be_withdrawn,
    renew,
    state_in,
)
from builder.publish.ranges import PUT_LIMIT
from builder.publish.readback import RangeReader
from builder.publish.storage import API_VERSION, explained

__all__ = ["deliver", "digest_of"]


def deliver(blob: BlobClient, contents: Contents, *, known_etag: str | None = None) -> str:
    """Upload, verify and complete one block blob, or see that all is done; its etag.

    :param known_etag: the etag of the last verified state. If the blob still has it, nothing has touched a
        byte since, and it isn't read again.
    :raises HallmarkError: the name is taken by something else, the release was withdrawn, the file isn't what
        was certified (no blob is made then), the service is not reachable, or it stored other bytes than were
        sent.
    """
    where = str(blob.url).partition("?")[0]
    with explained("publish the output", where):
        found = look(blob)
        if found is not None:
            must_not_be_withdrawn(found, recipe=contents.recipe, version=contents.version, where=where)
        if found is not None and state_in(found) == COMPLETE:
            must_be_same(found, contents, where)
            if found.etag != known_etag and not _holds(blob, contents, str(found.etag)):
                raise _other_bytes(where, "somebody changed the blob after it was published")
            return renew(blob, found, contents)
        if found is not None:
            must_be_unfinished(found, BlobType.BLOCKBLOB, where)
        if found is None or not _is_upload_of(found, contents) or not _holds(blob, contents, str(found.etag)):
            etag = _send(blob, contents, replacing=found)
            if not _holds(blob, contents, etag):
                raise _other_bytes(where, "the service stored wrong bytes; the blob stays marked incomplete")
        else:
            etag = str(found.etag)
        return complete(blob, contents, etag)


def digest_of(blob: BlobClient, size: int, *, etag: str) -> str:
    """The SHA-256 of what the service has of a blob, all of it read as it was at ``etag``.

    :param size: of the blob, in bytes.
    :raises azure.core.exceptions.AzureError: the blob was changed since (412), or can't be read.
    """
    digest, meter = hashlib.sha256(), Meter("read back", size)
    with RangeReader(blob, api_version=API_VERSION) as reader:
        for block in reader.blocks(0, size, etag=etag):
            digest.update(block)
            meter.add(len(block))
    return digest.hexdigest()


def _holds(blob: BlobClient, contents: Contents, etag: str) -> bool:
    with log.step("read the output back"):
        return digest_of(blob, contents.image.stat().st_size, etag=etag) == contents.sha256


def _is_upload_of(found: BlobProperties, contents: Contents) -> bool:
    return digest_in(found) == contents.sha256 and found.size == contents.image.stat().st_size


def _send(blob: BlobClient, contents: Contents, *, replacing: BlobProperties | None) -> str:
    """Stage the blocks, each with its MD5, and give them the name; the blob's etag.

    :param replacing: an unfinished upload that goes, if it still is as it was seen; None: there must be none.
    """
    condition: dict[str, Any] = {}
    if replacing is not None:
        condition = {"etag": replacing.etag, "match_condition": MatchConditions.IfNotModified}
    size = contents.image.stat().st_size
    with log.step("send the output") as step, contents.image.open("rb") as stream:
        step.note = f"{size / (1 << 20):,.0f} MiB"
        try:
            made = blob.upload_blob(
                _certified(stream, contents, size),
                length=size,
                overwrite=replacing is not None,
                metadata=metadata(contents, INCOMPLETE),
                content_settings=ContentSettings(content_type="application/octet-stream"),
                validate_content=True,
                max_concurrency=CONCURRENCY,
                **condition,
            )
        except (ResourceExistsError, ResourceModifiedError):
            # The answer to a first try was lost, and the second one met the result of the first.
            found = look(blob)
            if found is None or state_in(found) != INCOMPLETE or not _is_upload_of(found, contents):
                raise
            return str(found.etag)
    return str(made["etag"])


def _certified(stream: BinaryIO, contents: Contents, size: int) -> Iterator[bytes]:
    """The file in blocks. The last one comes only if all of the file is what was certified, so nothing else
    ever gets the blob's name.
    """
    digest, meter, left = hashlib.sha256(), Meter("sent", size), size
    while left:
        block = stream.read(min(PUT_LIMIT, left))
        digest.update(block)
        left -= len(block)
        if not block or (not left and digest.hexdigest() != contents.sha256):
            raise HallmarkError(
                "the output is not the one that was certified",
                where=contents.image,
                why="it was changed after certification; nothing was published under its name",
                hint="build and certify again, then publish",
            )
        meter.add(len(block))
        yield block


def _other_bytes(where: str, why: str) -> HallmarkError:
    return HallmarkError(
        "the blob is not the output that was certified",
        where=where,
        why=why,
        hint="delete the blob and find out who may write to the container, then publish again",
    )
