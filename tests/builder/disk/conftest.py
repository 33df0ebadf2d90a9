"""Fixtures of the disk tests: identifiers, plans, and a small system that has everything a disk needs."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from builder.recipe.model import (
    CertificationSpec,
    DiskSpec,
    Distribution,
    Identifiers,
    Kernel,
    Packages,
    Plan,
)
from builder.run import run

SEED = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
GUIDS = ("disk_guid", "bios_guid", "esp_guid", "boot_guid", "root_guid", "boot_fs", "root_fs", "vhd")
LABEL = b"system_u:object_r:etc_t:s0\0"
#: VFS_CAP_REVISION_2, effective, CAP_NET_RAW permitted (capabilities(7)).
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


@pytest.fixture(scope="session")
def identifiers() -> Identifiers:
    return Identifiers(**{name: uuid5(SEED, name) for name in GUIDS}, esp_serial="ABCD-1234")


@pytest.fixture(scope="session")
def make_plan(identifiers: Identifiers) -> Callable[..., Plan]:
    """A plan with this disk; nothing else in it matters here."""

    def make(major: int = 9, **disk: object) -> Plan:
        release = str(major)
        return Plan(
            recipe="small",
            title="small",
            summary="small",
            version="9.20261122.0",
            source_date_epoch=1_700_000_000,
            architecture="x86_64",
            distribution=Distribution(
                id="small", name="small", release=release, major=major, releasever=release
            ),
            licence="free",
            visibility="private",
            repositories=(),
            packages=Packages(install=()),
            kernel=Kernel(arguments=()),
            disk=DiskSpec.model_validate({"size_mib": 512, "esp_mib": 40, "boot_mib": 64, **disk}),
            certification=CertificationSpec(policies=()),
            identifiers=identifiers,
        )

    return make


@pytest.fixture(scope="session")
def deployment() -> str:
    """Where ostree keeps a system."""
    return f"ostree/deploy/small/deploy/{'0' * 64}.0"


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory, deployment: str) -> Path:
    """A small system: owners, modes, links, labels, a capability, boot files. Needs root."""
    root = tmp_path_factory.mktemp("tree")
    (root / "etc").mkdir()
    (root / "etc/hostname").write_text("localhost\n")
    (root / "etc/shadow").write_text("root:*\n")
    (root / "etc/shadow").chmod(0)
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/ping").write_bytes(b"\x7fELF" * 5000)
    (root / "usr/bin/ping4").hardlink_to(root / "usr/bin/ping")
    (root / "usr/bin/su").write_bytes(b"su")
    (root / "usr/bin/su").chmod(0o4755)
    (root / "usr/share").mkdir()
    for number in range(300):
        (root / f"usr/share/file {number} ü").write_text(f"{number}\n" * number)
    (root / "var/empty").mkdir(parents=True)
    os.chown(root / "var/empty", 74, 75)
    (root / "usr/share/deep").symlink_to("x" * 100)
    code = root / "boot/grub2/i386-pc"
    code.mkdir(parents=True)
    (code / "boot.img").write_bytes(b"\xeb\x63" + bytes(508) + b"\x55\xaa")
    (code / "core.img").write_bytes(bytes(500) + struct.pack("<QHH", 0, 0, 0x820) + b"core" * 5000)
    (root / deployment).mkdir(parents=True)
    (root / "boot/vmlinuz").write_bytes(os.urandom(1 << 20))
    for name in ("EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/small/shimx64-small.efi"):
        path = root / "boot/efi" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 1000)
    root.chmod(0o555)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    os.utime(root, (1_600_000_000, 1_600_000_000))
    return root


@pytest.fixture(scope="session")
def rootfs(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as the root filesystem stage leaves it: labelled, in a tar with extended attributes."""
    for path in (tree, *tree.rglob("*")):
        os.setxattr(path, "security.selinux", LABEL, follow_symlinks=False)
    os.setxattr(tree / "usr/bin/ping", "security.capability", CAPABILITY)
    tar = tmp_path_factory.mktemp("rootfs") / "rootfs.tar"
    options = ("--xattrs", "--xattrs-include=*", "--format=pax", "--sort=name", "--numeric-owner")
    run(("tar", "--create", *options, "--directory", tree, "--file", tar, "."))
    return tar
