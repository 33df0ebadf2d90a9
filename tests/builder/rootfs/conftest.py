"""A plan and a signed repository that are as small as they can be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import rpm_rs

from builder.recipe.model import (
    Bootloader,
    CertificationSpec,
    DiskSpec,
    Distribution,
    Dracut,
    Identifiers,
    InstalledFile,
    Kernel,
    Origin,
    PackageRequest,
    Packages,
    Plan,
    Repository,
    Script,
    Services,
)
from builder.rootfs import ResolvedRepository
from builder.rootfs.repositories import TrustedRepository
from builder.run import run
from builder.workspace import PROJECT

KEYS = PROJECT / "images/sample-distribution/keys"
KEY = KEYS / "RPM-GPG-KEY-hallmark-sample"
FINGERPRINT = "4289A0585D393B761423296BAA81A34A9A583DEE"
EPOCH = 1795305600


def tiny_plan(**changes: Any) -> Plan:
    """A plan with one of everything; ``changes`` replace whole fields."""
    where = Origin(path="tiny.yaml", line=7)
    fields: dict[str, Any] = {
        "recipe": "tiny-9",
        "title": "Tiny",
        "summary": "As small as a plan can be",
        "version": "9.20261122.0",
        "source_date_epoch": EPOCH,
        "architecture": "x86_64",
        "distribution": Distribution(id="tiny", name="Tiny Linux", release="9.1", major=9, releasever="9"),
        "licence": "free",
        "visibility": "private",
        "repositories": (
            Repository(
                id="tiny",
                name="Tiny",
                baseurl="file:///nowhere",
                key="key",
                fingerprint=FINGERPRINT,
                where=where,
            ),
        ),
        "packages": Packages(
            install=(
                PackageRequest(name="kernel", where=Origin(path="layers/el.yaml", line=12)),
                PackageRequest(name="@core", where=Origin(path="tiny.yaml", line=9)),
            ),
            exclude=("plymouth", "iwl*-firmware"),
        ),
        "files": (
            InstalledFile(path="/etc/motd", content="it's here\n", mode=0o640, group="adm", where=where),
            InstalledFile(path="/etc/locale.conf", content="LANG=C.UTF-8\n", where=where),
        ),
        "scripts": (Script(name="10 second.sh", content="#!/bin/sh\ntrue\n", where=where),),
        "services": Services(enable=("sshd.service",), mask=("ctrl-alt-del.target",)),
        "kernel": Kernel(
            arguments=("ro", "console=tty1", "console=ttyS0"), drivers=("hv_storvsc",), blacklist=("floppy",)
        ),
        "dracut": Dracut(omit=("plymouth",)),
        "bootloader": Bootloader(vendor="tiny"),
        "disk": DiskSpec(size_mib=4096),
        "certification": CertificationSpec(policies=("core",)),
        "identifiers": Identifiers(
            **{
                name: UUID(int=number)
                for number, name in enumerate(
                    (
                        "disk_guid",
                        "bios_guid",
                        "esp_guid",
                        "boot_guid",
                        "root_guid",
                        "boot_fs",
                        "root_fs",
                        "vhd",
                    ),
                    1,
                )
            },
            esp_serial="ABCD-1234",
        ),
    }
    return Plan(**{**fields, **changes})


@pytest.fixture
def plan() -> Plan:
    return tiny_plan()


@pytest.fixture
def trusted() -> TrustedRepository:
    """A repository whose key is a placeholder: the compile step only copies it."""
    return TrustedRepository(
        id="tiny",
        name="Tiny",
        fingerprint=FINGERPRINT,
        key="the key\n",
        key_ids=("aa81a34a9a583dee",),
        baseurl="file:///srv/tiny",
        where=Origin(path="tiny.yaml", line=3),
    )


@dataclass(frozen=True)
class TinyRepository:
    """A repository of one package, ``tiny``, which owns ``/etc/tiny``."""

    path: Path
    rpm: Path

    def resolved(self, **changes: Any) -> ResolvedRepository:
        fields = {"id": "tiny", "key": KEY, "fingerprint": FINGERPRINT, "baseurl": self.path.as_uri()}
        return ResolvedRepository(**{**fields, "where": Origin(path="tiny.yaml", line=3), **changes})

    def index(self) -> None:
        """Write the metadata anew, as somebody who tampers with a mirror would."""
        run((str(Path(sys.executable).parent / "createrepo_c"), "--quiet", str(self.path)))


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[..., TinyRepository]:
    def make(*, sign: bool = True) -> TinyRepository:
        path = tmp_path / "repository"
        path.mkdir()
        builder = rpm_rs.PackageBuilder("tiny", "1.0", "MIT", "noarch", "Tiny")
        builder.release("1")
        builder.vendor("Tiny vendor")
        builder.using_config(
            rpm_rs.BuildConfig(
                format=rpm_rs.RpmFormat.V4, compression_level=3, source_date=EPOCH, reserved_space=0
            )
        )
        builder.with_file_contents(b"tiny\n" * 100, rpm_rs.FileOptions.new("/etc/tiny", permissions=0o644))
        if sign:
            package = builder.build_and_sign(rpm_rs.Signer((KEYS / "test-secret-key.asc").read_bytes()))
        else:
            package = builder.build()
        rpm = path / "tiny-1.0-1.noarch.rpm"
        package.write_file(str(rpm))
        repository = TinyRepository(path, rpm)
        repository.index()
        return repository

    return make
