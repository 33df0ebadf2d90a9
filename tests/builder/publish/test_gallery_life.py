"""What becomes of a gallery version: states reach it, and it is cleared away when its time is over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from azure.mgmt.compute import ComputeManagementClient
from fake_arm import FakeArm
from gallery_support import ADDRESS, GALLERY, SUBSCRIPTION, Go, Make
from publish_support import NOW

from builder.errors import HallmarkError
from builder.gallery import clear, parse_gallery
from builder.publish.release import Release
from builder.publish.states import Actor, change, rollback
from builder.workspace import Workspace
from certification import keys


def test_states_reach_the_gallery(
    fake: FakeArm, make: Make, go: Go, space: Workspace, pair: keys.KeyPair
) -> None:
    """Only what is released may be the latest; a rollback turns both versions round."""
    for seed, version in enumerate(("9.20261121.0", "9.20261122.0"), start=1):
        go(make(version=version, seed=seed), managed_images=True)

    def image_tags(version: str) -> dict[str, str]:
        name = f"sample-9-{version.replace('.', '-')}-gen2-westeurope"
        return next(item["tags"] for path, item in fake.resources.items() if path.endswith(name))

    def excluded(version: str) -> tuple[object, str]:
        found = fake.resources[f"{GALLERY}/images/sample-9-gen2/versions/{version}".lower()]
        return found["properties"]["publishingProfile"]["excludeFromLatest"], found["tags"][
            "hallmark_channel"
        ]

    def act(hours: int) -> Actor:
        return Actor.of(why="tested", public_key=pair.public, who="anna", now=NOW + timedelta(hours=hours))

    for hours, version in enumerate(("9.20261121.0", "9.20261122.0")):
        change(space, "sample-9", "released", version=version, actor=act(hours))
        assert excluded(version) == (False, "released")
        assert image_tags(version)["hallmark_channel"] == "released"
        assert "hallmark_expires" not in image_tags(version)
    rollback(space, "sample-9", to=None, actor=act(3))
    assert excluded("9.20261121.0") == (False, "released")
    assert excluded("9.20261122.0") == (True, "withdrawn")
    assert image_tags("9.20261122.0")["hallmark_expires"] == "2026-12-22"
    fake.requests.clear()
    rollback(space, "sample-9", to=None, actor=act(4))
    assert fake.writes() == []


def test_what_has_expired_is_cleared(
    fake: FakeArm, client: ComputeManagementClient, make: Make, go: Go, space: Workspace, pair: keys.KeyPair
) -> None:
    """Shown first; never what is released, by its tags or by a record; never what has no tags."""
    for seed, version in enumerate(("9.20261120.0", "9.20261121.0", "9.20261122.0"), start=1):
        go(make(version=version, seed=seed), managed_images=True)
    act = Actor.of(why="tested", public_key=pair.public, who="anna", now=NOW + timedelta(hours=1))
    change(space, "sample-9", "released", version="9.20261121.0", actor=act)
    kept = f"{GALLERY}/images/sample-9-gen1/versions/9.20261122.0".lower()
    fake.resources[kept]["tags"] = {"owner": "bert"}  # somebody else's by now
    expired = fake.resources[f"{GALLERY}/images/sample-9-gen1/versions/9.20261120.0".lower()]
    disk = f"{GALLERY.partition('/galleries/')[0]}/disks/left-by-a-killed-run"
    fake.resources[disk.lower()] = {**expired, "id": disk, "name": disk.rpartition("/")[2], "properties": {}}
    before = set(fake.resources)

    def run(days: int, *, apply: bool) -> list[str]:
        now = NOW + timedelta(days=days)
        found = clear(client, space, ADDRESS, apply=apply, now=now)
        return sorted(item.where.rpartition("/")[2] for item in found)

    assert run(89, apply=True) == [] and set(fake.resources) == before
    shown = run(91, apply=False)
    assert shown == [
        "9.20261120.0",
        "9.20261120.0",
        "9.20261122.0",
        "left-by-a-killed-run",
        "sample-9-9-20261120-0-gen1-westeurope",
        "sample-9-9-20261120-0-gen2-westeurope",
        "sample-9-9-20261122-0-gen1-westeurope",
        "sample-9-9-20261122-0-gen2-westeurope",
    ]
    assert set(fake.resources) == before
    assert run(91, apply=True) == shown
    assert kept in fake.resources and len(fake.resources) == len(before) - len(shown)
    (left,) = Release.read(space.artefacts("sample-9", "9.20261122.0").release).galleries
    assert (left.generation, left.managed_images) == (1, ())
    assert run(91, apply=True) == []


@pytest.mark.parametrize(
    "text", ["a/b/c", f"{SUBSCRIPTION}/images", f"{SUBSCRIPTION}/images/my-gallery", "x"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(HallmarkError, match="is not a gallery"):
        parse_gallery(text)
