"""Telling a destination which state a release is in.

The blob's metadata says it, so that clearing away needs no local record; and a withdrawn blob loses the keys
by which consumers such as ManageIQ recognise an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from azure.core import MatchConditions
from azure.storage.blob import BlobClient, BlobProperties

from builder import log
from builder.errors import HallmarkError
from builder.image.sparse import extents
from builder.publish import block, tags
from builder.publish.blob import CONSUMER_KEYS
from builder.publish.parcel import COMPLETE, digest_in, look, must_not_be_withdrawn, state_in
from builder.publish.release import ImageFile, Release, State
from builder.publish.storage import explained
from builder.publish.upload import verify
from builder.recipe.model import OutputFormat

__all__ = ["Placed", "mark", "verified"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A file of a release as a blob; ``etag`` is the blob's last verified state, ``image`` the file here."""

    file: ImageFile
    blob: BlobClient
    etag: str | None
    image: Path

    @property
    def where(self) -> str:
        return str(self.blob.url).partition("?")[0]


def mark(
    files: Sequence[Placed], release: Release, state: State, *, expires: date | None
) -> dict[OutputFormat, str | None]:
    """Write the state into the metadata of a release's blobs, unless it is there; their etags.

    All of them are looked at before one is told; what is to be released and was touched since it was verified
    is read back. A withdrawal never fails because what it takes back is gone already, or is something else by
    now: that has no etag then.

    :param expires: from which day on they may be cleared away; None: never.
    :raises HallmarkError: a blob is gone, isn't of the release, or was changed and can't be compared; or it
        was withdrawn before. None of these for a withdrawal.
    """
    if state == "withdrawn":
        return {item.file.format: _withdraw(item, release, expires) for item in files}
    seen = []
    for item in files:
        with explained("mark the release", item.where):
            seen.append(_look(item, release, compare=state == "released"))
    etags: dict[OutputFormat, str | None] = {}
    for item, found in zip(files, seen, strict=True):
        with explained("mark the release", item.where):
            etags[item.file.format] = _tell(item, found, state, expires)
    return etags


def verified(item: Placed, release: Release) -> str:
    """The etag of a blob that is the release's, in every byte; read back if it was touched since it was
    verified.

    :raises HallmarkError: it is gone, was withdrawn, isn't of the release, or can't be compared.
    """
    with explained("look at the release", item.where):
        return str(_look(item, release, compare=True).etag)


def _withdraw(item: Placed, release: Release, expires: date | None) -> str | None:
    with explained("mark the release", item.where):
        found = look(item.blob)
        try:
            right = _must_be_of(found, item, release)
        except HallmarkError as error:
            log.warn(f"{error.what}: {item.where} ({error.why})")
            marks = found.metadata or {} if found is not None else {}
            # Other bytes; but whoever finds them by this release's tags must not take them either.
            ours = (marks.get(tags.RECIPE), marks.get(tags.VERSION)) == (release.recipe, release.version)
            if found is not None and ours and state_in(found) == COMPLETE:
                _tell(item, found, "withdrawn", expires)
            return None
        return _tell(item, right, "withdrawn", expires)


def _look(item: Placed, release: Release, *, compare: bool) -> BlobProperties:
    found = _must_be_of(look(item.blob), item, release)
    must_not_be_withdrawn(found, recipe=release.recipe, version=release.version, where=item.where)
    if compare and found.etag != item.etag:
        _compare(item, str(found.etag))
    return found


def _must_be_of(found: BlobProperties | None, item: Placed, release: Release) -> BlobProperties:
    if found is None:
        raise HallmarkError(
            "the release's blob is gone",
            where=item.where,
            why="somebody deleted it; the record says that it is here",
            hint=f"publish it again: hallmark publish {release.recipe} --version {release.version}",
        )
    if state_in(found) != COMPLETE or digest_in(found) != item.file.sha256:
        raise HallmarkError(
            "the blob is not the release",
            where=item.where,
            why="its metadata name other bytes, or an upload that was never finished",
            hint=f"publish it again: hallmark publish {release.recipe} --version {release.version}",
        )
    return found


def _tell(item: Placed, found: BlobProperties, state: State, expires: date | None) -> str:
    before = dict(found.metadata or {})
    after = {**before, tags.CHANNEL: state}
    after.pop(tags.EXPIRES, None)
    if expires is not None:
        after[tags.EXPIRES] = expires.isoformat()
    for key, value in (CONSUMER_KEYS if item.file.format == "vhd" else {}).items():
        if state == "withdrawn":
            after.pop(key, None)
        else:
            after[key] = value
    if after == before:
        return str(found.etag)
    done = item.blob.set_blob_metadata(after, etag=found.etag, match_condition=MatchConditions.IfNotModified)
    return str(done["etag"])


def _compare(item: Placed, etag: str) -> None:
    """The blob was touched since it was verified: nobody gets it before it is read again."""
    disk = item.file.format == "vhd"
    if disk and not item.image.is_file():
        raise HallmarkError(
            "the blob was changed since it was verified",
            where=item.where,
            why="there is no image here that it could be compared with",
            hint="run this where the image was built, or publish it again from there",
        )
    with log.step("read the blob back: it was touched since"):
        if disk:
            wrong = [
                str(found) for found in verify(item.blob, item.image, list(extents(item.image)), etag=etag)
            ]
        else:
            there = block.digest_of(item.blob, item.file.size, etag=etag)
            wrong = [f"its sha256 is {there}, not {item.file.sha256}"] if there != item.file.sha256 else []
    if wrong:
        raise HallmarkError(
            "the blob is not the image any more",
            where=item.where,
            why="somebody changed it after it was published",
            hint="withdraw it, and find out who may write to the container",
            details=wrong[:8],
        )
