"""Managed images, for consumers that see no galleries (ManageIQ): one for each region, because an image can
only be used where it is. They can't be ones for Trusted Launch.

In the storage account's region an image is made of the blob. Elsewhere the gallery has a replica: a disk is
made of that, the image of the disk, and the disk is deleted (REST reference: Disks, Images).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute import models as arm

from builder import log
from builder.errors import HallmarkError
from builder.gallery.arm import explained
from builder.gallery.proven import GENERATION_NAMES
from builder.gallery.version import DIGEST, Source
from builder.publish.release import Release
from builder.publish.tags import renewed
from builder.recipe.model import Generation

__all__ = ["Original", "ensure", "mark"]


@dataclass(frozen=True, slots=True)
class Original:
    """What images are made of: the blob, in the region of its account (``home``), and the resource id of the
    gallery version, of which the other regions have replicas.
    """

    source: Source
    home: str
    version: str


def ensure(
    client: ComputeManagementClient,
    group: str,
    release: Release,
    generation: Generation,
    original: Original,
    *,
    region: str,
    tags: Mapping[str, str],
) -> str:
    """A managed image of the release in one region, made unless it is there; its resource id.

    :raises HallmarkError: another image has the name, or the service refuses.
    """
    name = f"{release.image.name.removesuffix('.vhd')}-gen{generation}-{region}"
    where = f"{group}/{name}"
    marks = {**tags, DIGEST: original.source.sha256}
    with explained("make the managed image", where):
        if (found := _there(client, group, name, original, where)) is not None:
            if (renew := renewed(found.tags or {}, marks)) is not None:
                client.images.begin_update(group, name, arm.ImageUpdate(tags=renew)).result()
            return str(found.id)
        with log.step(f"managed image in {region}"):
            if region == original.home:
                disk = arm.ImageOSDisk(
                    os_type="Linux",
                    os_state="Generalized",
                    blob_uri=original.source.uri,
                    caching="ReadOnly",
                )
                return _make(client, group, name, disk, generation, region=region, tags=marks)
            # A killed run leaves the disk; the next one makes the same again, and deletes it.
            made = client.disks.begin_create_or_update(
                group,
                name,
                arm.Disk(
                    location=region,
                    tags=marks,
                    sku=arm.DiskSku(name="Standard_LRS"),
                    properties=arm.DiskProperties(
                        os_type="Linux",
                        hyper_v_generation=GENERATION_NAMES[generation],
                        creation_data=arm.CreationData(
                            create_option="FromImage",
                            gallery_image_reference=arm.ImageDiskReference(id=original.version),
                        ),
                    ),
                ),
            ).result()
            try:
                disk = arm.ImageOSDisk(
                    os_type="Linux",
                    os_state="Generalized",
                    managed_disk=arm.SubResource(id=made.id),
                    caching="ReadOnly",
                )
                return _make(client, group, name, disk, generation, region=region, tags=marks)
            finally:
                client.disks.begin_delete(group, name).result()


def _there(
    client: ComputeManagementClient, group: str, name: str, original: Original, where: str
) -> arm.Image | None:
    """The finished image of this name and digest; None when it has to be made."""
    try:
        found = client.images.get(group, name)
    except ResourceNotFoundError:
        return None
    if (found.tags or {}).get(DIGEST) != original.source.sha256:
        raise HallmarkError(
            "another managed image has this name",
            where=where,
            why="it was made of other bytes",
            hint="delete it if nobody uses it",
        )
    finished = found.properties and found.properties.provisioning_state == "Succeeded"
    return found if finished else None


def _make(
    client: ComputeManagementClient,
    group: str,
    name: str,
    disk: arm.ImageOSDisk,
    generation: Generation,
    *,
    region: str,
    tags: Mapping[str, str],
) -> str:
    made = client.images.begin_create_or_update(
        group,
        name,
        arm.Image(
            location=region,
            tags=dict(tags),
            properties=arm.ImageProperties(
                hyper_v_generation=GENERATION_NAMES[generation],
                storage_profile=arm.ImageStorageProfile(os_disk=disk),
            ),
        ),
    ).result()
    return str(made.id)


def mark(
    client: ComputeManagementClient,
    identifier: str,
    *,
    withdrawn: bool = False,
    tags: Mapping[str, str | None],
) -> bool:
    """Renew the tags of a managed image (None removes one); nothing if they are so.

    :param withdrawn: it is taken back, which never fails because it is gone already.
    :returns: whether it is there.
    :raises HallmarkError: the image is gone and not withdrawn, or the service refuses.
    """
    group, name = identifier.split("/")[4], identifier.rpartition("/")[2]
    with explained("change the managed image", identifier):
        try:
            before = dict(client.images.get(group, name).tags or {})
        except ResourceNotFoundError:
            if not withdrawn:
                raise
            log.warn(f"the managed image is gone: {identifier}")
            return False
        after = {key: value for key, value in {**before, **tags}.items() if value is not None}
        if after != before:
            client.images.begin_update(group, name, arm.ImageUpdate(tags=after)).result()
        return True
