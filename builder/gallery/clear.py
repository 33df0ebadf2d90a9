"""Clearing a gallery: versions, managed images and disks whose tags say that their time is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from azure.mgmt.compute import ComputeManagementClient

from builder import log
from builder.gallery.address import GalleryAddress
from builder.gallery.arm import explained
from builder.publish import tags
from builder.publish.clear import Litter, known, reason
from builder.publish.records import records
from builder.publish.release import Release
from builder.workspace import Artefacts, Workspace

__all__ = ["clear"]


def clear(
    client: ComputeManagementClient,
    workspace: Workspace,
    address: GalleryAddress,
    *,
    apply: bool,
    now: datetime,
) -> list[Litter]:
    """What may go from a gallery, and the managed images and disks beside it; with ``apply`` it is deleted.

    Definitions stay: they promise something to whoever uses them, and cost nothing.

    :raises HallmarkError: the gallery can't be reached.
    """
    found = records(workspace)
    recorded = known(found)
    with explained("look for what may be cleared", str(address)):
        litter = []
        for what, where, marks, remove in _resources(client, address):
            if why := reason(marks, recorded, now=now):
                release = (marks[tags.RECIPE], marks[tags.VERSION])
                litter.append(Litter(what, where, release, why, 0, remove))
        for item in litter if apply else ():
            item.remove()
            _record(found, item)
            log.info(f"deleted: {item.where}")
    return litter


_Resource = tuple[str, str, Mapping[str, str], Callable[[], None]]


def _resources(client: ComputeManagementClient, address: GalleryAddress) -> Iterator[_Resource]:
    for definition in client.gallery_images.list_by_gallery(address.group, address.name):
        name = str(definition.name)
        for version in client.gallery_image_versions.list_by_gallery_image(address.group, address.name, name):
            yield (
                "gallery version",
                str(version.id),
                version.tags or {},
                _version_remover(client, address, name, str(version.name)),
            )
    for image in client.images.list_by_resource_group(address.group):
        yield (
            "managed image",
            str(image.id),
            image.tags or {},
            _image_remover(client, address, str(image.name)),
        )
    for disk in client.disks.list_by_resource_group(address.group):
        yield (
            "disk",  # a killed run left it: an image was to be made of it
            str(disk.id),
            disk.tags or {},
            _disk_remover(client, address, str(disk.name)),
        )


def _version_remover(
    client: ComputeManagementClient, address: GalleryAddress, definition: str, version: str
) -> Callable[[], None]:
    def remove() -> None:
        client.gallery_image_versions.begin_delete(address.group, address.name, definition, version).result()

    return remove


def _image_remover(client: ComputeManagementClient, address: GalleryAddress, name: str) -> Callable[[], None]:
    def remove() -> None:
        client.images.begin_delete(address.group, name).result()

    return remove


def _disk_remover(client: ComputeManagementClient, address: GalleryAddress, name: str) -> Callable[[], None]:
    def remove() -> None:
        client.disks.begin_delete(address.group, name).result()

    return remove


def _record(found: list[tuple[Artefacts, Release]], item: Litter) -> None:
    """Take what was deleted out of the release's record."""
    for artefacts, release in found:
        if (release.recipe, release.version) != item.release:
            continue
        current = Release.read(artefacts.release)  # an earlier deletion may have changed it
        kept = tuple(
            offered.model_copy(
                update={"managed_images": tuple(i for i in offered.managed_images if i != item.where)}
            )
            for offered in current.galleries
            if offered.id != item.where
        )
        if kept != current.galleries:
            current.model_copy(update={"galleries": kept}).write(artefacts.release)
