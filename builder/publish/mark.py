"""Telling a destination which state a release is in.

The blob's metadata says it, so that clearing away needs no local record; and a withdrawn blob loses the keys
by which consumers such as ManageIQ recognise an image.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobClient

from builder import log
from builder.errors import HallmarkError
from builder.image.sparse import extents
from builder.publish import tags
from builder.publish.blob import COMPLETE, CONSUMER_KEYS, STATE
from builder.publish.release import Release, State
from builder.publish.storage import explained
from builder.publish.upload import verify

__all__ = ["mark"]


def mark(
    blob: BlobClient, release: Release, state: State, *, etag: str | None, expires: date | None, image: Path
) -> str:
    """Write the state into the blob's metadata, unless it is there; the blob's etag.

    :param etag: the last verified state of the blob. When it differs, the blob is read back first.
    :param expires: from which day on it may be cleared away; None: never.
    :param image: the file that was published.
    :raises HallmarkError: the blob is gone, isn't the release, or was changed and can't be compared.
    """
    where = str(blob.url).partition("?")[0]
    with explained("mark the release", where):
        try:
            found = blob.get_blob_properties()
        except ResourceNotFoundError:
            raise HallmarkError(
                "the release's blob is gone",
                where=where,
                why="somebody deleted it; the record says that it is here",
                hint=f"publish it again: hallmark publish {release.recipe} --version {release.version}",
            ) from None
        before = dict(found.metadata or {})
        if before.get(STATE) != COMPLETE or before.get("hallmark_sha256") != release.image.sha256:
            raise HallmarkError(
                "the blob is not the release",
                where=where,
                why="its metadata name other bytes, or an upload that was never finished",
                hint=f"publish it again: hallmark publish {release.recipe} --version {release.version}",
            )
        if found.etag != etag and state == "released":
            _compare(blob, image, str(found.etag), where)
        after = {**before, tags.CHANNEL: state}
        after.pop(tags.EXPIRES, None)
        if expires is not None:
            after[tags.EXPIRES] = expires.isoformat()
        for key, value in CONSUMER_KEYS.items():
            if state == "withdrawn":
                after.pop(key, None)
            else:
                after[key] = value
        if after == before:
            return str(found.etag)
        done = blob.set_blob_metadata(after, etag=found.etag, match_condition=MatchConditions.IfNotModified)
        return str(done["etag"])


def _compare(blob: BlobClient, image: Path, etag: str, where: str) -> None:
    """The blob was touched since it was verified: nobody gets it before it is read again."""
    if not image.is_file():
        raise HallmarkError(
            "the blob was changed since it was verified",
            where=where,
            why="there is no image here that it could be compared with",
            hint="run this where the image was built, or publish it again from there",
        )
    with log.step("read the blob back: it was touched since"):
        wrong = verify(blob, image, list(extents(image)), etag=etag)
    if wrong:
        raise HallmarkError(
            f"the blob is not the image any more: {len(wrong)} ranges differ",
            where=where,
            why="somebody changed it after it was published",
            hint="withdraw it, and find out who may write to the container",
            details=[str(mismatch) for mismatch in wrong[:8]],
        )
