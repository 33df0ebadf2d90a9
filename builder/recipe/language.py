"""The language of recipes and layers: every key, its type and its rule.

These models describe one document as it is written. Editors use the JSON schema made from them; ``load``
uses them to check each file on its own, so that a mistake is reported where it was made and not where it has
its effect.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from builder.recipe.conditions import check_specifier
from builder.secrets import REFERENCE

__all__ = [
    "MEANINGS",
    "SECRETS",
    "LayerDocument",
    "Line",
    "ListEdit",
    "Overlay",
    "PackageName",
    "RecipeDocument",
    "RepositoryEntry",
    "Text",
    "VariantOverlay",
    "Window",
]

Item = TypeVar("Item")

# What a pattern means, for people; ``load`` looks the broken pattern up here.
MEANINGS: dict[str, str] = {}


def _pattern(pattern: str, meaning: str, *, longest: int | None = None) -> StringConstraints:
    MEANINGS[pattern] = meaning
    return StringConstraints(pattern=pattern, max_length=longest)


_UNIT = r"^[A-Za-z0-9:_.@\\-]+\.(service|socket|timer|target|mount|path|slice|automount|swap)$"

Name = Annotated[
    str, _pattern(r"^[a-z0-9]+(-[a-z0-9]+)*$", "small letters, digits and single hyphens", longest=60)
]
Text = Annotated[str, StringConstraints(min_length=1)]
Line = Annotated[str, _pattern(r"^[^\r\n]+$", "one line of text")]
AbsolutePath = Annotated[str, _pattern(r"^(/[^/\x00\r\n]+)+$", "an absolute path without a slash at its end")]
RelativePath = Annotated[str, _pattern(r"^[^/\x00\r\n][^\x00\r\n]*$", "a relative path")]
Release = Annotated[str, _pattern(r"^[0-9]+(\.[0-9]+)?$", "a release such as '9' or '9.6'")]
Channel = Annotated[str, _pattern(r"^[0-9]+\.[0-9]+$", "a .NET channel such as '10.0'")]
Unit = Annotated[str, _pattern(_UNIT, "a systemd unit with its suffix, such as sshd.service")]
PackageName = Annotated[
    str, _pattern(r"^@?[A-Za-z0-9][A-Za-z0-9+._*?\[\]^-]*$", "a package name, a glob or a @group")
]
Module = Annotated[str, _pattern(r"^[A-Za-z0-9_-]+$", "a name of letters, digits, hyphens and underscores")]
Argument = Annotated[str, _pattern(r"^[^\s\"']+$", "one argument, without spaces and quotes")]
Mode = Annotated[str, _pattern(r"^0?[0-7]{3,4}$", "octal permission bits such as '0644'")]
Fingerprint = Annotated[str, _pattern(r"^[0-9A-F]{40}$", "40 hexadecimal digits in upper case")]
Commit = Annotated[str, _pattern(r"^[0-9a-f]{64}$", "an ostree commit: 64 hexadecimal digits")]
Digest = Annotated[str, _pattern(r"^sha256:[0-9a-f]{64}$", "a digest such as 'sha256:…' with 64 digits")]
VariantValue = Annotated[
    str,
    _pattern(r"^[a-z0-9]+([-_][a-z0-9]+)*$", "small letters, digits, hyphens and underscores", longest=30),
]
Specifier = Annotated[str, AfterValidator(check_specifier)]
Reference = Annotated[str, _pattern(REFERENCE, "env:NAME or file:/absolute/path, never the secret itself")]


def _no_dots(path: str) -> str:
    if any(part in (".", "..") for part in path.split("/")):
        raise ValueError("a path must not contain '.' or '..'")
    return path


def _no_password(url: str) -> str:
    if re.match(r"[a-z]+://[^/]*@", url):
        raise ValueError("a password in an address would be written into plans and logs")
    return url


ImagePath = Annotated[AbsolutePath, AfterValidator(_no_dots)]
Url = Annotated[Line, AfterValidator(_no_password)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, strict=False)


def _as_edit(value: Any) -> Any:
    return {"append": value} if isinstance(value, list) else value


class ListEdit(_Entry, Generic[Item]):
    """A list in a document: the items to append, or a map that says more."""

    replace: list[Item] | None = None
    append: list[Item] | None = None
    remove: list[str] | None = None


class _List:
    """Marks the fields that are lists in the language and describes them to editors."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        edit = handler.resolve_ref_schema(handler(core_schema)["anyOf"][0])
        array = {"type": "array", "items": edit["properties"]["append"]["anyOf"][0]["items"]}
        words = dict.fromkeys(("replace", "append", "remove"), array)
        words["remove"] = {"type": "array", "items": {"type": "string"}}
        return {
            "oneOf": [
                array,
                {"type": "object", "additionalProperties": False, "properties": words},
                {"type": "null"},
            ]
        }


Names = Annotated[ListEdit[PackageName] | None, BeforeValidator(_as_edit), _List()]
Arguments = Annotated[ListEdit[Argument] | None, BeforeValidator(_as_edit), _List()]
Modules = Annotated[ListEdit[Module] | None, BeforeValidator(_as_edit), _List()]
Units = Annotated[ListEdit[Unit] | None, BeforeValidator(_as_edit), _List()]
Channels = Annotated[ListEdit[Channel] | None, BeforeValidator(_as_edit), _List()]
Lines = Annotated[ListEdit[Line] | None, BeforeValidator(_as_edit), _List()]
Policies = Annotated[ListEdit[Name] | None, BeforeValidator(_as_edit), _List()]
Generations = Annotated[ListEdit[Literal[1, 2]] | None, BeforeValidator(_as_edit), _List()]
Outputs = Annotated[
    ListEdit[Literal["vhd", "vhdx", "qcow2", "oci"]] | None, BeforeValidator(_as_edit), _List()
]
Targets = Annotated[ListEdit[Literal["azure", "hyperv"]] | None, BeforeValidator(_as_edit), _List()]


class SecretEntry(_Entry):
    """Where a secret is: read by the build when it needs it, never kept."""

    secret: Reference


class RepositoryEntry(_Entry):
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
SECRETS = frozenset({"client_certificate", "client_key", "ca"})


class PackagesEntry(_Entry):
    """What to install, and what must never be installed, not even as a dependency."""

    install: Names = None
    exclude: Names = None


class FileEntry(_Entry):
    """A file to put into the image: its text, or the file that holds it."""

    content: str | None = None
    source: RelativePath | None = Field(None, description="relative to the recipe's directory")
    mode: Mode | None = Field(None, description="octal, for example '0644'")
    owner: Line | None = None
    group: Line | None = None


class EditEntry(_Entry):
    """A change of a configuration file that a package owns.

    ``set`` gives KEY=VALUE pairs; each key must be in the file already (commented out is enough).
    ``lines`` are appended unless they are there.
    """

    set: dict[Line, str | None] | None = None
    lines: Lines = None


class ScriptEntry(_Entry):
    """A program that runs as root in the image's root, after packages and files."""

    content: str | None = None
    source: RelativePath | None = None


class ServicesEntry(_Entry):
    """systemd units."""

    enable: Units = None
    disable: Units = None
    mask: Units = None


class KernelEntry(_Entry):
    """Command line, initramfs drivers, modules that must not load by themselves."""

    arguments: Arguments = None
    drivers: Modules = None
    blacklist: Modules = None


class DracutEntry(_Entry):
    """The initramfs generator; hostonly is always off."""

    omit: Modules = None
    compress: Literal["zstd", "xz", "gzip"] | None = None


class SelinuxEntry(_Entry):
    """SELinux at boot."""

    mode: Literal["enforcing", "permissive", "disabled"] | None = None
    type: Literal["targeted"] | None = None


class BootloaderEntry(_Entry):
    """GRUB."""

    serial: bool | None = None
    timeout: Annotated[int, Field(ge=0, le=60, description="seconds")] | None = None
    vendor: Module | None = Field(
        None, description="directory below /boot/efi/EFI that the signed loader reads"
    )


class DotnetEntry(_Entry):
    """.NET from the distribution's packages."""

    runtimes: Channels = None
    kind: Literal["runtime", "aspnetcore", "sdk"] | None = None


class DiskEntry(_Entry):
    """The disk; sizes in MiB."""

    size_mib: Annotated[int, Field(ge=1024, le=4 * 1024 * 1024)] | None = None
    filesystem: Literal["ext4", "xfs"] | None = None
    layout: Literal["plain", "lvm"] | None = None
    generations: Generations = None
    esp_mib: Annotated[int, Field(ge=64, le=2048)] | None = None
    boot_mib: Annotated[int, Field(ge=256, le=8192)] | None = None


class LocaleEntry(_Entry):
    """Language and time zone."""

    language: Line | None = None
    timezone: RelativePath | None = None


class CertificationEntry(_Entry):
    """Who judges the image, and what is knowingly accepted."""

    policies: Policies = None
    targets: Targets = None
    waivers: RelativePath | None = Field(None, description="waivers file, relative to the recipe's directory")


class OstreeEntry(_Entry):
    """A system that comes as one commit or one bootable container, not as packages."""

    remote: Name | None = Field(None, description="what the machine calls the place that updates come from")
    url: Line | None = Field(None, description="the ostree repository")
    ref: RelativePath | None = Field(
        None, description="the branch, e.g. centos-atomic-host/7/x86_64/standard"
    )
    commit: Commit | None = Field(None, description="exactly this commit; without it the newest of the ref")
    key: RelativePath | None = Field(None, description="public key file, relative to the recipe's directory")
    fingerprint: Fingerprint | None = Field(None, description="of the key: 40 hexadecimal digits, upper case")
    image: Line | None = Field(
        None, description="a bootable container (bootc) instead of an ostree repository"
    )
    digest: Digest | None = Field(None, description="of the container's manifest: sha256:…")


class Overlay(_Entry):
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
    security: Literal["standard", "trusted-launch", "confidential"] | None = Field(
        None, description="the kind of virtual machine that the image is offered for"
    )
    processor: Literal["x86-64-v1", "x86-64-v2", "x86-64-v3"] | None = Field(
        None, description="the least that a machine must have; default: what the release needs"
    )


class When(_Entry):
    """When a window counts; all that is named must hold."""

    release: Specifier | None = Field(None, description="for example '>=9.6, <9.8'")
    distribution: list[Name] | None = None
    architecture: Literal["x86_64", "aarch64"] | None = None
    licence: Literal["free", "payg", "byos"] | None = None


class Window(Overlay):
    """Values that count for some releases, architectures or licences only."""

    when: When
    source: Line | None = Field(None, description="where the fact comes from")


class DistributionEntry(_Entry):
    """What the image is an image of."""

    id: Name
    name: Line
    release: Release
    releasever: Line | None = Field(None, description="what $releasever becomes; default: the release")


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
