"""Clearing away what nobody needs any more; nothing that is released, and nothing that Hallmark didn't make.

What is at a destination says itself, by its tags, whose it is and until when it is kept. The records in this
workspace can only save something, never condemn it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobProperties, ContainerClient

from builder import log
from builder.errors import HallmarkError
from builder.publish import tags
from builder.publish.destination import Destination, FileDestination, RegistryDestination
from builder.publish.parcel import INCOMPLETE, STATE
from builder.publish.records import records
from builder.publish.release import Location, Release, State
from builder.publish.service import service_of
from builder.publish.storage import explained
from builder.recipe.model import OutputFormat
from builder.workspace import Artefacts, Workspace

__all__ = ["UNFINISHED", "Kept", "Litter", "clear", "known", "reason"]

#: How long an upload that was never finished may still be taken up again.
UNFINISHED = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a record here says of a release: its state, and until when its certificate lets it be released."""

    state: State
    certified: date


#: What the records here say, by recipe and version.
Known = Mapping[tuple[str, str], Kept]


def known(found: Iterable[tuple[Artefacts, Release]]) -> Known:
    """What these records say."""
    return {
        (item.recipe, item.version): Kept(item.state, item.certificate.expires.date()) for _, item in found
    }


@dataclass(frozen=True, slots=True)
class Litter:
    """Something that may go: what it is, where, why; ``size`` in bytes; ``remove`` deletes it."""

    what: str
    where: str
    release: tuple[str, str]
    why: str
    size: int
    remove: Callable[[], None]


def reason(found: Mapping[str, str], known: Known, *, now: datetime) -> str | None:
    """Why something with these tags may be cleared away; None when it must stay.

    What is released stays, whether its tags say so or a record; so does what lacks tags, or an expiry; and
    what is staged, by a record whose certificate was renewed since the tags were written.
    """
    if not (found.get(tags.RECIPE) and found.get(tags.VERSION)):
        return None
    recorded = known.get((found[tags.RECIPE], found[tags.VERSION]))
    day = tags.expiry(found)
    if found.get(tags.CHANNEL) == "released" or day is None or now.date() < day:
        return None
    if recorded is not None and recorded.state == "released":
        return None
    if recorded is not None and recorded.state == "staged" and now.date() < recorded.certified:
        return None
    return f"{found.get(tags.CHANNEL, 'staged')}, expired on {day}"


def clear(workspace: Workspace, place: Destination, *, apply: bool, now: datetime) -> list[Litter]:
    """What may go from a destination; with ``apply`` it is deleted, and the records say so.

    :raises HallmarkError: the destination is a directory, or can't be reached.
    """
    if isinstance(place, FileDestination):
        raise HallmarkError(
            "a directory isn't cleared",
            where=str(place),
            why="files carry no tags: nobody could tell what is whose",
            hint="delete by hand what the catalog calls withdrawn",
        )
    if isinstance(place, RegistryDestination):
        raise HallmarkError(
            "a registry isn't cleared",
            where=str(place),
            why="an image there belongs to whoever pulls it by digest",
            hint="let the registry's own rules expire what the catalog calls withdrawn",
        )
    found = records(workspace)
    with service_of(place, workspace) as service:
        container = service.get_container_client(place.container)
        where = str(container.url).partition("?")[0]
        with explained("look for what may be cleared", where):
            try:
                litter = list(_blobs(container, known(found), now))
            except ResourceNotFoundError:
                litter = []
            for item in litter if apply else ():
                item.remove()
                _record(found, item, str(place), now)
                log.info(f"deleted: {item.where}")
    return litter


def _blobs(container: ContainerClient, recorded: Known, now: datetime) -> Iterator[Litter]:
    for blob in container.list_blobs(include=["metadata"]):
        found = dict(blob.metadata or {})
        why = reason(found, recorded, now=now)
        release = (found.get(tags.RECIPE, ""), found.get(tags.VERSION, ""))
        if found.get(STATE) == INCOMPLETE and all(release):
            # Never a release; its tags tell when the release would have expired, not the upload.
            idle = now - blob.last_modified
            why = f"an upload that nobody finished for {idle.days} days" if idle > UNFINISHED else None
        if why is None:
            continue
        if blob.lease.state == "leased":
            log.info(f"{blob.name} stays: somebody is working with it")
            continue
        yield Litter("blob", str(blob.name), release, why, int(blob.size), _remover(container, blob))


def _remover(container: ContainerClient, blob: BlobProperties) -> Callable[[], None]:
    def remove() -> None:
        # Only as it was seen: who promoted it in this moment keeps it.
        container.get_blob_client(str(blob.name)).delete_blob(
            delete_snapshots="include", etag=str(blob.etag), match_condition=MatchConditions.IfNotModified
        )

    return remove


def _record(found: list[tuple[Artefacts, Release]], item: Litter, destination: str, now: datetime) -> None:
    for artefacts, release in found:
        if (release.recipe, release.version) != item.release:
            continue
        release = Release.read(artefacts.release)  # a release may have lost another of its blobs just now
        gone = {output.format for output in release.outputs if output.name == item.where}
        locations = tuple(
            _without(place, item.where, gone, now) if place.destination == destination else place
            for place in release.locations
        )
        if locations != release.locations:
            release.model_copy(update={"locations": locations}).write(artefacts.release)


def _without(place: Location, blob: str, gone: set[OutputFormat], now: datetime) -> Location:
    """The location when a blob of it is deleted: the image's own, or those of the formats that are gone."""
    if place.blob == blob and place.deleted is None:
        return place.model_copy(update={"deleted": now})
    outputs = {kind: url for kind, url in place.outputs.items() if kind not in gone}
    etags = {kind: etag for kind, etag in place.etags.items() if kind not in gone}
    return place.model_copy(update={"outputs": outputs, "etags": etags})
