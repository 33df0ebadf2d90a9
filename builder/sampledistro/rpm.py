"""What goes into an RPM, and writing one.

``Entry`` is one path of a package; ``write`` makes a signed RPM of format 4 (rpm 4.6 and newer read it). The
same input gives the same bytes: every time is ``source_date`` and the signature (RSA, PKCS #1 v1.5) has no
randomness.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import rpm_rs

from builder.errors import HallmarkError
from builder.workspace import atomic_file

__all__ = ["Dependency", "Entry", "FileTrigger", "PackageSpec", "Scripts", "write"]

Kind = Literal["file", "directory", "link", "ghost"]
Operator = Literal["", "<", "<=", "=", ">=", ">"]

# zstd level 3: the library's default, 19, takes nine times as long for a quarter less.
_ZSTD_LEVEL = 3
_OPERATORS = {
    "<": rpm_rs.DependencyFlags.LESS,
    "<=": rpm_rs.DependencyFlags.LESS | rpm_rs.DependencyFlags.EQUAL,
    "=": rpm_rs.DependencyFlags.EQUAL,
    ">=": rpm_rs.DependencyFlags.GREATER | rpm_rs.DependencyFlags.EQUAL,
    ">": rpm_rs.DependencyFlags.GREATER,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a package. ``path`` is absolute.

    ``mode`` holds the permission bits, setuid and so on included.
    """

    path: str
    kind: Kind
    mode: int = 0o644
    user: str = "root"
    group: str = "root"
    content: bytes = b""
    target: str = ""
    config: bool = False
    license: bool = False


@dataclass(frozen=True, slots=True)
class Dependency:
    """``name``, or ``name operator [epoch:]version[-release]``."""

    name: str
    operator: Operator = ""
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Dependency:
        """Read ``name`` or ``name >= version``."""
        words = text.split()
        if len(words) == 1:
            return cls(words[0])
        if len(words) == 3 and words[1] in _OPERATORS:
            return cls(words[0], words[1], words[2])  # type: ignore[arg-type]  # membership was just checked
        raise HallmarkError(f"not a dependency: {text!r}", hint="write `name` or `name >= version`")

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.version}" if self.operator else self.name


@dataclass(frozen=True, slots=True)
class FileTrigger:
    """A script to run once at the end of a transaction that installed files below ``path``."""

    path: str
    script: str


@dataclass(frozen=True, slots=True)
class Scripts:
    """The scriptlets of a package, for /bin/sh; empty means none."""

    pre: str = ""
    post: str = ""
    posttrans: str = ""


@dataclass(frozen=True, slots=True)
class PackageSpec:
    """Everything that ends up in one RPM."""

    name: str
    version: str
    release: str
    summary: str
    epoch: int = 0
    arch: Literal["x86_64", "noarch"] = "x86_64"
    description: str = ""
    license: str = "see /usr/share/licenses"
    url: str = ""
    vendor: str = ""
    entries: tuple[Entry, ...] = ()
    requires: tuple[Dependency, ...] = ()
    provides: tuple[Dependency, ...] = ()
    obsoletes: tuple[Dependency, ...] = ()
    conflicts: tuple[Dependency, ...] = ()
    scripts: Scripts = field(default_factory=Scripts)
    triggers: tuple[FileTrigger, ...] = ()

    @property
    def evr(self) -> str:
        """[epoch:]version-release."""
        return (
            f"{self.epoch}:{self.version}-{self.release}" if self.epoch else f"{self.version}-{self.release}"
        )

    @property
    def filename(self) -> str:
        """The conventional file name, without the epoch."""
        return f"{self.name}-{self.version}-{self.release}.{self.arch}.rpm"


def write(spec: PackageSpec, destination: Path, *, secret_key: bytes, source_date: int) -> None:
    """Write a signed RPM; the file appears under its name complete or not at all.

    :param secret_key: an ASCII-armoured OpenPGP secret key without a passphrase.
    :param source_date: seconds since 1970: the build time and the time of every file.
    :raises HallmarkError: the package holds a path twice.
    """
    builder = rpm_rs.PackageBuilder(spec.name, spec.version, spec.license, spec.arch, spec.summary)
    builder.using_config(
        rpm_rs.BuildConfig(
            format=rpm_rs.RpmFormat.V4,
            compression=rpm_rs.CompressionType.Zstd,
            compression_level=_ZSTD_LEVEL,
            source_date=source_date,
            reserved_space=0,
        )
    )
    builder.release(spec.release)
    if spec.epoch:
        builder.epoch(spec.epoch)
    builder.description(spec.description or spec.summary)
    builder.vendor(spec.vendor)
    builder.packager(spec.vendor)
    builder.build_host("sample-distribution.invalid")
    if spec.url:
        builder.url(spec.url)
    for dependencies, add in (
        (spec.requires, builder.requires),
        (spec.provides, builder.provides),
        (spec.obsoletes, builder.obsoletes),
        (spec.conflicts, builder.conflicts),
    ):
        for dependency in _unique(dependencies):
            if dependency.operator:
                add(dependency.name, dependency.version, _OPERATORS[dependency.operator])
            else:
                add(dependency.name)
    seen: set[str] = set()
    for entry in sorted(spec.entries, key=lambda entry: entry.path):
        if entry.path in seen:
            raise HallmarkError(f"{spec.name} holds {entry.path} twice")
        seen.add(entry.path)
        _add(builder, entry)
    if spec.scripts.pre:
        builder.pre_install_script(spec.scripts.pre)
    if spec.scripts.post:
        builder.post_install_script(spec.scripts.post)
    if spec.scripts.posttrans:
        builder.post_trans_script(spec.scripts.posttrans)
    for trigger in spec.triggers:
        builder.trans_file_trigger_in(trigger.path, trigger.script)
    package = builder.build_and_sign(rpm_rs.Signer(secret_key))
    with atomic_file(destination) as temporary:
        temporary.write_bytes(package.to_bytes())


def _add(builder: rpm_rs.PackageBuilder, entry: Entry) -> None:
    who = {"user": entry.user, "group": entry.group}
    if entry.kind == "directory":
        builder.with_dir_entry(rpm_rs.FileOptions.dir(entry.path, permissions=entry.mode, **who))
    elif entry.kind == "link":
        builder.with_symlink(rpm_rs.FileOptions.symlink(entry.path, entry.target, **who))
    elif entry.kind == "ghost":
        builder.with_ghost(rpm_rs.FileOptions.ghost(entry.path, permissions=entry.mode, **who))
    else:
        options = rpm_rs.FileOptions.new(
            posixpath.normpath(entry.path),
            permissions=entry.mode,
            config=entry.config,
            noreplace=entry.config,
            license=entry.license,
            **who,
        )
        builder.with_file_contents(entry.content, options)


def _unique(dependencies: Iterable[Dependency]) -> list[Dependency]:
    return sorted(set(dependencies), key=str)
