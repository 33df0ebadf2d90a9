"""What is delivered as a blob, and the marks by which it is known again.

A blob has its final name from the beginning, but is marked incomplete until every byte was read back; the one
conditional write of the metadata at the end makes it part of a release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobProperties, BlobType

from builder import log
from builder.errors import HallmarkError
from builder.publish import tags

__all__ = [
    "COMPLETE",
    "DIGEST",
    "INCOMPLETE",
    "STATE",
    "Contents",
    "Parcel",
    "already_published",
    "complete",
    "digest_in",
    "look",
    "metadata",
    "must_be_same",
    "must_be_unfinished",
    "must_not_be_withdrawn",
    "renew",
    "state_in",
]

COMPLETE = "complete"
INCOMPLETE = "incomplete"
STATE = "hallmark_state"
DIGEST = "hallmark_sha256"


@dataclass(frozen=True, slots=True)
class Contents:
    """A file of a release, with the digest that the certificate gives it and the tags of the release."""

    image: Path
    sha256: str
    recipe: str
    version: str
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Parcel(Contents):
    """An image to deliver as a page blob.

    ``sender`` identifies who uploads: the same sender may take up the lease that a killed run of it left.
    ``must_be_unchanged`` raises if the file is no longer what the digest was made of.
    """

    sender: str
    must_be_unchanged: Callable[[], None]


def look(blob: BlobClient) -> BlobProperties | None:
    """What the service says of a blob; None when there is none."""
    try:
        return blob.get_blob_properties()
    except ResourceNotFoundError:
        return None


def state_in(found: BlobProperties) -> str | None:
    """``COMPLETE``, ``INCOMPLETE``, or None for a blob of somebody else."""
    return (found.metadata or {}).get(STATE)


def digest_in(found: BlobProperties) -> str | None:
    """The SHA-256 that the blob's metadata promise."""
    return (found.metadata or {}).get(DIGEST)


def metadata(
    contents: Contents, state: str, *, consumer_keys: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The blob's metadata. Names must be C# identifiers (REST reference), so no dashes.

    :param consumer_keys: what consumers know an image by; only what is complete gets them.
    """
    data = {**contents.tags, STATE: state, DIGEST: contents.sha256}
    data |= {"hallmark_recipe": contents.recipe, "hallmark_version": contents.version}
    if state == COMPLETE:
        data |= consumer_keys or {}
    return data


def must_be_same(found: BlobProperties, contents: Contents, where: str) -> None:
    """A complete blob under the final name must be of the same bytes.

    :raises HallmarkError: its metadata promise another digest, or it has another length.
    """
    digest = digest_in(found)
    if digest != contents.sha256 or found.size != contents.image.stat().st_size:
        raise already_published(
            contents.recipe, contents.version, where, there=str(digest), here=contents.sha256
        )


def already_published(recipe: str, version: str, where: str, *, there: str, here: str) -> HallmarkError:
    """The error for a version with other bytes: their SHA-256 ``there``, and that of the image ``here``."""
    return HallmarkError(
        f"version {version} of {recipe} is published already, with other bytes",
        where=where,
        why="a published version never changes: consumers pin it, and its certificate names its digest",
        hint="build a new version (the last number counts up within a day)",
        details=[f"published: sha256 {there}", f"this image: sha256 {here}"],
    )


def must_not_be_withdrawn(found: BlobProperties, *, recipe: str, version: str, where: str) -> None:
    """What was withdrawn never comes back, whatever the records here say: they can be lost, or be of another
    machine.

    :raises HallmarkError: the blob's metadata say that it was withdrawn.
    """
    if tags.channel(found.metadata or {}) == "withdrawn":
        raise HallmarkError(
            f"{recipe} {version} was withdrawn: the blob says so",
            where=where,
            why="a withdrawn version must not come back; the record here doesn't know of it, or is lost",
            hint=f"build a new version; if there is a record here: "
            f"hallmark withdraw {recipe} --version {version} --why WHY",
        )


def must_be_unfinished(found: BlobProperties, kind: BlobType, where: str) -> None:
    """What is under the final name must be an unfinished upload of our own, and of the same kind.

    :raises HallmarkError: it is something else.
    """
    if found.blob_type != kind or state_in(found) != INCOMPLETE:
        raise HallmarkError(
            "another blob has this name",
            where=where,
            why="Hallmark only replaces what an unfinished upload of its own left",
            hint="delete it, or publish to another container",
        )


def complete(
    blob: BlobClient,
    contents: Contents,
    etag: str,
    *,
    lease: str | None = None,
    consumer_keys: Mapping[str, str] | None = None,
) -> str:
    """Mark the blob as part of a release, if it still is what was verified; its new etag.

    :param etag: the state of the blob that was verified.
    :raises azure.core.exceptions.AzureError: the service refused, or the blob was changed since (412).
    """
    marks = metadata(contents, COMPLETE, consumer_keys=consumer_keys)
    try:
        done = blob.set_blob_metadata(
            marks, lease=lease, etag=etag, match_condition=MatchConditions.IfNotModified
        )
    except ResourceModifiedError:
        # The answer to a first try was lost, and the second one met the result of the first.
        found = blob.get_blob_properties()
        if state_in(found) != COMPLETE or digest_in(found) != contents.sha256:
            raise
        return str(found.etag)
    return str(done["etag"])


def renew(blob: BlobClient, found: BlobProperties, contents: Contents) -> str:
    """Give a finished, verified blob the expiry of today's certificate, unless it has that; its etag.

    :raises azure.core.exceptions.AzureError: the service refused, or the blob was changed since (412).
    """
    marks = tags.renewed(found.metadata or {}, contents.tags)
    if marks is None:
        return str(found.etag)
    done = blob.set_blob_metadata(marks, etag=found.etag, match_condition=MatchConditions.IfNotModified)
    log.info(f"{blob.blob_name} is kept until {marks[tags.EXPIRES]}, unless it is released")
    return str(done["etag"])
