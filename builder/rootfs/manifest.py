"""What is in the image: ``packages.json``, read from the image's own rpm database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from builder.errors import HallmarkError
from builder.rootfs.repositories import TrustedRepository
from builder.run import run
from builder.workspace import atomic_file

__all__ = ["Package", "check_signatures", "load", "parse", "read", "write"]

_SIGNATURE = "".join(
    f"%|{tag}?{{%{{{tag}:pgpsig}}}}:{{" for tag in ("RSAHEADER", "DSAHEADER", "SIGGPG", "SIGPGP")
)
_SIGNATURE += "}|" * 4
_FIELDS = (
    "NAME",
    "EPOCHNUM",
    "VERSION",
    "RELEASE",
    "ARCH",
    "SIZE",
    "SHA256HEADER",
    "VENDOR",
    "LICENSE",
    "SOURCERPM",
)
_FORMAT = "".join(f"%{{{field}}}\\t" for field in _FIELDS) + _SIGNATURE + "\\n"
_NONE = "(none)"


class Package(BaseModel):
    """One installed package.

    ``size``: bytes when installed. ``sha256``: digest of the package's header, which holds the digest of
    every file and is what the signature covers. ``signature_key``: id of the key that signed it (16
    hexadecimal digits, lower case).
    ``repository``: where it came from, if dnf said so. ``source``: file name of the source package.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    epoch: int = 0
    version: str
    release: str
    arch: str
    size: int
    sha256: str
    signature_key: str | None = None
    vendor: str | None = None
    licence: str | None = None
    repository: str | None = None
    source: str | None = None

    @property
    def nevra(self) -> str:
        """Name, epoch if it isn't 0, version, release and architecture, as dnf writes them."""
        epoch = f"{self.epoch}:" if self.epoch else ""
        return f"{self.name}-{epoch}{self.version}-{self.release}.{self.arch}"


def read(*, rpmdb: Path, history: Path | None = None) -> tuple[Package, ...]:
    """The packages in the rpm database directory ``rpmdb``, sorted by name.

    :param history: dnf's history.sqlite of the same root; says which repository each package came from.
    :raises HallmarkError: the database holds no package.
    """
    listing = run(("rpm", "--dbpath", str(rpmdb), "-qa", "--qf", _FORMAT)).stdout
    packages = parse(listing, repositories=_origins(history) if history and history.exists() else {})
    if not packages:
        raise HallmarkError("the rpm database holds no package", where=rpmdb)
    return packages


def parse(listing: str, *, repositories: dict[tuple[str, ...], str] | None = None) -> tuple[Package, ...]:
    """Packages from the output of the query; imported keys (``gpg-pubkey``) are no packages."""
    packages = []
    for line in listing.splitlines():
        name, epoch, version, release, arch, size, sha256, vendor, licence, source, signature = line.split(
            "\t"
        )
        if name == "gpg-pubkey":
            continue
        packages.append(
            Package(
                name=name,
                epoch=int(epoch),
                version=version,
                release=release,
                arch=arch,
                size=int(size),
                sha256=sha256,
                signature_key=signature.rpartition("Key ID ")[2].strip().lower() or None,
                vendor=_known(vendor),
                licence=_known(licence),
                repository=(repositories or {}).get((name, epoch, version, release, arch)),
                source=_known(source),
            )
        )
    return tuple(
        sorted(packages, key=lambda item: (item.name, item.arch, item.epoch, item.version, item.release))
    )


def check_signatures(packages: Sequence[Package], repositories: Sequence[TrustedRepository]) -> None:
    """Hold every package's signing key against the pinned keys: a second lock behind dnf's own.

    :raises HallmarkError: a package is unsigned or signed by another key.
    """
    known = {key for repository in repositories for key in repository.key_ids}
    bad = [item for item in packages if item.signature_key not in known]
    if bad:
        raise HallmarkError(
            f"{len(bad)} installed packages are not signed by a pinned key",
            why="they could come from anybody",
            hint="a script of the recipe may have installed them; install from a pinned repository instead",
            details=[f"{item.nevra}: {item.signature_key or 'no signature'}" for item in bad[:10]],
        )


def write(packages: Sequence[Package], path: Path) -> None:
    """Write ``packages.json``: a list of objects with the fields of ``Package``."""
    data = [item.model_dump(mode="json") for item in packages]
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[Package, ...]:
    """Read ``packages.json`` back."""
    return tuple(Package.model_validate(item) for item in json.loads(path.read_text(encoding="utf-8")))


def _known(value: str) -> str | None:
    return None if value in ("", _NONE) else value


def _origins(history: Path) -> dict[tuple[str, ...], str]:
    connection = sqlite3.connect(history)
    try:
        rows = connection.execute(
            "SELECT rpm.name, rpm.epoch, rpm.version, rpm.release, rpm.arch, repo.repoid"
            " FROM trans_item JOIN rpm ON trans_item.item_id = rpm.item_id"
            " JOIN repo ON trans_item.repo_id = repo.id"
        ).fetchall()
    finally:
        connection.close()
    return {tuple(str(value) for value in row[:5]): row[5] for row in rows}
