"""A real rpm database for the small guest: packages made on the spot, signed with the sample's public test
key.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import rpm_rs

__all__ = ["PACKAGES", "Made", "erase", "install", "install_into"]

_KEY = Path(__file__).parents[2] / "images/sample-distribution/keys/test-secret-key.asc"
VENDOR = "Hallmark sample distribution"
PACKAGES = [
    "audit",
    "bash",
    "coreutils",
    "curl",
    "dnf",
    "e2fsprogs",
    "filesystem",
    "hostname",
    "iproute",
    "iputils",
    "kbd",
    "less",
    "NetworkManager",
    "openssh-clients",
    "openssh-server",
    "passwd",
    "policycoreutils",
    "procps-ng",
    "rootfiles",
    "rpm",
    "selinux-policy-targeted",
    "setup",
    "shadow-utils",
    "sudo",
    "systemd",
    "util-linux",
    "vim-minimal",
    "xfsprogs",
    "kernel",
    "cloud-init",
    "cloud-utils-growpart",
    "chrony",
    "dracut-config-generic",
    "grub2-tools",
    "tar",
    "rsync",
    "firewalld",
    "WALinuxAgent",
    "efibootmgr",
    "grub2-efi-x64",
    "shim-x64",
    "grub2-pc",
    "gdisk",
    "dhcp-client",
    "yum-utils",
    "hyperv-daemons",
    "hyperv-daemons-license",
    "hypervkvpd",
    "hypervvssd",
    "hypervfcopyd",
    "hallmark-sample-release",
    "rsyslog",
    "NetworkManager-cloud-setup",
    "glibc",
    "crypto-policies",
]


@dataclass(frozen=True)
class Made:
    """A package to make; ``files`` are (path, content, mode), ``documents`` paths of documentation."""

    name: str
    version: str = "1"
    vendor: str = VENDOR
    arch: str = "x86_64"
    signed: bool = True
    requires: tuple[str, ...] = ()
    files: tuple[tuple[str, str, int], ...] = ()
    documents: tuple[str, ...] = ()


def install(database: Path, work: Path, packages: Sequence[Made]) -> None:
    """Put packages into a database, without touching any file they hold."""
    paths = [_build(work, package, number) for number, package in enumerate(packages)]
    _rpm(
        database,
        "-i",
        "--justdb",
        "--nodeps",
        "--nosignature",
        "--nodigest",
        "--ignorearch",
        "--force",
        *map(str, paths),
    )


def install_into(root: Path, work: Path, package: Made) -> Path:
    """Install a package with its files, but without documentation, into a root; where its database is."""
    words = ("--root", str(root), "-i", "--nodeps", "--nosignature", "--nodigest", "--excludedocs")
    _rpm(Path("/var/lib/rpm"), *words, "--ignorearch", "--force", str(_build(work, package, 0)))
    return root / "var/lib/rpm"


def erase(database: Path, name: str) -> None:
    """Take a package out of a database."""
    _rpm(database, "-e", "--justdb", "--nodeps", name)


def _build(work: Path, package: Made, number: int) -> Path:
    target = work / f"{number}-{package.name}.rpm"
    target.write_bytes(_built(package))
    return target


@cache
def _built(package: Made) -> bytes:
    builder = rpm_rs.PackageBuilder(package.name, package.version, "MIT", package.arch, package.name)
    builder.using_config(
        rpm_rs.BuildConfig(
            format=rpm_rs.RpmFormat.V4,
            compression=rpm_rs.CompressionType.Zstd,
            compression_level=1,
            source_date=1700000000,
        )
    )
    builder.release("1")
    builder.vendor(package.vendor)
    for name in package.requires:
        builder.requires(name)
    for path, content, mode in package.files:
        builder.with_file_contents(content.encode(), rpm_rs.FileOptions.new(path, permissions=mode))
    for path in package.documents:
        builder.with_file_contents(b"a document", rpm_rs.FileOptions.new(path, doc=True))
    made = builder.build_and_sign(rpm_rs.Signer(_KEY.read_bytes())) if package.signed else builder.build()
    return bytes(made.to_bytes())


def _rpm(database: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["rpm", "--dbpath", str(database), *arguments],
        capture_output=True,
        text=True,
        env={"HOME": str(database), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
