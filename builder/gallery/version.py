"""One version of a definition: made from the release's blob, replicated to regions, and watched.

There is no local state. A killed run leaves the service at work; the next one asks it and goes on watching.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute import models as arm

from builder import log
from builder.errors import HallmarkError
from builder.gallery.address import GalleryAddress, Region
from builder.gallery.arm import explained, word
from builder.publish.tags import channel, renewed

__all__ = ["DIGEST", "Source", "Watch", "ensure", "exclude"]

#: The tag with the SHA-256 of the image that a version was made of.
DIGEST = "hallmark_sha256"


@dataclass(frozen=True, slots=True)
class Source:
    """The blob that a version is made of, and the storage account's resource id."""

    uri: str
    account_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Watch:
    """How often the service is asked, and for how long (seconds)."""

    interval: float = 15.0
    deadline: float = 6 * 3600.0


def ensure(
    client: ComputeManagementClient,
    address: GalleryAddress,
    definition: str,
    version: str,
    *,
    source: Source,
    regions: Sequence[Region],
    location: str,
    end_of_life: datetime | None,
    tags: dict[str, str],
    watch: Watch,
) -> str:
    """Make the version, or go on with what an earlier run began, until every region has it; its resource id.

    It is excluded from "latest" at first: promotion changes that. Regions can be added later.

    :raises HallmarkError: the version exists with other bytes or was withdrawn, replication failed (the
        region and the reason are named), or the deadline passed.
    """
    where = f"{address}/{definition}/{version}"
    with explained("publish the version", where):
        found = _get(client, address, definition, version)
        if found is not None:
            _must_be_of(found, source.sha256, where)
            _must_not_be_withdrawn(found, where)
            if _state(found) in ("Creating", "Updating"):
                log.info("an earlier run made this version: going on with it")
                found = _watch(client, address, definition, version, where, watch)
            missing = _missing(found, regions)
            marks = renewed(found.tags or {}, tags)
            if _state(found) == "Succeeded" and not missing:
                if marks is not None:
                    excluded = _excluded(found)
                    _update(client, address, definition, version, found, excluded=excluded, tags=marks)
                    _watch(client, address, definition, version, where, watch)
                return str(found.id)
            tags = marks or dict(found.tags or {})
        wanted = _merged(found, regions)
        body = arm.GalleryImageVersion(
            location=location,
            tags={**tags, DIGEST: source.sha256},
            properties=arm.GalleryImageVersionProperties(
                publishing_profile=arm.GalleryImageVersionPublishingProfile(
                    target_regions=wanted,
                    exclude_from_latest=_excluded(found),
                    end_of_life_date=end_of_life,
                    replication_mode="Full",
                ),
                storage_profile=arm.GalleryImageVersionStorageProfile(
                    os_disk_image=arm.GalleryOSDiskImage(
                        host_caching="ReadOnly",
                        source=arm.GalleryDiskImageSource(
                            uri=source.uri, storage_account_id=source.account_id
                        ),
                    )
                ),
                safety_profile=arm.GalleryImageVersionSafetyProfile(
                    allow_deletion_of_replicated_locations=True
                ),
            ),
        )
        client.gallery_image_versions.begin_create_or_update(
            address.group, address.name, definition, version, body, polling=False
        )
        return str(_watch(client, address, definition, version, where, watch).id)


def exclude(
    client: ComputeManagementClient,
    address: GalleryAddress,
    definition: str,
    version: str,
    *,
    sha256: str,
    excluded: bool,
    withdrawn: bool,
    tags: dict[str, str | None],
    watch: Watch | None = None,
) -> bool:
    """Say whether "latest" may be this version, and renew its tags (None removes one); nothing if it is so.

    :param sha256: of the image that it must have been made of.
    :param withdrawn: it is taken back. That never fails because it is gone already; and whatever else is
        there by its number isn't to be taken either.
    :returns: whether it is there, made of that image.
    :raises HallmarkError: the version is gone, made of other bytes or withdrawn already (none of these when
        it is taken back), or the service refuses.
    """
    where = f"{address}/{definition}/{version}"
    with explained("change the version", where):
        found = _get(client, address, definition, version)
        try:
            if found is None:
                raise HallmarkError("the gallery version is gone", where=where, hint="publish it again")
            _must_be_of(found, sha256, where)
        except HallmarkError as error:
            if not withdrawn:
                raise
            log.warn(f"{error.what}: {where}")
            there = False
        else:
            there = True
        if found is not None:
            if not withdrawn:
                _must_not_be_withdrawn(found, where)
            before = dict(found.tags or {})
            after = {key: value for key, value in {**before, **tags}.items() if value is not None}
            if _excluded(found) != excluded or after != before:
                _update(client, address, definition, version, found, excluded=excluded, tags=after)
                _watch(client, address, definition, version, where, watch or Watch())
        return there


def _update(
    client: ComputeManagementClient,
    address: GalleryAddress,
    definition: str,
    version: str,
    found: arm.GalleryImageVersion,
    *,
    excluded: bool,
    tags: dict[str, str],
) -> None:
    # The whole profile goes back: what a PATCH leaves out of a list is taken away.
    kept = found.properties.publishing_profile if found.properties else None
    regions = [item.as_dict() for item in kept.target_regions or ()] if kept is not None else []
    profile = {"targetRegions": regions, "excludeFromLatest": excluded}
    body = arm.GalleryImageVersionUpdate({"tags": tags, "properties": {"publishingProfile": profile}})
    client.gallery_image_versions.begin_update(
        address.group, address.name, definition, version, body, polling=False
    )


def _get(
    client: ComputeManagementClient, address: GalleryAddress, definition: str, version: str
) -> arm.GalleryImageVersion | None:
    try:
        return client.gallery_image_versions.get(
            address.group, address.name, definition, version, expand="ReplicationStatus"
        )
    except ResourceNotFoundError:
        return None


def _watch(
    client: ComputeManagementClient,
    address: GalleryAddress,
    definition: str,
    version: str,
    where: str,
    watch: Watch,
) -> arm.GalleryImageVersion:
    """Ask until the version is there; each region's progress is told when it changes."""
    end = time.monotonic() + watch.deadline
    told: dict[str, str] = {}
    while True:
        found = _get(client, address, definition, version)
        state = _state(found) if found is not None else "Creating"  # its first moments
        status = found.properties.replication_status if found is not None and found.properties else None
        regions = list(status.summary or ()) if status is not None else []
        for region in regions:
            line = f"{word(region.state)} {region.progress or 0} %"
            if told.get(str(region.region)) != line:
                told[str(region.region)] = line
                log.event(
                    "replication",
                    version=where,
                    region=region.region,
                    state=word(region.state),
                    progress=region.progress,
                )
                log.info(f"{region.region}: {line}")
        failed = [
            f"{item.region}: {item.details or 'no reason given'}"
            for item in regions
            if item.state == "Failed"
        ]
        if state == "Failed" or failed:
            raise HallmarkError(
                "the version could not be replicated",
                where=where,
                details=failed,
                hint="run the same command again: it tries once more",
            )
        done = all(item.state == "Completed" for item in regions)
        if found is not None and state == "Succeeded" and done:
            return found
        if time.monotonic() > end:
            raise HallmarkError(
                "the version is still being replicated",
                where=where,
                details=[f"{name}: {line}" for name, line in told.items()],
                hint="the service goes on by itself: run the same command again to see it end",
            )
        time.sleep(watch.interval)


def _state(found: arm.GalleryImageVersion) -> str:
    state = found.properties.provisioning_state if found.properties else None
    return word(state)


def _excluded(found: arm.GalleryImageVersion | None) -> bool:
    profile = found.properties.publishing_profile if found is not None and found.properties else None
    return True if profile is None else bool(profile.exclude_from_latest)


def _targets(found: arm.GalleryImageVersion | None) -> list[arm.TargetRegion]:
    profile = found.properties.publishing_profile if found is not None and found.properties else None
    return list(profile.target_regions or ()) if profile is not None else []


def _key(name: str) -> str:
    """The service answers with ``West Europe`` where it was asked for ``westeurope``."""
    return name.replace(" ", "").lower()


def _missing(found: arm.GalleryImageVersion, regions: Sequence[Region]) -> list[Region]:
    there = {_key(item.name): item.regional_replica_count or 1 for item in _targets(found)}
    return [region for region in regions if there.get(region.name, 0) < region.replicas]


def _merged(found: arm.GalleryImageVersion | None, regions: Sequence[Region]) -> list[arm.TargetRegion]:
    """The regions that are there and the ones that are asked for, with the larger number of replicas."""
    counts = {_key(item.name): item.regional_replica_count or 1 for item in _targets(found)}
    for region in regions:
        counts[region.name] = max(region.replicas, counts.get(region.name, 0))
    return [
        arm.TargetRegion(name=name, regional_replica_count=count, storage_account_type="Standard_LRS")
        for name, count in counts.items()
    ]


def _must_be_of(found: arm.GalleryImageVersion, sha256: str, where: str) -> None:
    digest = (found.tags or {}).get(DIGEST)
    if digest != sha256:
        raise HallmarkError(
            "this version exists in the gallery already, with other bytes",
            where=where,
            why="a published version never changes: machines are made of it by its number",
            hint="build a new version",
            details=[f"there: sha256 {digest or 'unknown'}", f"this release: sha256 {sha256}"],
        )


def _must_not_be_withdrawn(found: arm.GalleryImageVersion, where: str) -> None:
    if channel(found.tags or {}) == "withdrawn":
        raise HallmarkError(
            "this version was withdrawn from the gallery",
            where=where,
            why="a withdrawn version must not come back; the record here doesn't know of it",
            hint="withdraw the release here too, and build a new version",
        )
