"""The language of recipes and layers: every key, its type and its rule.

These models describe one document as it is written. Editors use the JSON schema made from them; ``load``
uses them to check each file on its own, so that a mistake is reported where it was made and not where it has
its effect.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.recipe.terms import (
    Arguments,
    Channels,
    Commit,
    Digest,
    Entry,
    Fingerprint,
    Generations,
    Given,
    ImagePath,
    Label,
    Line,
    Lines,
    Mode,
    Module,
    Modules,
    Name,
    Names,
    Outputs,
    Paths,
    Policies,
    Ports,
    Reference,
    RelativePath,
    Release,
    ReleaseVariable,
    Specifier,
    Targets,
    Text,
    TimeZone,
    Unit,
    Units,
    Url,
    Variable,
    VariantValue,
    Words,
)

__all__ = [
    "SECRETS",
    "LayerDocument",
    "Overlay",
    "RecipeDocument",
    "RepositoryEntry",
    "VariantOverlay",
    "Window",
]


class SecretEntry(Entry):
    """Where a secret is: read by the build when it needs it, never kept."""

    secret: Reference


class RepositoryEntry(Entry):
    """A package repository. One of embedded, baseurl and metalink; $releasever, $major and $basearch are
    replaced. A repository that knows its clients by TLS gets client_certificate and client_key (PEM).
    """

    name: Line | None = None
    embedded: Literal["sample-distribution"] | None = None
    baseurl: Url | None = None
    metalink: Url | None = None
    key: RelativePath | None = Field(None, description="public key file, relative to the recipe's directory")
    fingerprint: Fingerprint | None = Field(None, description="of the key: 40 hexadecimal digits, upper case")
    client_certificate: SecretEntry | None = Field(None, description="PEM; an entitlement certificate")
    client_key: SecretEntry | None = Field(None, description="PEM; belongs to client_certificate")
    ca: SecretEntry | None = Field(None, description="PEM; who vouches for the server, if not the system")


#: Keys whose values are never shown, not even wrong ones: somebody may have written the secret itself.
SECRETS = frozenset({"client_certificate", "client_key", "ca", "signing_key"})


class PackagesEntry(Entry):
    """What to install, and what must never be installed, not even as a dependency."""

    install: Names = None
    exclude: Names = None


class FileEntry(Entry):
    """A file to put into the image: its text, or the file that holds it."""

    content: str | None = None
    source: RelativePath | None = Field(None, description="relative to the recipe's directory")
    mode: Mode | None = Field(None, description="octal, for example '0644'")
    owner: Line | None = None
    group: Line | None = None


class EditEntry(Entry):
    """A change of a configuration file that a package owns.

    ``set`` gives KEY=VALUE pairs; each key must be in the file already (commented out is enough).
    ``lines`` are appended unless they are there.
    """

    set: dict[Line, str | None] | None = None
    lines: Lines = None


class ScriptEntry(Entry):
    """A program that runs as root in the image's root, after packages and files."""

    content: str | None = None
    source: RelativePath | None = None


class ServicesEntry(Entry):
    """systemd units."""

    enable: Units = None
    disable: Units = None
    mask: Units = None


class KernelEntry(Entry):
    """Command line, initramfs drivers, modules that must not load by themselves."""

    arguments: Arguments = None
    drivers: Modules = None
    blacklist: Modules = None


class DracutEntry(Entry):
    """The initramfs generator; hostonly is always off."""

    omit: Modules = None
    compress: Literal["zstd", "xz", "gzip"] | None = None


class SelinuxEntry(Entry):
    """SELinux at boot."""

    mode: Literal["enforcing", "permissive", "disabled"] | None = None
    type: Literal["targeted"] | None = None


class BootloaderEntry(Entry):
    """GRUB."""

    serial: bool | None = None
    timeout: Annotated[int, Field(ge=0, le=60, description="seconds")] | None = None
    vendor: Module | None = Field(
        None, description="directory below /boot/efi/EFI that the signed loader reads"
    )


class DotnetEntry(Entry):
    """.NET from the distribution's packages."""

    runtimes: Channels = None
    kind: Literal["runtime", "aspnetcore", "sdk"] | None = None


class DiskEntry(Entry):
    """The disk; sizes in MiB."""

    size_mib: Annotated[int, Field(ge=1024, le=4 * 1024 * 1024)] | None = None
    filesystem: Literal["ext4", "xfs"] | None = None
    layout: Literal["plain", "lvm"] | None = None
    generations: Generations = None
    esp_mib: Annotated[int, Field(ge=64, le=2048)] | None = None
    boot_mib: Annotated[int, Field(ge=256, le=8192)] | None = None


class LocaleEntry(Entry):
    """Language and time zone."""

    language: Line | None = None
    timezone: TimeZone | None = None


class CertificationEntry(Entry):
    """Who judges the image, and what is knowingly accepted."""

    policies: Policies = None
    targets: Targets = None
    waivers: RelativePath | None = Field(None, description="waivers file, relative to the recipe's directory")


class SigningKeyEntry(Entry):
    """The secret half of the key that signs commits: a secret, or that of the sample distribution."""

    secret: Reference | None = Field(None, description="an OpenPGP secret key without a passphrase")
    embedded: Literal["sample-distribution"] | None = Field(None, description="public: for trying only")


class OstreeEntry(Entry):
    """A system that is deployed and updated as a whole: an ostree commit or a bootable container.

    With ``compose`` the commit is made here, from the recipe's packages; without, it comes from a repository.
    """

    compose: bool | None = Field(None, description="make the commit from the recipe's packages")
    signing_key: SigningKeyEntry | None = Field(None, description="signs the commit that is made here")
    stateroot: Name | None = Field(
        None, description="the directory of deployments and of /var on the disk; default: distribution.id"
    )
    source: Url | None = Field(
        None,
        description="where the build takes the commit from: https:, http:, or file: with the absolute path "
        "of a repository or of a tar of one; default: the url",
    )
    remote: Name | None = Field(None, description="what the machine calls the place that updates come from")
    url: Url | None = Field(None, description="the ostree repository that machines are updated from")
    ref: RelativePath | None = Field(
        None, description="the branch, e.g. centos-atomic-host/7/x86_64/standard"
    )
    commit: Commit | None = Field(None, description="exactly this commit; without it the newest of the ref")
    key: RelativePath | None = Field(
        None,
        description="public key file, relative to the recipe's directory; without one, set `commit`",
    )
    fingerprint: Fingerprint | None = Field(None, description="of the key: 40 hexadecimal digits, upper case")
    client_certificate: SecretEntry | None = Field(None, description="PEM; an entitlement certificate")
    client_key: SecretEntry | None = Field(None, description="PEM; belongs to client_certificate")
    ca: SecretEntry | None = Field(None, description="PEM; who vouches for the server, if not the system")
    image: Line | None = Field(
        None, description="a bootable container (bootc) instead of an ostree repository"
    )
    digest: Digest | None = Field(None, description="of the container's manifest: sha256:…")


class ContainerEntry(Entry):
    """A container image in the place of a disk: no kernel, no services, one program.

    Its user's group is 0, so that OpenShift may give it any user id.
    """

    user: Annotated[int, Field(ge=1, le=65533)] | None = Field(
        None, description="the user id that the program runs as; never root"
    )
    home: ImagePath | None = Field(None, description="home of that user, which any user of group 0 may write")
    workdir: ImagePath | None = Field(None, description="where the program starts; default: home")
    writable: Paths = Field(None, description="more directories that any user of group 0 may write")
    ports: Ports = Field(None, description="what the program listens on, 1024 and above")
    entrypoint: Words | None = Field(None, description="the program, and arguments that always come first")
    command: Words | None = Field(None, description="what whoever runs the container may replace")
    environment: dict[Variable, Line | None] | None = None
    labels: dict[Label, Line | None] | None = Field(
        None, description="name, version, release, summary and description come by themselves"
    )


class Overlay(Entry):
    """What recipes, layers, windows and variants have in common."""

    repositories: dict[Name, RepositoryEntry | None] | None = None
    packages: PackagesEntry | None = None
    files: dict[ImagePath, FileEntry | None] | None = None
    edit: dict[ImagePath, EditEntry | None] | None = None
    scripts: dict[Name, ScriptEntry | None] | None = None
    services: ServicesEntry | None = None
    default_target: Unit | None = None
    kernel: KernelEntry | None = None
    dracut: DracutEntry | None = None
    selinux: SelinuxEntry | None = None
    bootloader: BootloaderEntry | None = None
    dotnet: DotnetEntry | None = None
    disk: DiskEntry | None = None
    outputs: Outputs = Field(None, description="formats of the image; the vhd is always among them")
    locale: LocaleEntry | None = None
    certification: CertificationEntry | None = None
    ostree: OstreeEntry | None = None
    container: ContainerEntry | None = None
    security: Literal["standard", "trusted-launch", "confidential"] | None = Field(
        None, description="the kind of virtual machine that the image is offered for"
    )
    processor: Literal["x86-64-v1", "x86-64-v2", "x86-64-v3"] | None = Field(
        None, description="the least that a machine must have; default: what the release needs"
    )


class When(Entry):
    """When a window counts; all that is named must hold."""

    release: Given[Specifier] = Field(None, description="for example '>=9.6, <9.8'")
    distribution: Given[Annotated[list[Name], Field(min_length=1)]] = None
    architecture: Given[Literal["x86_64", "aarch64"]] = None
    licence: Given[Literal["free", "payg", "byos"]] = None


class Window(Overlay):
    """Values that count for some releases, architectures or licences only."""

    when: When
    source: Line | None = Field(None, description="where the fact comes from")


class DistributionEntry(Entry):
    """What the image is an image of."""

    id: Name
    name: Line
    release: Release
    releasever: ReleaseVariable | None = Field(
        None, description="what $releasever becomes; default: the release"
    )


class _Document(Overlay):
    extends: list[Name] | None = Field(None, description="layers, the lowest first")
    windows: list[Window] | None = None


class LayerDocument(_Document):
    """A reusable overlay: images/layers/NAME.yaml."""

    layer: Name
    summary: Text


class VariantOverlay(Overlay):
    """What one value of a variant axis lays on the recipe; ``extends`` names layers below the recipe."""

    extends: list[Name] | None = None
    visibility: Literal["private", "tenant", "community"] | None = None


class RecipeDocument(_Document):
    """One product line: images/NAME.yaml."""

    recipe: Name
    title: Line
    summary: Text
    distribution: DistributionEntry
    architecture: Literal["x86_64", "aarch64"] = "x86_64"
    bootstrap: Literal["direct", "two-stage"] | None = Field(
        None, description="who installs the packages; default: what the release needs"
    )
    licence: Literal["free", "payg", "byos"] = "free"
    visibility: Literal["private", "tenant", "community"] = "private"
    variants: dict[Name, dict[VariantValue, VariantOverlay | None]] | None = Field(
        None, description="axes and their values; the first value of an axis is its default"
    )
    exclude_variants: list[dict[Name, VariantValue]] | None = Field(
        None, description="combinations that do not exist: each names values of two or more axes"
    )
