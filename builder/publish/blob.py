"""One release as one page blob, from nothing to complete.

The blob is made under its final name but marked ``hallmark_state=incomplete``; the keys by which consumers
recognise an image (MicrosoftAzureCompute_*) come with the one conditional write at the end, after
verification. So nobody takes a half blob for a release, and a kill at any moment leaves either nothing, or
something to go on from, or the release.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobClient, BlobLeaseClient, BlobProperties, BlobType, ContentSettings

from builder import log
from builder.errors import HallmarkError
from builder.image.sparse import extents
from builder.publish import delta
from builder.publish.parcel import (
    COMPLETE,
    INCOMPLETE,
    Parcel,
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
from builder.publish.ranges import Ranges, size_of
from builder.publish.storage import explained
from builder.publish.upload import Mismatch, Transfer, send, verify

__all__ = ["CONSUMER_KEYS", "Delivered", "deliver"]

#: By these ManageIQ and others recognise a private image (azure-armrest).
CONSUMER_KEYS = {
    "MicrosoftAzureCompute_OSState": "Generalized",
    "MicrosoftAzureCompute_OSType": "Linux",
    "MicrosoftAzureCompute_ImageType": "OSDisk",
}
#: Seconds; the longest finite lease that the service gives. A dead client blocks others no longer than this.
LEASE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Delivered:
    """A complete, verified blob; ``moved`` is what this run had to do for it."""

    etag: str
    size: int
    moved: Transfer


def deliver(
    blob: BlobClient,
    parcel: Parcel,
    *,
    known_etag: str | None = None,
    sampled: bool = False,
    base: delta.Base | None = None,
) -> Delivered:
    """Upload, verify and complete one blob; or go on with what a killed run left; or see that all is done.

    :param known_etag: the etag of the last verified state. If the blob still has it, nothing has touched a
        byte since, and it isn't read again.
    :param sampled: read only a part of the blob back (see ``verify``).
    :param base: an earlier release, from which the service may copy what is the same.
    :raises HallmarkError: the name is taken by something else, the release was withdrawn, another client is
        uploading, the service is not reachable, or the blob's bytes differ from the file's.
    """
    where = str(blob.url).partition("?")[0]
    with explained("publish the image", where):
        found = look(blob)
        if found is not None:
            must_not_be_withdrawn(found, recipe=parcel.recipe, version=parcel.version, where=where)
        data = list(extents(parcel.image))
        skipped = parcel.image.stat().st_size - size_of(data)
        if found is not None and state_in(found) == COMPLETE:
            must_be_same(found, parcel, where)
            if found.lease.state == "leased":
                _give_back(blob, _lease_id(parcel, where))
            if found.etag != known_etag:
                with log.step("read the blob back"):
                    wrong = verify(blob, parcel.image, data, etag=str(found.etag), sampled=sampled)
                    _refuse(wrong, where, complete=True)
            etag = renew(blob, found, parcel)
            return Delivered(etag, int(found.size), Transfer(0, size_of(data), skipped, 0))
        lease_id = _lease_id(parcel, where)
        etag = _prepare(blob, found, parcel, lease_id, where)
        with _leased(blob, lease_id, where, etag) as lease:
            with log.step("send the data") as step:
                moved = send(blob, parcel.image, data, lease=lease_id, alive=lease.check, base=base)
                step.note = f"{moved.sent / (1 << 20):,.0f} MiB in {moved.requests} requests"
                if moved.copied:
                    step.note += f", {moved.copied / (1 << 20):,.0f} MiB saved: copied by the service"
            with log.step("read the blob back"):
                etag = _verified(blob, parcel.image, data, lease, where, sampled=sampled)
            parcel.must_be_unchanged()
            lease.check()
            done = complete(blob, parcel, etag, lease=lease_id, consumer_keys=CONSUMER_KEYS)
        final = blob.get_blob_properties()
        if final.etag != done:
            # Releasing a lease does not change the etag; somebody else's write does.
            raise HallmarkError("the blob was changed right after its completion", where=where)
        return Delivered(str(final.etag), int(final.size), moved)


def _lease_id(parcel: Parcel, where: str) -> str:
    """The same for the same sender, so that its next run takes up the lease of a killed one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{parcel.sender} {where}"))


def _prepare(
    blob: BlobClient, found: BlobProperties | None, parcel: Parcel, lease_id: str, where: str
) -> str:
    """Make sure that an incomplete blob of this image's size and digest is there; its etag."""
    size = parcel.image.stat().st_size
    settings = ContentSettings(content_type="application/octet-stream")
    marks = metadata(parcel, INCOMPLETE)
    if found is None:
        try:
            made = blob.create_page_blob(
                size, content_settings=settings, metadata=marks, match_condition=MatchConditions.IfMissing
            )
        except ResourceExistsError:
            found = blob.get_blob_properties()
        else:
            return str(made["etag"])
    must_be_unfinished(found, BlobType.PAGEBLOB, where)
    if found.size == size and digest_in(found) == parcel.sha256:
        log.info("an earlier upload of this image was interrupted: going on with it")
        return str(found.etag)
    log.info("an earlier upload of other bytes under this name was never finished: starting over")
    _acquire(blob, lease_id, where, str(found.etag))
    # Creating it again empties it: stale pages of the other image can't survive.
    made = blob.create_page_blob(
        size,
        content_settings=settings,
        metadata=marks,
        lease=lease_id,
        etag=found.etag,
        match_condition=MatchConditions.IfNotModified,
    )
    return str(made["etag"])


def _verified(
    blob: BlobClient, image: Path, data: Ranges, lease: _Lease, where: str, *, sampled: bool
) -> str:
    """The etag of a blob that has every byte right; wrong ranges of an unfinished blob are sent once more."""
    etag = str(blob.get_blob_properties().etag)
    wrong = verify(blob, image, data, etag=etag, sampled=sampled)
    if wrong:
        log.warn(f"{len(wrong)} ranges arrived wrong ({wrong[0]}): sending them again")
        for mismatch in wrong:
            blob.clear_page(offset=mismatch.offset, length=mismatch.length, lease=lease.id)
        send(blob, image, data, lease=lease.id, alive=lease.check)
        etag = str(blob.get_blob_properties().etag)
        _refuse(verify(blob, image, data, etag=etag), where, complete=False)
    return etag


def _refuse(wrong: list[Mismatch], where: str, *, complete: bool) -> None:
    if not wrong:
        return
    raise HallmarkError(
        f"the blob is not the image: {len(wrong)} ranges differ",
        where=where,
        why="somebody changed the blob after it was published"
        if complete
        else "the service stored wrong bytes twice",
        hint="delete the blob and find out who may write to the container, then publish again"
        if complete
        else "the blob stays marked incomplete; publish to another container or account",
        details=[str(mismatch) for mismatch in wrong[:8]],
    )


class _Lease:
    """A lease that a thread keeps alive; ``check`` raises once it is lost."""

    def __init__(self, blob: BlobClient, lease_id: str, where: str) -> None:
        self.id = lease_id
        self._client = BlobLeaseClient(blob, lease_id=lease_id)
        self._where = where
        self._stop = threading.Event()
        self._until = time.monotonic() + LEASE_SECONDS
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        if time.monotonic() > self._until:
            raise HallmarkError(
                "the lease on the blob was lost",
                where=self._where,
                why="the service was not reachable for a minute, or somebody broke the lease",
                hint="run the same command again: what has arrived is not sent again",
            )

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 4):
            try:
                self._client.renew()
            except HttpResponseError:
                self._until = 0.0
                return
            except AzureError:
                continue  # not reachable at this moment: check() ends it when the time is over
            self._until = time.monotonic() + LEASE_SECONDS


@contextmanager
def _leased(blob: BlobClient, lease_id: str, where: str, etag: str) -> Iterator[_Lease]:
    """Hold a lease on the blob as it is at ``etag``, so that no other client uploads, copies or deletes it
    meanwhile.

    Afterwards the lease is available again, as ManageIQ wants it; if the service doesn't answer any more, it
    runs out by itself.
    """
    _acquire(blob, lease_id, where, etag)
    lease = _Lease(blob, lease_id, where)
    lease.start()
    try:
        yield lease
    finally:
        lease.stop()
        _give_back(blob, lease_id)


def _give_back(blob: BlobClient, lease_id: str) -> None:
    """Release the lease, which may be one that a killed run of this sender left on a finished blob."""
    try:
        BlobLeaseClient(blob, lease_id=lease_id).release()
    except AzureError:
        log.debug(f"the lease could not be given back; it ends by itself within {LEASE_SECONDS} s")


def _acquire(blob: BlobClient, lease_id: str, where: str, etag: str) -> None:
    """Take the lease; the same id takes up the lease that a killed run of the same sender left."""
    try:
        BlobLeaseClient(blob, lease_id=lease_id).acquire(
            lease_duration=LEASE_SECONDS, etag=etag, match_condition=MatchConditions.IfNotModified
        )
    except HttpResponseError as error:
        if error.status_code != 409:
            raise
        raise HallmarkError(
            "another client is uploading to this blob",
            where=where,
            hint=f"wait for it; if it died, its lease ends within {LEASE_SECONDS} s: run this again then",
        ) from None
