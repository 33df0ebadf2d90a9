"""From a published blob to gallery versions: one for each generation that the certificate proves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path

from azure.mgmt.compute import ComputeManagementClient

from builder import log
from builder.errors import HallmarkError
from builder.gallery import definition, managed, version
from builder.gallery.address import GalleryAddress, Region
from builder.gallery.arm import explained
from builder.gallery.proven import prove
from builder.gallery.version import Source, Watch
from builder.publish import licence, tags
from builder.publish.destination import AzureDestination, parse
from builder.publish.gate import must_satisfy
from builder.publish.mark import Placed, verified
from builder.publish.release import GalleryVersion, Location, Release
from builder.publish.storage import connect_azure
from builder.workspace import Artefacts
from certification.certificate import Certificate, read

__all__ = ["Offer", "publish"]


@dataclass(frozen=True, slots=True)
class Offer:
    """What is asked for: which gallery, where its versions go, until when they are meant to be used.

    ``storage_account`` is the resource id of the blob's account; by default the account is looked for in the
    gallery's resource group. ``managed_images``: also make a managed image in each of the regions, for
    consumers that don't see galleries (ManageIQ). The account is in the gallery's own region.
    """

    gallery: GalleryAddress
    regions: tuple[Region, ...]
    publisher: str
    end_of_life: date | None = None
    storage_account: str | None = None
    managed_images: bool = False
    watch: Watch = field(default_factory=Watch)


def publish(
    client: ComputeManagementClient, artefacts: Artefacts, offer: Offer, *, public_key: Path, now: datetime
) -> Release:
    """Offer a published release in a gallery, and write that into its record.

    Run again, it goes on where a killed run stopped; when all is done it only makes sure of that. The gallery
    only takes a blob that is as it was verified; one that was touched since is read back first. One that was
    changed while the gallery copied it leaves nothing there.

    :raises HallmarkError: the release is in no Azure storage account or was withdrawn, its blob is gone or
        was changed, its certificate doesn't hold or proves nothing that a gallery asks for, or a service
        refuses.
    """
    release = Release.read(artefacts.release)
    proof = read(artefacts.certificate, public_key, now=now)
    _must_be_offered(release, proof, artefacts)
    place = _blob(release, artefacts.release)
    proven = prove(proof, where=artefacts.certificate)
    generations = tuple(number for number in release.generations if number in proven.generations)
    if left := [str(number) for number in release.generations if number not in generations]:
        log.warn(f"generation {', '.join(left)} is not proven by the certificate: not offered")
    location = definition.open_gallery(client, offer.gallery, release)
    release = _verified(release, place, artefacts)
    home = location.replace(" ", "").lower()
    regions = offer.regions or (Region(home),)
    source = Source(place.url, _account(offer, place), release.image.sha256)
    marks = _tags(release, proof)
    end = datetime.combine(offer.end_of_life, time(), now.tzinfo) if offer.end_of_life else None
    for generation in generations:
        with log.step(f"generation {generation}"):
            name = definition.ensure(
                client,
                offer.gallery,
                release,
                proven,
                generation,
                publisher=offer.publisher,
                location=location,
                tags={tags.RECIPE: release.recipe},
            )
            identifier = version.ensure(
                client,
                offer.gallery,
                name,
                release.version,
                source=source,
                regions=regions,
                location=location,
                end_of_life=end,
                tags=marks,
                watch=offer.watch,
            )
            original = managed.Original(source, home, identifier)
            images = [
                managed.ensure(
                    client,
                    offer.gallery.group,
                    release,
                    generation,
                    original,
                    region=region.name,
                    tags=marks,
                )
                for region in (regions if offer.managed_images else ())
            ]
        made = GalleryVersion(
            id=identifier,
            gallery=str(offer.gallery),
            definition=name,
            generation=generation,
            regions=tuple(region.name for region in regions),
            features=proven.features(generation),
            end_of_life=offer.end_of_life,
            managed_images=tuple(images),
        )
        release = _made_of_the_release(client, offer, made, release, artefacts)
        # After each one: a kill leaves a record of what is there.
        release = _recorded(release, made, artefacts.release)
    return release


def _must_be_offered(release: Release, proof: Certificate, artefacts: Artefacts) -> None:
    if release.state == "withdrawn":
        raise HallmarkError(
            f"{release.recipe} {release.version} was withdrawn",
            where=artefacts.release,
            hint="build a new version",
        )
    if proof.image_sha256 != release.image.sha256:
        raise HallmarkError(
            "the certificate is of another image than the release",
            where=artefacts.certificate,
            why="the gallery would promise what was seen in other bytes",
            hint=f"certify and publish again: hallmark publish {release.recipe} --version {release.version}",
        )
    must_satisfy(proof, proof.policies, where=artefacts.certificate)
    licence.guard(
        proof.predicate.subject_os.partition(" ")[0],
        name=release.distribution,
        licence=release.licence,
        visibility=release.visibility,
        where=str(artefacts.release),
    )


def _blob(release: Release, record: Path) -> Location:
    for place in release.locations:
        is_azure = isinstance(parse(place.destination), AzureDestination)
        if is_azure and place.blob is not None and place.deleted is None:
            return place
    raise HallmarkError(
        f"{release.recipe} {release.version} is in no Azure storage account",
        where=record,
        why="a gallery makes its versions of a blob",
        hint=f"publish it there first: hallmark publish {release.recipe} --destination azure://ACCOUNT/CONTAINER",
    )


def _verified(release: Release, place: Location, artefacts: Artefacts) -> Release:
    """Make sure that the blob is the release's, in every byte; its etag is in the record then."""
    where = parse(place.destination)
    assert isinstance(where, AzureDestination)
    with connect_azure(where) as service:
        blob = service.get_blob_client(where.container, str(place.blob))
        etag = verified(Placed(release.image, blob, place.etag, artefacts.image), release)
    if etag == place.etag:
        return release
    seen = place.model_copy(update={"etag": etag})
    locations = tuple(seen if item == place else item for item in release.locations)
    after = release.model_copy(update={"locations": locations})
    after.write(artefacts.release)
    return after


def _made_of_the_release(
    client: ComputeManagementClient,
    offer: Offer,
    made: GalleryVersion,
    release: Release,
    artefacts: Artefacts,
) -> Release:
    """The blob is still the release's, so what was copied from it since it was looked at is, too.

    :raises HallmarkError: it was changed meanwhile, or can't be looked at; nothing that is new stays.
    """
    try:
        return _verified(release, _blob(release, artefacts.release), artefacts)
    except HallmarkError:
        known = {name for item in release.galleries for name in (item.id, *item.managed_images)}
        new = [name for name in (*made.managed_images, made.id) if name not in known]
        with explained("delete what may be made of other bytes", made.id):
            for name in new:
                log.warn(f"deleted, as nobody knows any more what it was made of: {name}")
                if name == made.id:
                    client.gallery_image_versions.begin_delete(
                        offer.gallery.group, offer.gallery.name, made.definition, release.version
                    ).result()
                else:
                    client.images.begin_delete(offer.gallery.group, name.rpartition("/")[2]).result()
        raise


def _account(offer: Offer, place: Location) -> str:
    where = parse(place.destination)
    assert isinstance(where, AzureDestination)
    return offer.storage_account or (
        f"/subscriptions/{offer.gallery.subscription}/resourceGroups/{offer.gallery.group}"
        f"/providers/Microsoft.Storage/storageAccounts/{where.account}"
    )


def _tags(release: Release, proof: Certificate) -> dict[str, str]:
    made = {
        tags.RECIPE: release.recipe,
        tags.VERSION: release.version,
        tags.BUILD: release.plan_digest[:16],
        tags.CHANNEL: release.state,
    }
    return made | ({tags.EXPIRES: f"{proof.expires:%Y-%m-%d}"} if release.state == "staged" else {})


def _recorded(release: Release, made: GalleryVersion, record: Path) -> Release:
    others = tuple(item for item in release.galleries if item.id != made.id)
    before = next((item for item in release.galleries if item.id == made.id), None)
    if before is not None:
        more = tuple(dict.fromkeys((*before.regions, *made.regions)))
        images = tuple(dict.fromkeys((*before.managed_images, *made.managed_images)))
        made = made.model_copy(update={"regions": more, "managed_images": images})
    if made == before:
        return release
    after = release.model_copy(update={"galleries": (*others, made)})
    after.write(record)
    return after
