"""The definition of an image in a gallery: what all its versions have in common.

An image that boots both generations has two definitions: a definition has one generation.
"""

from __future__ import annotations

from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute import models as arm

from builder import log
from builder.errors import HallmarkError
from builder.gallery.address import GalleryAddress
from builder.gallery.arm import explained, word
from builder.gallery.proven import GENERATION_NAMES, Proven
from builder.publish.release import Release
from builder.recipe.model import Generation

__all__ = ["ensure", "name_of", "open_gallery"]

#: What may see a gallery, by its sharing permission, and the visibilities that this is too much for.
_TOO_OPEN = {"Community": ("private", "tenant"), "Groups": ("private",)}


def open_gallery(client: ComputeManagementClient, address: GalleryAddress, release: Release) -> str:
    """The gallery's location.

    :raises HallmarkError: there is no such gallery, or more people see it than may see the release.
    """
    with explained("open the gallery", str(address)):
        gallery = client.galleries.get(address.group, address.name)
    profile = gallery.properties.sharing_profile if gallery.properties else None
    shared = word(profile.permissions) if profile is not None and profile.permissions else "Private"
    if release.visibility in _TOO_OPEN.get(shared, ()):
        raise HallmarkError(
            f"the gallery is shared ({shared}), and the release's visibility is {release.visibility}",
            where=str(address),
            why="people would see it who may not have it",
            hint="publish to a gallery that isn't shared so far, or change the recipe's visibility",
        )
    return gallery.location


def name_of(release: Release, generation: Generation) -> str:
    """The definition's name: ``sample-9-gen2``."""
    return f"{release.recipe}-gen{generation}"


def ensure(
    client: ComputeManagementClient,
    address: GalleryAddress,
    release: Release,
    proven: Proven,
    generation: Generation,
    *,
    publisher: str,
    location: str,
    tags: dict[str, str],
) -> str:
    """Make the definition, or see that it promises nothing that this release doesn't keep; its name.

    What the release proves beyond it is added from this version on.

    :raises HallmarkError: the definition is of another kind of machine, or promises more than is proven.
    """
    name = name_of(release, generation)
    where = f"{address}/{name}"
    features = proven.features(generation)
    with explained("look at the definition", where):
        try:
            found = client.gallery_images.get(address.group, address.name, name)
        except ResourceNotFoundError:
            found = None
    if found is None or found.properties is None:
        log.info(f"new definition {name}: " + ", ".join(f"{key} {value}" for key, value in features.items()))
        _put(
            client,
            address,
            name,
            arm.GalleryImage(
                location=location,
                tags=tags,
                properties=arm.GalleryImageProperties(
                    description=release.title,
                    os_type="Linux",
                    os_state="Generalized",
                    hyper_v_generation=GENERATION_NAMES[generation],
                    architecture=proven.architecture,
                    identifier=arm.GalleryImageIdentifier(
                        publisher=publisher, offer=release.recipe, sku=name
                    ),
                    features=[
                        arm.GalleryImageFeature(name=key, value=value) for key, value in features.items()
                    ],
                    allow_update_image=True,
                ),
            ),
        )
        return name
    properties = found.properties
    _must_agree(properties, proven, generation, where)
    promised = {word(item.name): word(item.value) for item in properties.features or ()}
    _must_keep(promised, features, where)
    new = {key: value for key, value in features.items() if promised.get(key) != value}
    if new:
        log.info(f"{name}: from {release.version} on " + ", ".join(f"{k} {v}" for k, v in new.items()))
        kept = [item for item in properties.features or () if item.name not in new]
        properties.features = kept + [
            arm.GalleryImageFeature(name=key, value=value, starts_at_version=release.version)
            for key, value in new.items()
        ]
        _put(client, address, name, found)
    return name


def _put(client: ComputeManagementClient, address: GalleryAddress, name: str, body: arm.GalleryImage) -> None:
    with explained("write the definition", f"{address}/{name}"):
        client.gallery_images.begin_create_or_update(address.group, address.name, name, body).result()


def _must_agree(
    found: arm.GalleryImageProperties, proven: Proven, generation: Generation, where: str
) -> None:
    for what, there, here in (
        ("operating system", found.os_type, "Linux"),
        ("state", found.os_state, "Generalized"),
        ("generation", found.hyper_v_generation, GENERATION_NAMES[generation]),
        ("architecture", found.architecture, proven.architecture),
    ):
        value = word(there)
        if value != here:
            raise HallmarkError(
                f"the definition is of another {what}: {value}, not {here}",
                where=where,
                why="a definition's kind of machine can't be changed",
                hint="publish to another gallery, or delete the definition if nobody uses it",
            )


def _must_keep(promised: dict[str, str], features: dict[str, str], where: str) -> None:
    """A definition's promises count for every version that comes after."""
    broken = [
        f"{name}: promised {value}, proven {features.get(name, 'nothing')}"
        for name, value in promised.items()
        if _rank(name, value) > _rank(name, features.get(name, ""))
    ]
    if broken:
        raise HallmarkError(
            "the definition promises what the certificate doesn't prove",
            where=where,
            why="machines that need it would be made of this version, and fail",
            hint="mend the image and certify it again; or publish it under another recipe",
            details=broken,
        )


def _rank(name: str, value: str) -> int:
    """How much a feature promises."""
    if name == "IsAcceleratedNetworkSupported":
        return int(value.lower() == "true")
    if name == "DiskControllerTypes":
        return len([part for part in value.split(",") if part.strip()])
    return int(bool(value))
