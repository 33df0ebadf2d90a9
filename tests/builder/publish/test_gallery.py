"""Offering releases in a Compute Gallery: the real library against a strict stand-in for the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from azure.core.credentials import AccessToken
from azure.mgmt.compute import ComputeManagementClient
from fake_arm import TOKEN, FakeArm, serve
from publish_support import NOW, build, clone, verdict

from builder import catalog
from builder.errors import HallmarkError
from builder.gallery import GalleryAddress, Offer, Region, arm, clear, parse_gallery, parse_region, publish
from builder.gallery.version import Watch
from builder.publish import publish as publish_blob
from builder.publish.release import Location, Release, Upload
from builder.publish.states import Actor, change, rollback
from builder.recipe import Plan
from builder.workspace import Artefacts, Workspace
from certification import keys
from certification.judge import Run
from certification.model import RunRecord

real_connect = arm.connect
SUBSCRIPTION = "01234567-89ab-cdef-0123-456789abcdef"
GALLERY = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/images/providers/Microsoft.Compute/galleries/acme"
ADDRESS = GalleryAddress(SUBSCRIPTION, "images", "acme")
ALL = (
    "azure.gen1-bios-boot",
    "azure.gen2-esp",
    "azure.x86-64",
    "azure.accelnet-drivers",
    "azure.sriov-unmanaged",
    "azure.nvme-initramfs",
    "azure.secureboot-chain-offline",
)


class Credential:
    """What an identity is to the library: something that has tokens."""

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeArm]:
    with serve(tmp_path) as service:
        service.add_gallery(GALLERY)
        yield service


def connect(fake: FakeArm) -> ComputeManagementClient:
    return real_connect(
        SUBSCRIPTION,
        credential=Credential(),
        base_url=fake.url,
        connection_verify=str(fake.certificate),
        polling_interval=0,
        retry_backoff_factor=0.01,
    )


@pytest.fixture
def client(fake: FakeArm, monkeypatch: pytest.MonkeyPatch) -> Iterator[ComputeManagementClient]:
    monkeypatch.setattr(arm, "connect", lambda subscription: connect(fake))
    with connect(fake) as made:
        yield made


def runs(*firmware: str) -> tuple[Run, ...]:
    return tuple(
        Run(Path(name), RunRecord.model_construct(view="booted", variant=name), ()) for name in firmware
    )


Make = Callable[..., Artefacts]


@pytest.fixture(scope="module")
def made() -> dict[str, Artefacts]:
    """The releases that tests of this module asked for, so that each is built once."""
    return {}


@pytest.fixture
def make(
    space: Workspace,
    sample_plan: Plan,
    pair: keys.KeyPair,
    made: dict[str, Artefacts],
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """A certified release whose record says that it is in an Azure storage account."""

    def release(
        *,
        version: str = "9.20261122.0",
        passed: tuple[str, ...] = ALL,
        firmware: tuple[str, ...] = ("bios", "uefi", "uefi-secure"),
        waived: str = "",
        seed: int = 1,
        **plan: object,
    ) -> Artefacts:
        key = repr((version, passed, firmware, waived, seed, plan))
        if key not in made:
            place = tmp_path_factory.mktemp("made")
            elsewhere = Workspace.default(build=place / "build", cache=space.cache)
            wanted = sample_plan.model_copy(update={"version": version, **plan})
            verdicts = tuple(verdict(name, "waived" if name == waived else "pass") for name in passed)
            found = build(elsewhere, wanted, pair, seed=seed, verdicts=verdicts, runs=runs(*firmware))
            _publish(found, elsewhere, pair, place / "share")
            made[key] = found
        return clone(made[key], space)

    return release


def _publish(artefacts: Artefacts, space: Workspace, pair: keys.KeyPair, share: Path) -> None:
    """Really published to a directory; the record then tells of a storage account, which no test can have."""
    record = publish_blob(
        artefacts, destination=share.as_uri(), public_key=pair.public, workspace=space, now=NOW
    )
    place = Location(
        destination="azure://acmeimages/images",
        url=f"https://acmeimages.blob.core.windows.net/images/{record.image.name}",
        published=NOW,
        upload=Upload(sent=1, present=0, skipped=0, requests=1, seconds=1),
    )
    record.model_copy(update={"locations": (place,)}).write(artefacts.release)


def offer(*regions: Region, **options: object) -> Offer:
    fields: dict[str, object] = {"publisher": "acme", "watch": Watch(interval=0, deadline=20)}
    return Offer(ADDRESS, regions or (Region("westeurope"),), **{**fields, **options})  # type: ignore[arg-type]


@pytest.fixture
def go(client: ComputeManagementClient, pair: keys.KeyPair) -> Callable[..., Release]:
    def run(artefacts: Artefacts, *regions: Region, **options: object) -> Release:
        return publish(client, artefacts, offer(*regions, **options), public_key=pair.public, now=NOW)

    return run


Go = Callable[..., Release]


def properties(fake: FakeArm, path: str) -> dict[str, object]:
    found: dict[str, object] = fake.resources[f"{GALLERY}/{path}".lower()]["properties"]
    return found


def test_both_generations_with_what_was_proven(fake: FakeArm, make: Make, go: Go, space: Workspace) -> None:
    artefacts = make()
    release = go(artefacts, Region("westeurope", 2), Region("eastus"), end_of_life=date(2027, 11, 22))
    assert Release.read(artefacts.release) == release
    assert [(item.definition, item.generation) for item in release.galleries] == [
        ("sample-9-gen1", 1),
        ("sample-9-gen2", 2),
    ]
    assert release.galleries[0].features == {"IsAcceleratedNetworkSupported": "True"}
    second = properties(fake, "images/sample-9-gen2")
    assert (second["hyperVGeneration"], second["architecture"]) == ("V2", "x64")
    assert {item["name"]: item["value"] for item in second["features"]} == {  # type: ignore[attr-defined]
        "IsAcceleratedNetworkSupported": "True",
        "DiskControllerTypes": "SCSI, NVMe",
        "SecurityType": "TrustedLaunchSupported",
    }
    version = fake.resources[f"{GALLERY}/images/sample-9-gen2/versions/9.20261122.0".lower()]
    profile = version["properties"]["publishingProfile"]
    assert profile["excludeFromLatest"] is True
    assert profile["endOfLifeDate"].startswith("2027-11-22T00:00:00")
    counts = {item["name"]: item["regionalReplicaCount"] for item in profile["targetRegions"]}
    assert counts == {"westeurope": 2, "eastus": 1}
    source = version["properties"]["storageProfile"]["osDiskImage"]["source"]
    assert source["uri"] == release.locations[0].url
    assert source["storageAccountId"].endswith(
        "/resourceGroups/images/providers/Microsoft.Storage/storageAccounts/acmeimages"
    )
    assert version["tags"]["hallmark_channel"] == "staged"
    assert version["tags"]["hallmark_sha256"] == release.image.sha256
    assert version["tags"]["hallmark_expires"] == "2027-02-20"
    page = (catalog.write(space, now=NOW).parent / "sample-9" / release.version / "index.html").read_text()
    assert "SecurityType: TrustedLaunchSupported" in page and f"--image {release.galleries[1].id}" in page


@pytest.mark.parametrize(
    ("missing", "firmware", "waived", "expected"),
    [
        ("azure.nvme-initramfs", "bios uefi uefi-secure", "", {"DiskControllerTypes": "SCSI"}),
        ("", "bios uefi uefi-secure", "azure.nvme-initramfs", {"DiskControllerTypes": "SCSI"}),
        ("azure.sriov-unmanaged", "bios uefi uefi-secure", "", {"IsAcceleratedNetworkSupported": "False"}),
        ("azure.secureboot-chain-offline", "bios uefi uefi-secure", "", {"SecurityType": None}),
        ("", "bios uefi", "", {"SecurityType": None}),
        ("", "uefi", "", {"generations": (2,)}),
        ("azure.gen2-esp", "bios uefi", "", {"generations": (1,)}),
    ],
)
def test_what_is_not_proven_is_not_promised(
    make: Make, go: Go, missing: str, firmware: str, waived: str, expected: dict[str, object]
) -> None:
    passed = tuple(name for name in ALL if name != missing)
    release = go(make(passed=passed, firmware=tuple(firmware.split()), waived=waived))
    if wanted := expected.get("generations"):
        assert tuple(item.generation for item in release.galleries) == wanted
        return
    features = release.galleries[-1].features
    assert {name: features.get(name) for name in expected} == expected


@pytest.mark.parametrize("missing", ["azure.x86-64", "firmware"])
def test_without_proof_there_is_no_offer(fake: FakeArm, make: Make, go: Go, missing: str) -> None:
    passed = tuple(name for name in ALL if name != missing)
    artefacts = make(passed=passed, firmware=() if missing == "firmware" else ("uefi",))
    with pytest.raises(HallmarkError, match="doesn't prove which machines"):
        go(artefacts)
    assert fake.writes() == []


def test_done_again_nothing_is_written(fake: FakeArm, make: Make, go: Go) -> None:
    artefacts = make()
    first = go(artefacts)
    fake.requests.clear()
    before = artefacts.release.stat().st_mtime_ns
    assert go(artefacts) == first
    assert fake.writes() == [] and artefacts.release.stat().st_mtime_ns == before


def test_a_region_is_added_and_none_taken_away(fake: FakeArm, make: Make, go: Go) -> None:
    artefacts = make()
    go(artefacts, Region("westeurope", 3))
    fake.requests.clear()
    release = go(artefacts, Region("northeurope"), Region("westeurope"))
    profile = properties(fake, "images/sample-9-gen1/versions/9.20261122.0")["publishingProfile"]
    counts = {item["name"]: item["regionalReplicaCount"] for item in profile["targetRegions"]}  # type: ignore[index]
    assert counts == {"westeurope": 3, "northeurope": 1}
    assert set(release.galleries[0].regions) == {"westeurope", "northeurope"}
    assert fake.writes() == [("PUT", "9.20261122.0")] * 2


def test_throttled_and_shaken_it_gets_there(fake: FakeArm, make: Make, go: Go) -> None:
    artefacts = make()
    fake.troubles = [
        (429, {"Retry-After": "1"}),
        (503, {}),
        (500, {}),
        (503, {}),
        (429, {"Retry-After": "0"}),
    ]
    assert len(go(artefacts).galleries) == 2
    assert fake.troubles == []


def test_a_killed_run_is_taken_up(fake: FakeArm, make: Make, go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service goes on by itself; nothing is asked for twice."""
    artefacts = make()

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("builder.gallery.version._watch", killed)
        go(artefacts, Region("westeurope"), Region("eastus"))
    assert fake.writes() == [("PUT", "sample-9-gen1"), ("PUT", "9.20261122.0")]
    go(artefacts, Region("westeurope"), Region("eastus"))
    assert fake.writes()[2:] == [("PUT", "sample-9-gen2"), ("PUT", "9.20261122.0")]


def test_a_region_that_fails_is_named_and_tried_again(fake: FakeArm, make: Make, go: Go) -> None:
    artefacts = make()
    fake.failing = {"eastus"}
    with pytest.raises(HallmarkError, match="could not be replicated") as error:
        go(artefacts, Region("westeurope"), Region("eastus"))
    assert "East US: the quota is used up" in str(error.value)
    fake.failing = set()
    assert len(go(artefacts, Region("westeurope"), Region("eastus")).galleries) == 2


def test_a_slow_region_is_reported(make: Make, go: Go) -> None:
    watch = Watch(interval=0, deadline=-1)
    with pytest.raises(HallmarkError, match="still being replicated") as error:
        go(make(), watch=watch)
    assert "West Europe: Replicating" in str(error.value)


def test_a_version_with_other_bytes_is_refused(fake: FakeArm, make: Make, go: Go) -> None:
    artefacts = make()
    go(artefacts)
    key = f"{GALLERY}/images/sample-9-gen1/versions/9.20261122.0".lower()
    fake.resources[key]["tags"]["hallmark_sha256"] = "0" * 64
    with pytest.raises(HallmarkError, match="already, with other bytes"):
        go(artefacts)


def test_a_definition_keeps_its_promises(fake: FakeArm, make: Make, go: Go) -> None:
    less = tuple(
        name for name in ALL if name not in ("azure.nvme-initramfs", "azure.secureboot-chain-offline")
    )
    go(make(version="9.20261120.0", passed=less))
    go(make(version="9.20261121.0", seed=2))  # proves more: promised from this version on
    features = properties(fake, "images/sample-9-gen2")["features"]
    since = {item["name"]: item.get("startsAtVersion") for item in features}  # type: ignore[attr-defined]
    assert since == {
        "IsAcceleratedNetworkSupported": None,
        "DiskControllerTypes": "9.20261121.0",
        "SecurityType": "9.20261121.0",
    }
    with pytest.raises(HallmarkError, match="promises what the certificate doesn't prove") as error:
        go(make(version="9.20261122.0", passed=less, seed=3))
    assert "DiskControllerTypes: promised SCSI, NVMe, proven SCSI" in str(error.value)


def test_a_definition_of_another_machine_is_refused(fake: FakeArm, make: Make, go: Go) -> None:
    artefacts = make()
    go(artefacts)
    properties(fake, "images/sample-9-gen1")["architecture"] = "Arm64"
    with pytest.raises(HallmarkError, match="of another architecture: Arm64"):
        go(artefacts)


@pytest.mark.parametrize(
    ("shared", "visibility", "refused"),
    [
        ("Community", "private", True),
        ("Community", "tenant", True),
        ("Community", "community", False),
        ("Groups", "private", True),
        ("Groups", "tenant", False),
        ("Private", "private", False),
    ],
)
def test_a_gallery_shows_a_release_to_nobody_who_may_not_see_it(
    fake: FakeArm, make: Make, go: Go, shared: str, visibility: str, refused: bool
) -> None:
    fake.add_gallery(GALLERY, shared=shared)
    artefacts = make(visibility=visibility)
    if refused:
        with pytest.raises(HallmarkError, match="the gallery is shared"):
            go(artefacts)
        assert fake.writes() == []
    else:
        go(artefacts)


def test_refusals_of_the_service_are_explained(
    fake: FakeArm, make: Make, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefacts = make()
    with pytest.raises(HallmarkError, match=r"the service answered 400 \(LocationNotAvailable") as error:
        go(artefacts, Region("westeurope"), Region("atlantis"))
    assert "no such region" in str(error.value)
    with pytest.raises(HallmarkError, match=r"400 \(InvalidParameter\)"):
        go(artefacts, Region("eastus"))  # the version's own region is missing
    fake.resources.clear()
    with pytest.raises(HallmarkError, match="az sig create"):
        go(artefacts)
    monkeypatch.setattr("fake_arm.TOKEN", "another")
    with pytest.raises(HallmarkError, match="doesn't accept the credentials") as error:
        go(artefacts)
    assert TOKEN not in str(error.value)


def test_managed_images_for_who_sees_no_gallery(fake: FakeArm, make: Make, go: Go) -> None:
    artefacts = make()
    release = go(artefacts, managed_image=True)
    images = [item for path, item in fake.resources.items() if "/galleries/" not in path]
    assert sorted(item["name"] for item in images) == [
        "sample-9-9-20261122-0-gen1",
        "sample-9-9-20261122-0-gen2",
    ]
    assert release.galleries[1].managed_image == images[1]["id"]
    assert images[1]["properties"]["storageProfile"]["osDisk"]["blobUri"] == release.locations[0].url
    fake.requests.clear()
    assert go(artefacts, managed_image=True) == release and fake.writes() == []


def test_states_reach_the_gallery(
    fake: FakeArm, make: Make, go: Go, space: Workspace, pair: keys.KeyPair
) -> None:
    """Only what is released may be the latest; a rollback turns both versions round."""
    for seed, version in enumerate(("9.20261121.0", "9.20261122.0"), start=1):
        go(make(version=version, seed=seed), managed_image=True)

    def image_tags(version: str) -> dict[str, str]:
        name = f"sample-9-{version.replace('.', '-')}-gen2"
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
        go(make(version=version, seed=seed), managed_image=True)
    act = Actor.of(why="tested", public_key=pair.public, who="anna", now=NOW + timedelta(hours=1))
    change(space, "sample-9", "released", version="9.20261121.0", actor=act)
    kept = f"{GALLERY}/images/sample-9-gen1/versions/9.20261122.0".lower()
    fake.resources[kept]["tags"] = {"owner": "bert"}  # somebody else's by now
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
        "sample-9-9-20261120-0-gen1",
        "sample-9-9-20261120-0-gen2",
        "sample-9-9-20261122-0-gen1",
        "sample-9-9-20261122-0-gen2",
    ]
    assert set(fake.resources) == before
    assert run(91, apply=True) == shown
    assert kept in fake.resources and len(fake.resources) == len(before) - len(shown)
    (left,) = Release.read(space.artefacts("sample-9", "9.20261122.0").release).galleries
    assert (left.generation, left.managed_image) == (1, None)
    assert run(91, apply=True) == []


@pytest.mark.parametrize(
    "text", ["a/b/c", f"{SUBSCRIPTION}/images", f"{SUBSCRIPTION}/images/my-gallery", "x"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(HallmarkError, match="is not a gallery"):
        parse_gallery(text)


@pytest.mark.parametrize("text", ["", "west=0", "west=101", "west=x", "w/e"])
def test_regions_that_are_none(text: str) -> None:
    with pytest.raises(HallmarkError):
        parse_region(text)
    assert parse_region("West Europe=3") == Region("westeurope", 3)
