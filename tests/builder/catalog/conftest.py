"""A workspace with release records, as publishing leaves them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from builder.publish.release import (
    CertificateSummary,
    ImageFile,
    Location,
    Release,
    Transition,
    Upload,
    WaivedRequirement,
)
from builder.workspace import Artefacts, Workspace

PACKAGES = (
    ("kernel-core", 0, "6.1.158", "1.hs9", "x86_64"),
    ("openssl-libs", 1, "3.0.17", "1.hs9", "x86_64"),
    ("cloud-init", 0, "22.4.2", "1.hs9", "noarch"),
    ("WALinuxAgent", 0, "2.9.1.1", "1.hs9", "noarch"),
    ("dotnet-runtime-3.1", 0, "3.1.23", "1.hs9", "x86_64"),
    ("bash", 0, "5.2.15", "2.hs9", "x86_64"),
)


def record(recipe: str, version: str, *, when: datetime, title: str, destination: str = "azurite") -> Release:
    name = f"{recipe}-{version}".replace(".", "-") + ".vhd"
    if destination == "azurite":
        url = f"http://127.0.0.1:10000/devstoreaccount1/images/{name}"
    elif destination.startswith("azure"):
        url = f"https://acme.blob.core.windows.net/images/{name}"
    else:
        url = f"{destination}/{name}"
    blob = not destination.startswith("file")
    return Release(
        recipe=recipe,
        title=title,
        summary="A small server image: kernel with the Hyper-V drivers, cloud-init, Azure agent, .NET.",
        version=version,
        distribution="Hallmark sample distribution",
        distribution_id="hallmark-sample",
        release="9",
        architecture="x86_64",
        generations=(1, 2),
        licence="free",
        visibility="community",
        plan_digest="0" * 64,
        image=ImageFile(
            name=name,
            size=(2 << 30) + 512,
            virtual_size=2 << 30,
            sha256=hashlib.sha256(version.encode()).hexdigest(),
        ),
        certificate=CertificateSummary(
            sha256="c" * 64,
            key_id="SHA256:4f1c9e0d2b7a",
            policies=("azure", "hyperv"),
            issued=when,
            expires=when + timedelta(days=90),
            counts={"pass": 71, "waived": 1, "not-applicable": 6},
            waived=(
                WaivedRequirement(
                    requirement="dotnet.channel-supported",
                    owner="image-team@example.org",
                    reason="The registries here hold no newer .NET than 3.1; the sample is never for use.",
                    expires=date(2027, 2, 1),
                ),
            ),
            firmware=("bios", "uefi"),
        ),
        locations=(
            Location(
                destination=destination,
                url=url,
                container="images" if blob else None,
                blob=name if blob else None,
                etag='"0x1"' if blob else None,
                published=when,
                upload=Upload(sent=612 << 20, present=0, skipped=1436 << 20, requests=211, seconds=4.2),
            ),
        ),
        history=(Transition(state="staged", when=when, who="anna@builder-3", why="the image is certified"),),
    )


def place(workspace: Workspace, release: Release) -> Artefacts:
    """The files that the earlier stages leave beside an image, with little in them."""
    artefacts = workspace.artefacts(release.recipe, release.version)
    artefacts.root.mkdir(parents=True)
    release.write(artefacts.release)
    fields = ("name", "epoch", "version", "release", "arch")
    packages = [dict(zip(fields, row, strict=True)) | {"size": 4096, "sha256": "0" * 64} for row in PACKAGES]
    artefacts.packages.write_text(json.dumps(packages))
    artefacts.certificate.write_text('{"payload": ""}')
    artefacts.report_html.write_text("<!doctype html><title>report</title>")
    artefacts.sbom.write_text("{}")
    return artefacts


@pytest.fixture
def make_record() -> Callable[..., Release]:
    return record


@pytest.fixture
def published(tmp_path: Path) -> Workspace:
    """Two versions of one recipe and one of another; `latest` points at the newer one."""
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    day = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    place(space, record("sample-9", "9.20260801.0", when=day - timedelta(days=113), title="Sample 9"))
    place(space, record("sample-9", "9.20261122.10", when=day, title="Sample 9"))
    place(space, record("sample-9", "9.20261122.9", when=day, title="Sample 9"))
    place(
        space,
        record(
            "centos-stream-9",
            "9.20261122.0",
            when=day,
            title="CentOS <Stream> 9",
            destination="azure://acme/images",
        ),
    )
    space.set_latest("sample-9", "9.20261122.10")
    return space
