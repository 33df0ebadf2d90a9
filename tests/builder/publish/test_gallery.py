"""Offering releases in a Compute Gallery: the real library against a strict stand-in for the service."""

from __future__ import annotations

from datetime import date

import pytest
from arm_shapes import Refused
from fake_arm import TOKEN, FakeArm
from gallery_support import ALL, GALLERY, Go, Make
from publish_support import NOW

from builder import catalog
from builder.errors import HallmarkError
from builder.gallery import Region, parse_region, prove
from builder.gallery.version import Watch
from builder.publish.release import Release
from builder.workspace import Workspace
from certification import keys
from certification.certificate import read


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


@pytest.mark.parametrize(
    ("architectures", "offered"), [(("aarch64",), "Arm64"), (("x86_64", "aarch64"), None), ((), None)]
)
def test_the_packages_say_which_architecture_it_is(
    make: Make, pair: keys.KeyPair, architectures: tuple[str, ...], offered: str | None
) -> None:
    artefacts = make(architectures=architectures, firmware=("uefi",))
    certificate = read(artefacts.certificate, pair.public, now=NOW)
    if offered is not None:
        assert prove(certificate, where=artefacts.certificate).architecture == offered
        return
    with pytest.raises(HallmarkError, match="doesn't prove which machines") as caught:
        prove(certificate, where=artefacts.certificate)
    assert any("architecture of the packages" in line for line in caught.value.details)


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
    """One in each region: of the blob where its account is, elsewhere of the gallery's replica there."""
    artefacts, regions = make(), (Region("westeurope"), Region("eastus"))
    release = go(artefacts, *regions, managed_images=True)
    images = [item for path, item in fake.resources.items() if "/galleries/" not in path]
    assert [(item["name"], item["location"]) for item in images] == [
        (f"sample-9-9-20261122-0-gen{number}-{region.name}", region.name)
        for number in (1, 2)
        for region in regions
    ]
    assert release.galleries[1].managed_images == tuple(item["id"] for item in images[2:])
    here, there = (item["properties"]["storageProfile"]["osDisk"] for item in images[2:])
    assert here["blobUri"] == release.locations[0].url
    assert there["managedDisk"]["id"].endswith("/disks/sample-9-9-20261122-0-gen2-eastus")
    sources = {body["properties"]["creationData"]["galleryImageReference"]["id"] for body in disks(fake)}
    assert sources == {item.id for item in release.galleries}
    fake.requests.clear()
    assert go(artefacts, *regions, managed_images=True) == release and fake.writes() == []


def disks(fake: FakeArm) -> list[dict[str, dict[str, dict[str, dict[str, str]]]]]:
    """The disks that were asked for."""
    return [body for method, path, body in fake.requests if method == "PUT" and "/disks/" in path]


def test_a_disk_never_stays(fake: FakeArm, make: Make, go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    """It only carries the bytes from the replica to the image, even when that can't be made."""
    artefacts, regions = make(), (Region("westeurope"), Region("eastus"))

    def full(body: object) -> None:
        if "managedDisk" in str(body):
            raise Refused(409, "QuotaExceeded", "no more images")

    with monkeypatch.context() as patch, pytest.raises(HallmarkError, match="no more images"):
        patch.setattr(fake, "_check_managed_image", full)
        go(artefacts, *regions, managed_images=True)
    assert len(disks(fake)) == 1
    assert not [path for path in fake.resources if "/disks/" in path]
    assert len(go(artefacts, *regions, managed_images=True).galleries[0].managed_images) == 2


@pytest.mark.parametrize("text", ["", "west=0", "west=101", "west=x", "w/e"])
def test_regions_that_are_none(text: str) -> None:
    with pytest.raises(HallmarkError):
        parse_region(text)
    assert parse_region("West Europe=3") == Region("westeurope", 3)
