"""Publishing one image: gate → upload → verify → release record. Nothing moves before the gate has opened."""

from __future__ import annotations

import fcntl
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from azure.storage.blob import ContainerClient

from builder import log
from builder.diff.images import plan_of
from builder.errors import HallmarkError
from builder.publish import blob, delta, earlier, further, registry, share, tags
from builder.publish.destination import (
    DEFAULT,
    AzureDestination,
    AzuriteDestination,
    Destination,
    FileDestination,
    RegistryDestination,
    blob_name,
    parse,
)
from builder.publish.gate import Certified, check
from builder.publish.licence import guard
from builder.publish.parcel import Parcel
from builder.publish.records import of_recipe
from builder.publish.release import (
    CertificateSummary,
    ImageFile,
    Location,
    Readback,
    Release,
    State,
    Transition,
    Upload,
    now_utc,
    whoami,
)
from builder.publish.service import public_url, service_of
from builder.publish.storage import open_container
from builder.publish.upload import Transfer
from builder.recipe.model import OutputFormat, Plan
from builder.workspace import Artefacts, Workspace, digest_file

__all__ = ["publish"]


def publish(
    artefacts: Artefacts,
    *,
    plan: Plan | None = None,
    destination: str | None = None,
    readback: Readback = "full",
    public_key: Path,
    workspace: Workspace,
    now: datetime | None = None,
    who: str | None = None,
    why: str = "the image is certified",
) -> Release:
    """Publish a certified image and write its release record, ``release.json`` beside it (state staged).

    Run again, it goes on where a killed run stopped; when all is done it only makes sure of that. Publishing
    the same image to a second destination adds a location to the record.

    :param plan: what was built; read from ``plan.json`` if not given.
    :param destination: see ``builder.publish.destination.parse``; by default the local Azurite, for a
        container ``containers`` below the build directory.
    :param readback: whether every byte is read back and compared, or a part (blobs and registries).
    :param public_key: the key that the certificate must be signed with.
    :param now: the time at which the certificate must be valid.
    :raises HallmarkError: the gate or the licence guard refuses (no byte has moved then), or the upload
        failed (nothing is published then; the next run goes on).
    """
    now = now or now_utc()
    plan = plan or plan_of(artefacts)
    image = artefacts.output(plan.image_format)
    place = parse(destination or _default(plan, workspace))
    name = blob_name(plan.recipe, plan.version, ending=image.name.removeprefix("image"))
    _must_suit(plan, place)
    guard(
        plan.distribution.id,
        name=plan.distribution.name,
        licence=plan.licence,
        visibility=plan.visibility,
        where=plan.recipe,
    )
    if isinstance(place, AzureDestination) and "azure" not in plan.certification.targets:
        raise HallmarkError(
            f"{plan.recipe} isn't certified for Azure",
            where=str(place),
            why="what Azure asks of an image was never looked at",
            hint="add azure to certification.targets in the recipe, build and certify again",
        )
    with _exclusive(image):
        with log.step("gate") as step:
            certified = check(image, artefacts.certificate, public_key, plan=plan, now=now)
            others = further.certified_outputs(certified, artefacts, name=name)
            step.note = f"certified until {certified.certificate.expires:%Y-%m-%d}"
        previous = earlier.recorded(artefacts.release, plan, sha256=certified.sha256)
        before = previous.location(str(place)) if previous else None
        state = previous.state if previous else None
        began = time.monotonic()
        # The VHD last: where it lies, all of the release does.
        there = _deliver(place, name, others, certified, plan, artefacts, workspace, before, state, readback)
        certified.must_be_unchanged()
        seconds = round(time.monotonic() - began, 3)
        location = _location(place, name, there, seconds=seconds, now=now, before=before, readback=readback)
        published = ImageFile(
            name=name,
            format=plan.image_format,
            size=certified.size,
            virtual_size=certified.virtual_size,
            sha256=certified.sha256,
            digest=certified.digest,
        )
        files = (published, *others.values())
        history = (
            previous.history
            if previous
            else earlier.begun(there.state, when=now, who=who or whoami(), why=why)
        )
        release = _record(plan, certified, artefacts, files, location, previous, history)
        if release != previous:
            release.write(artefacts.release)
    log.info(f"published: {location.url}")
    return release


def _must_suit(plan: Plan, place: Destination) -> None:
    if plan.container is not None and isinstance(place, AzureDestination | AzuriteDestination):
        raise HallmarkError(
            f"{plan.recipe} is a container image: it doesn't go to {place}",
            where=plan.recipe,
            why="page blobs and galleries are made for disks",
            hint="publish it to a registry (oci://HOST/NAMESPACE) or a directory (file:///PATH)",
        )
    if plan.container is None and isinstance(place, RegistryDestination):
        raise HallmarkError(
            f"{plan.recipe} is a disk: it doesn't go to {place}",
            where=plan.recipe,
            why="a registry is made for containers",
            hint="publish it to a directory; `skopeo copy` brings the output `oci` to a registry from there",
        )


def _default(plan: Plan, workspace: Workspace) -> str:
    return DEFAULT if plan.container is None else (workspace.build / "containers").as_uri()


@dataclass(frozen=True, slots=True)
class _Delivered:
    """Where the image is now, and in which verified state; what was moved for it; the same of the further
    outputs, by format; and which state of the release its destination knows.
    """

    url: str
    etag: str | None
    moved: Transfer
    outputs: dict[OutputFormat, str]
    etags: dict[OutputFormat, str]
    state: State = "staged"


def _deliver(
    place: Destination,
    name: str,
    others: dict[Path, ImageFile],
    certified: Certified,
    plan: Plan,
    artefacts: Artefacts,
    workspace: Workspace,
    before: Location | None,
    state: State | None,
    readback: Readback,
) -> _Delivered:
    """Bring all to the destination. ``state`` is the recorded one; without a record the blob's own counts."""
    if isinstance(place, FileDestination):
        further.deliver(others, place.path)
        target = place.path / name
        moved = share.deliver(certified.image, target, sha256=certified.sha256)
        urls = {item.format: (place.path / item.name).as_uri() for item in others.values()}
        return _Delivered(target.as_uri(), None, moved, urls, {})
    if isinstance(place, RegistryDestination):
        moved = registry.deliver(
            certified,
            place,
            recipe=plan.recipe,
            version=plan.version,
            sbom=artefacts.sbom,
            readback=readback,
            work=workspace.work / f"{plan.recipe}-registry",
        )
        url = registry.pull_address(place, plan.recipe, str(certified.digest))
        return _Delivered(url, None, moved, {}, {})
    with service_of(place, workspace) as service:
        container = open_container(service, place.container, public=plan.visibility == "community")
        # First of all: of what was withdrawn, nothing is sent.
        known_there = earlier.told(container.get_blob_client(name), plan)
        state = state or known_there or "staged"
        marks = {
            "hallmark_visibility": plan.visibility,
            "hallmark_licence": plan.licence,
            **tags.of(plan, state=state, expires=certified.certificate.expires),
        }
        etags = further.upload(
            others, container, plan=plan, tags=marks, known=before.etags if before is not None else {}
        )
        parcel = Parcel(
            image=certified.image,
            sha256=certified.sha256,
            recipe=plan.recipe,
            version=plan.version,
            tags=marks,
            sender=f"{_machine()} {artefacts.root.resolve()}",
            must_be_unchanged=certified.must_be_unchanged,
        )
        # What was only sampled before is read whole when the whole is asked for.
        seen = before is not None and (before.upload.readback == "full" or readback == "sampled")
        known = before.etag if before is not None and seen else None
        sampled = readback == "sampled"
        done = blob.deliver(
            container.get_blob_client(name),
            parcel,
            known_etag=known,
            sampled=sampled,
            base=_base(container, plan, str(place), workspace),
        )
        urls = {item.format: public_url(place, item.name) for item in others.values()}
        return _Delivered(public_url(place, name), done.etag, done.moved, urls, etags, state)


def _base(
    container: ContainerClient, plan: Plan, destination: str, workspace: Workspace
) -> delta.Base | None:
    """The newest other release of the recipe at this destination whose image is still here."""
    try:
        found = of_recipe(workspace, plan.recipe)
    except HallmarkError as error:
        log.debug(f"no earlier release to copy from: {error.what}")
        return None
    for artefacts, release in found:
        place = release.location(destination)
        if release.version == plan.version or place is None:
            continue
        if place.blob and place.etag and place.deleted is None and artefacts.image.is_file():
            return delta.Base(container.get_blob_client(place.blob), artefacts.image, place.etag)
    return None


def _location(
    place: Destination,
    name: str,
    there: _Delivered,
    *,
    seconds: float,
    now: datetime,
    before: Location | None,
    readback: Readback,
) -> Location:
    moved = there.moved
    again = before if before is not None and not (moved.sent or moved.copied) else None
    if again is not None and (again.etag, again.url) == (there.etag, there.url):
        upload = (
            again.upload if readback == "sampled" else again.upload.model_copy(update={"readback": readback})
        )
        found = {"outputs": there.outputs, "etags": there.etags, "upload": upload, "deleted": None}
        return again.model_copy(update=found)
    blobs = isinstance(place, AzureDestination | AzuriteDestination)
    return Location(
        destination=str(place),
        url=there.url,
        container=place.container if isinstance(place, AzureDestination | AzuriteDestination) else None,
        blob=name if blobs else None,
        etag=there.etag,
        outputs=there.outputs,
        etags=there.etags,
        published=again.published if again is not None else now,
        upload=Upload(
            sent=moved.sent,
            present=moved.present,
            skipped=moved.skipped,
            requests=moved.requests,
            seconds=seconds,
            readback=readback,
            copied=moved.copied,
        ),
    )


def _record(
    plan: Plan,
    certified: Certified,
    artefacts: Artefacts,
    files: tuple[ImageFile, ...],
    location: Location,
    previous: Release | None,
    history: tuple[Transition, ...],
) -> Release:
    others = tuple(p for p in previous.locations if p.destination != location.destination) if previous else ()
    return Release(
        recipe=plan.recipe,
        title=plan.title,
        summary=plan.summary,
        version=plan.version,
        distribution=plan.distribution.name,
        distribution_id=plan.distribution.id,
        release=plan.distribution.release,
        architecture=plan.architecture,
        generations=plan.disk.generations,
        licence=plan.licence,
        visibility=plan.visibility,
        plan_digest=plan.digest(),
        image=files[0],
        outputs=files[1:],
        certificate=CertificateSummary.of(certified.certificate, sha256=digest_file(artefacts.certificate)),
        locations=(*others, location),
        galleries=previous.galleries if previous else (),
        history=history,
    )


def _machine() -> str:
    """This machine since its last boot: who may take up a lease that a killed run of it left."""
    return f"{platform.node()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"


@contextmanager
def _exclusive(image: Path) -> Iterator[None]:
    """Keep a second local process from publishing the same image (flock(2) on the image itself: nothing to
    clean).
    """
    if not image.exists():
        yield  # the gate explains it
        return
    with image.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HallmarkError(
                "another process is publishing this image", where=image, hint="wait for it to end"
            ) from None
        yield
