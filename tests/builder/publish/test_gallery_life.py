"""What becomes of a gallery version: states reach it, and it is cleared away when its time is over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from azure.mgmt.compute import ComputeManagementClient
from fake_arm import FakeArm
from fake_storage import Account
from gallery_support import ADDRESS, ALL, GALLERY, SUBSCRIPTION, Go, Make, made_of, runs
from publish_support import NOW, certify, verdict

from builder.errors import HallmarkError
from builder.gallery import clear, parse_gallery
from builder.publish.release import Release
from builder.publish.states import Actor, change, rollback
from builder.recipe import Plan
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


@pytest.mark.parametrize("what", ["version", "image", "digest", "gallery"])
def test_what_is_gone_can_be_withdrawn(
    fake: FakeArm, make: Make, go: Go, space: Workspace, pair: keys.KeyPair, storage: Account, what: str
) -> None:
    """Somebody was faster, or put something else there. All the rest is withdrawn, and the record knows."""
    release = go(make(), managed_images=True)
    act = Actor.of(why="CVE", public_key=pair.public, who="anna", now=NOW + timedelta(hours=1))
    first = release.galleries[0].id.lower()
    image = release.galleries[0].managed_images[0].lower()
    if what == "gallery":
        fake.resources = {path: item for path, item in fake.resources.items() if "/galleries/" not in path}
    elif what == "digest":
        fake.resources[first]["tags"]["hallmark_sha256"] = "0" * 64
    else:
        del fake.resources[first if what == "version" else image]
    if what != "gallery":
        with pytest.raises(HallmarkError):
            change(space, "sample-9", "released", version=None, actor=act)
    storage.blobs.clear()
    after, changed = change(space, "sample-9", "withdrawn", version=None, actor=act)
    assert changed and after.state == "withdrawn" and after.locations[0].deleted == act.now
    left = {"version": [2], "image": [1, 2], "digest": [2], "gallery": []}[what]
    assert [item.generation for item in after.galleries] == left
    assert image not in str(after.galleries).lower()
    for path, item in fake.resources.items():
        if "/versions/" in path:
            assert item["tags"]["hallmark_channel"] == "withdrawn"
            assert item["properties"]["publishingProfile"]["excludeFromLatest"] is True
        elif "/galleries/" not in path:
            assert item["tags"]["hallmark_channel"] == "withdrawn"
    fake.requests.clear()
    assert change(space, "sample-9", "withdrawn", version=None, actor=act) == (after, False)
    assert fake.writes() == []


def test_what_the_gallery_calls_withdrawn_stays_so(
    fake: FakeArm, make: Make, go: Go, space: Workspace, pair: keys.KeyPair
) -> None:
    """Though the record doesn't know of it."""
    artefacts = make()
    release = go(artefacts)
    fake.resources[release.galleries[0].id.lower()]["tags"]["hallmark_channel"] = "withdrawn"
    fake.requests.clear()
    with pytest.raises(HallmarkError, match="was withdrawn from the gallery"):
        go(artefacts)
    act = Actor.of(why="tested", public_key=pair.public, who="anna", now=NOW + timedelta(hours=1))
    with pytest.raises(HallmarkError, match="was withdrawn from the gallery"):
        change(space, "sample-9", "released", version=None, actor=act)
    assert fake.writes() == [] and Release.read(artefacts.release).state == "staged"


def test_a_renewed_certificate_renews_the_tags(
    fake: FakeArm,
    client: ComputeManagementClient,
    make: Make,
    go: Go,
    space: Workspace,
    pair: keys.KeyPair,
) -> None:
    """Of versions and images, once; what is released has no expiry and gets none."""
    artefacts, later = make(), NOW + timedelta(days=80)
    release = go(artefacts, managed_images=True)
    plan = Plan.model_validate_json(artefacts.plan.read_bytes())
    verdicts = tuple(verdict(name) for name in ALL)
    booted = runs("bios", "uefi", "uefi-secure")
    artefacts.certificate.write_text(
        certify(
            artefacts.image,
            plan,
            pair,
            judged=later,
            verdicts=verdicts,
            runs=booted,
            provenance=made_of("x86_64"),
        )
    )
    fake.requests.clear()
    for _ in range(2):
        assert go(artefacts, now=later, managed_images=True) == release
    ours = [
        item for path, item in fake.resources.items() if "/versions/" in path or "/images/sample-9-9-" in path
    ]
    assert len(ours) == 4 == len(fake.writes())
    assert {item["tags"]["hallmark_expires"] for item in ours} == {"2027-05-11"}
    assert clear(client, space, ADDRESS, apply=True, now=NOW + timedelta(days=95)) == []
    act = Actor.of(why="tested", public_key=pair.public, who="anna", now=later)
    change(space, "sample-9", "released", version=None, actor=act)
    fake.requests.clear()
    go(artefacts, now=later, managed_images=True)
    assert fake.writes() == [] and not any("hallmark_expires" in item["tags"] for item in ours)


@pytest.mark.parametrize(
    "text", ["a/b/c", f"{SUBSCRIPTION}/images", f"{SUBSCRIPTION}/images/my-gallery", "x"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(HallmarkError, match="is not a gallery"):
        parse_gallery(text)
