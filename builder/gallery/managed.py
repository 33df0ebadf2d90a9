"""Managed images, for consumers that see no galleries (ManageIQ). They can't be ones for Trusted Launch."""

from __future__ import annotations

from collections.abc import Mapping

from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute import models as arm

from builder.errors import HallmarkError
from builder.gallery.arm import explained
from builder.gallery.proven import GENERATION_NAMES
from builder.gallery.version import DIGEST, Source
from builder.publish.release import Release
from builder.recipe.model import Generation

__all__ = ["ensure", "mark"]


def ensure(
    client: ComputeManagementClient,
    group: str,
    release: Release,
    generation: Generation,
    source: Source,
    *,
    location: str,
    tags: Mapping[str, str],
) -> str:
    """A managed image of the release's blob, made unless it is there; its resource id.

    :param location: the storage account's region; an image can't be made elsewhere.
    :raises HallmarkError: another image has the name, or the service refuses.
    """
    name = release.image.name.removesuffix(".vhd") + f"-gen{generation}"
    where = f"{group}/{name}"
    with explained("make the managed image", where):
        try:
            found = client.images.get(group, name)
        except ResourceNotFoundError:
            found = None
        if found is not None:
            if (found.tags or {}).get(DIGEST) != source.sha256:
                raise HallmarkError(
                    "another managed image has this name",
                    where=where,
                    why="it was made of other bytes",
                    hint="delete it if nobody uses it",
                )
            if found.properties and found.properties.provisioning_state == "Succeeded":
                return str(found.id)
        disk = arm.ImageOSDisk(
            os_type="Linux", os_state="Generalized", blob_uri=source.uri, caching="ReadOnly"
        )
        made = client.images.begin_create_or_update(
            group,
            name,
            arm.Image(
                location=location,
                tags={**tags, DIGEST: source.sha256},
                properties=arm.ImageProperties(
                    hyper_v_generation=GENERATION_NAMES[generation],
                    storage_profile=arm.ImageStorageProfile(os_disk=disk),
                ),
            ),
        ).result()
        return str(made.id)


def mark(client: ComputeManagementClient, identifier: str, *, tags: Mapping[str, str | None]) -> None:
    """Renew the tags of a managed image (None removes one); nothing if they are so.

    :raises HallmarkError: the image is gone, or the service refuses.
    """
    group, name = identifier.split("/")[4], identifier.rpartition("/")[2]
    with explained("change the managed image", identifier):
        before = dict(client.images.get(group, name).tags or {})
        after = {key: value for key, value in {**before, **tags}.items() if value is not None}
        if after != before:
            client.images.begin_update(group, name, arm.ImageUpdate(tags=after)).result()
