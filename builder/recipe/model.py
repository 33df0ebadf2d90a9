"""The plan: what one build of one recipe bakes in, with nothing left to decide.

A plan is plain data. It is made without network and without root, written as ``plan.json`` beside the image,
and read back by later stages. The same recipe, version and source date always give the same plan.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from builder.recipe.content import (
    Frozen,
    Origin,
    PackageRequest,
    Packages,
    Repository,
    Secret,
    SigningKey,
    Substitution,
    TlsClient,
)

__all__ = [
    "Bootloader",
    "Bootstrap",
    "BootstrapMode",
    "CertificationSpec",
    "Container",
    "DiskSpec",
    "Distribution",
    "DotnetRuntime",
    "Dracut",
    "Identifiers",
    "InstalledFile",
    "Kernel",
    "Locale",
    "Origin",
    "Ostree",
    "OutputFormat",
    "PackageRequest",
    "Packages",
    "Plan",
    "Repository",
    "Script",
    "Secret",
    "Selinux",
    "Services",
    "SigningKey",
    "Substitution",
]

Architecture = Literal["x86_64", "aarch64"]
Filesystem = Literal["ext4", "xfs"]
Generation = Literal[1, 2]
BootstrapMode = Literal["direct", "two-stage"]
Licence = Literal["free", "payg", "byos"]
Processor = Literal["x86-64-v1", "x86-64-v2", "x86-64-v3"]
Security = Literal["standard", "trusted-launch", "confidential"]
Visibility = Literal["private", "tenant", "community"]
OutputFormat = Literal["vhd", "vhdx", "qcow2", "oci"]


class Distribution(Frozen):
    """What the image is an image of. ``id`` equals ID in the image's os-release.

    ``content``: the major release that the packages are made for, when a mirror serves those of another.
    """

    id: str
    name: str
    release: str
    major: int
    releasever: str
    content: int | None = None

    @property
    def platform(self) -> int:
        """The major release that the packages are made for."""
        return self.content or self.major


class InstalledFile(Frozen):
    """A file that the recipe puts into the image after the packages.

    ``path`` is absolute in the image, ``content`` UTF-8 text, ``mode`` the permission bits.
    """

    path: str
    content: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    where: Origin


class Script(Frozen):
    """A program with its ``#!`` line; runs as root in the image's root after packages and files, sorted by
    ``name``.
    """

    name: str
    content: str
    where: Origin


class Services(Frozen):
    """systemd units to enable, disable and mask, with their suffix (``sshd.service``)."""

    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()


class Kernel(Frozen):
    """The kernel's side of the image.

    ``arguments`` is the command line without ``root=`` and ``ro``, in order. ``drivers`` goes into dracut's
    ``add_drivers``. For each module of ``blacklist`` the root filesystem stage writes
    ``/etc/modprobe.d/blacklist-<module>.conf``.
    """

    arguments: tuple[str, ...]
    drivers: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()


class Dracut(Frozen):
    """The initramfs is always built with ``hostonly=no``; ``omit`` names dracut modules to leave out."""

    omit: tuple[str, ...] = ()
    compress: str = "zstd"


class Selinux(Frozen):
    """What ``/etc/selinux/config`` says; the offline labels follow ``type``."""

    mode: Literal["enforcing", "permissive", "disabled"] = "enforcing"
    type: Literal["targeted"] = "targeted"


class Bootloader(Frozen):
    """``serial``: GRUB talks to the first serial port (115200 8N1) too; ``timeout`` in seconds;
    ``vendor``: the directory below ``/boot/efi/EFI`` that the signed loader reads its configuration from."""

    serial: bool = True
    timeout: int = 10
    vendor: str = "redhat"


class Bootstrap(Frozen):
    """Who installs the packages: the build host's dnf (``direct``), or the distribution's own rpm, in a root
    of its own that holds ``packages`` and what they require (``two-stage``).
    """

    mode: BootstrapMode = "direct"
    packages: tuple[str, ...] = ()


class DotnetRuntime(Frozen):
    """A .NET that must be in the image; ``channel`` is major.minor (``10.0``)."""

    channel: str
    kind: Literal["runtime", "aspnetcore", "sdk"] = "runtime"


class DiskSpec(Frozen):
    """The disk. Sizes in MiB; ``generations`` are the Hyper-V generations that must boot it (1: BIOS, 2:
    UEFI).
    """

    size_mib: int
    filesystem: Filesystem = "ext4"
    layout: Literal["plain", "lvm"] = "plain"
    generations: tuple[Generation, ...] = (1, 2)
    esp_mib: int = 500
    boot_mib: int = 1024


class Locale(Frozen):
    """``language`` becomes LANG in ``/etc/locale.conf``; ``timezone`` the target of ``/etc/localtime``."""

    language: str = "en_US.UTF-8"
    timezone: str = "Etc/UTC"


class CertificationSpec(Frozen):
    """The policies that judge the image, the waivers file (relative to ``images/``) and where it must run."""

    policies: tuple[str, ...]
    waivers: str | None = None
    targets: tuple[Literal["azure", "hyperv"], ...] = ("azure", "hyperv")


class Ostree(TlsClient):
    """A system that is deployed and updated as a whole: an ostree commit, or a bootable container (bootc).

    Either ``remote``, ``url`` and ``ref`` are set, or ``image``. ``key`` and ``fingerprint`` are of who signs
    the commits; without them ``commit`` is set. ``commit`` and ``digest`` (``sha256:…``) pin exactly one
    system. ``compose``: the commit is made from the plan's packages and signed with ``signing_key``;
    otherwise the build takes it from ``source``, or from ``url`` when there is none. ``stateroot`` is what
    its deployments share on the disk.
    """

    compose: bool = False
    signing_key: SigningKey | None = None
    stateroot: str = "os"
    source: str | None = None
    remote: str | None = None
    url: str | None = None
    ref: str | None = None
    commit: str | None = None
    key: str | None = None
    fingerprint: str | None = None
    image: str | None = None
    digest: str | None = None
    where: Origin


class Container(Frozen):
    """What an engine is told of a container image ("OCI Image Configuration", the object ``config``).

    ``user`` is a user id; its group is 0, as it is for the arbitrary ids that OpenShift gives. ``writable``
    are the directories, ``home`` among them, that everybody of that group may write. ``entrypoint`` and
    ``command`` are words; ``ports`` are TCP.
    """

    user: int
    home: str
    workdir: str
    writable: tuple[str, ...]
    ports: tuple[int, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    where: Origin


class Identifiers(Frozen):
    """Every identifier on the disk: version 5 UUIDs of recipe and version, so distinct and still
    reproducible.
    """

    disk_guid: UUID
    bios_guid: UUID
    esp_guid: UUID
    boot_guid: UUID
    root_guid: UUID
    boot_fs: UUID
    root_fs: UUID
    esp_serial: Annotated[str, Field(pattern=r"^[0-9A-F]{4}-[0-9A-F]{4}$")]
    vhd: UUID


class Plan(Frozen):
    """One build, decided. ``source_date_epoch`` is the time (seconds since 1970) that every file gets.

    ``recipe`` is the full name; ``variant`` has the value on each axis of the recipe. ``processor`` is the
    least that an x86_64 machine must have (None on others). A plan has packages, or ``ostree`` that isn't
    composed. With ``container`` there is no machine: its ``disk`` has no size and no generation.
    ``lock_digest``: SHA-256 of the recipe's lock file; None when it has none and the repositories decide.
    ``outputs`` begins with the image itself: what certification looks at and what the others are made from.
    Of a disk it is ``vhd``, of a container ``oci``.
    """

    recipe: str
    variant: dict[str, str] = Field(default_factory=dict)
    title: str
    summary: str
    version: str
    source_date_epoch: int
    architecture: Architecture
    distribution: Distribution
    licence: Licence
    visibility: Visibility
    security: Security = "standard"
    processor: Processor | None = None
    repositories: tuple[Repository, ...]
    packages: Packages
    ostree: Ostree | None = None
    container: Container | None = None
    lock_digest: str | None = None
    bootstrap: Bootstrap = Bootstrap()
    files: tuple[InstalledFile, ...] = ()
    scripts: tuple[Script, ...] = ()
    services: Services = Services()
    default_target: str = "multi-user.target"
    kernel: Kernel
    dracut: Dracut = Dracut()
    selinux: Selinux = Selinux()
    bootloader: Bootloader = Bootloader()
    dotnet: tuple[DotnetRuntime, ...] = ()
    disk: DiskSpec
    outputs: tuple[OutputFormat, ...] = ("vhd",)
    locale: Locale = Locale()
    certification: CertificationSpec
    identifiers: Identifiers
    substitutions: tuple[Substitution, ...] = ()

    @property
    def composed(self) -> bool:
        """The packages become an ostree commit."""
        return self.ostree is not None and self.ostree.compose

    @property
    def image_format(self) -> OutputFormat:
        """The format of the image itself."""
        return self.outputs[0]

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the plan's canonical JSON without its origins.

        Moving a line in a recipe changes no image, so it changes no digest.
        """
        return _digest(self.model_dump(mode="json"))

    def content_digest(self) -> str:
        """SHA-256 (hexadecimal) of what the image holds, whatever it is called and numbered."""
        named = {"recipe", "variant", "title", "summary", "version", "source_date_epoch", "identifiers"}
        return _digest(self.model_dump(mode="json", exclude=named))

    def to_json(self) -> str:
        """The text of ``plan.json``; ``Plan.model_validate_json`` reads it back."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def _digest(value: Any) -> str:
    text = json.dumps(_without_origins(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_origins(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_origins(item) for key, item in value.items() if key != "where"}
    if isinstance(value, list):
        return [_without_origins(item) for item in value]
    return value
