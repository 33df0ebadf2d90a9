"""Releases to offer, a stand-in for the service, and the real library that talks to it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from azure.core.credentials import AccessToken
from azure.mgmt.compute import ComputeManagementClient
from fake_arm import TOKEN, FakeArm, serve
from fake_storage import ETAG, Account
from publish_support import NOW, build, clone, verdict

from builder.gallery import GalleryAddress, Offer, Region, arm, publish
from builder.gallery.version import Watch
from builder.publish import service
from builder.publish.publish import publish as publish_blob
from builder.publish.release import Location, Release, Upload
from builder.recipe import Plan
from builder.workspace import Artefacts, Workspace
from certification import keys
from certification.judge import Run
from certification.model import RunRecord
from certification.provenance import Build, Builder, Metadata, Provenance, Resource, RunDetails

real_connect = arm.connect
#: The package's function of that name hides it.
publishing = importlib.import_module("builder.gallery.publish")
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
def storage() -> Account:
    return Account()


@pytest.fixture
def client(
    fake: FakeArm, storage: Account, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ComputeManagementClient]:
    monkeypatch.setattr(arm, "connect", lambda subscription: connect(fake))
    for module in (publishing, service):
        monkeypatch.setattr(module, "connect_azure", lambda place: storage)
    with connect(fake) as made:
        yield made


def runs(*firmware: str) -> tuple[Run, ...]:
    return tuple(
        Run(Path(name), RunRecord.model_construct(view="booted", variant=name), ()) for name in firmware
    )


def made_of(*architectures: str) -> Provenance:
    """How an image was built of a package for each of these, and one for all."""
    return Provenance(
        build_definition=Build(
            build_type="https://hallmark.invalid/build/v1",
            external_parameters={},
            resolved_dependencies=(
                Resource(name="sample", uri="hallmark:sample-distribution"),
                *(
                    Resource(name="bash", uri=f"pkg:rpm/hallmark-sample/bash@1-1?arch={name}&distro=9")
                    for name in ("noarch", *architectures)
                ),
            ),
        ),
        run_details=RunDetails(
            builder=Builder(id="https://hallmark.invalid/builder/unnamed", version={}),
            metadata=Metadata(invocation_id="sample-9/1"),
        ),
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
    storage: Account,
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
        architectures: tuple[str, ...] = ("x86_64",),
        **plan: object,
    ) -> Artefacts:
        key = repr((version, passed, firmware, waived, seed, architectures, plan))
        if key not in made:
            place = tmp_path_factory.mktemp("made")
            elsewhere = Workspace.default(build=place / "build", cache=space.cache)
            wanted = sample_plan.model_copy(update={"version": version, **plan})
            verdicts = tuple(verdict(name, "waived" if name == waived else "pass") for name in passed)
            found = build(
                elsewhere,
                wanted,
                pair,
                seed=seed,
                verdicts=verdicts,
                runs=runs(*firmware),
                provenance=made_of(*architectures),
            )
            _publish(found, elsewhere, pair, place / "share")
            made[key] = found
        image = Release.read(made[key].release).image
        storage.add(image.name, image.sha256)
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
        container="images",
        blob=record.image.name,
        etag=ETAG,
        published=NOW,
        upload=Upload(sent=1, present=0, skipped=0, requests=1, seconds=1),
    )
    record.model_copy(update={"locations": (place,)}).write(artefacts.release)


def offer(*regions: Region, **options: object) -> Offer:
    fields: dict[str, object] = {"publisher": "acme", "watch": Watch(interval=0, deadline=20)}
    return Offer(ADDRESS, regions or (Region("westeurope"),), **{**fields, **options})  # type: ignore[arg-type]


@pytest.fixture
def go(client: ComputeManagementClient, pair: keys.KeyPair) -> Callable[..., Release]:
    def run(artefacts: Artefacts, *regions: Region, now: datetime = NOW, **options: object) -> Release:
        return publish(client, artefacts, offer(*regions, **options), public_key=pair.public, now=now)

    return run


Go = Callable[..., Release]
