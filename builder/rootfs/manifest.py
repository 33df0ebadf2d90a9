"""What is in the image: ``packages.json``, read from the image's own rpm database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from builder.errors import HallmarkError
from builder.recipe.lock import Lock
from builder.rootfs.repositories import TrustedRepository
from builder.run import run
from builder.workspace import atomic_file

__all__ = [
    "Package",
    "check_lock",
    "check_signatures",
    "load",
    "origins",
    "parse",
    "read",
    "read_files",
    "write",
]

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
    every file and is what the signature covers; None in packages that rpm before 4.14 made.
    ``signature_key``: id of the key that signed it (16 hexadecimal digits, lower case).
    ``repository``: where it came from, if dnf said so. ``source``: file name of the source package.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    epoch: int = 0
    version: str
    release: str
    arch: str
    size: int
    sha256: str | None
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


def read(*, rpmdb: Path, transaction: Path | None = None) -> tuple[Package, ...]:
    """The packages in the rpm database directory ``rpmdb``, sorted by name.

    :param transaction: what dnf's plugin wrote down; says which repository each package came from.
    :raises HallmarkError: the database holds no package.
    """
    listing = run(("rpm", "--dbpath", str(rpmdb), "-qa", "--qf", _FORMAT)).stdout
    packages = parse(listing, repositories=origins(transaction) if transaction else {})
    if not packages:
        raise HallmarkError("the rpm database holds no package", where=rpmdb)
    return packages


def read_files(paths: Sequence[Path]) -> tuple[Package, ...]:
    """What the headers of package files say, in the order of ``paths``. Signatures are named, not checked."""
    listing = run(("rpm", "-qp", "--nosignature", "--nodigest", "--qf", _FORMAT, *paths)).stdout
    return tuple(_package(line) for line in listing.splitlines())


def parse(listing: str, *, repositories: dict[tuple[str, ...], str] | None = None) -> tuple[Package, ...]:
    """Packages from the output of the query; imported keys (``gpg-pubkey``) are no packages."""
    packages = [_package(line, repositories) for line in listing.splitlines()]
    packages = [item for item in packages if item.name != "gpg-pubkey"]
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


def check_lock(packages: Sequence[Package], lock: Lock) -> None:
    """Hold the installed packages against the lock; dnf's plugin did before, from the repositories' metadata.

    :raises HallmarkError: one is missing, one is too many, or another key signed it.
    """
    installed = {(item.nevra, item.signature_key, item.repository) for item in packages}
    wanted = {(item.nevra, item.key, item.repository) for item in lock.packages}
    if installed == wanted:
        return
    raise HallmarkError(
        "the installed packages are not those of the lock",
        where=f"recipe {lock.recipe}",
        why="a locked build installs exactly the lock's packages",
        hint=f"the log says what dnf did; if the lock is wrong: `hallmark lock {lock.recipe} --update`",
        details=[
            f"{what}: {nevra} from {repository}, key {key}"
            for what, items in (("not in the lock", installed - wanted), ("missing", wanted - installed))
            for nevra, key, repository in sorted(items, key=str)[:10]
        ],
    )


def write(packages: Sequence[Package], path: Path) -> None:
    """Write ``packages.json``: a list of objects with the fields of ``Package``."""
    data = [item.model_dump(mode="json") for item in packages]
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[Package, ...]:
    """Read ``packages.json`` back."""
    return tuple(Package.model_validate(item) for item in json.loads(path.read_text(encoding="utf-8")))


def _package(line: str, repositories: dict[tuple[str, ...], str] | None = None) -> Package:
    name, epoch, version, release, arch, size, sha256, vendor, licence, source, signature = line.split("\t")
    return Package(
        name=name,
        epoch=int(epoch),
        version=version,
        release=release,
        arch=arch,
        size=int(size),
        sha256=_known(sha256),
        signature_key=signature.rpartition("Key ID ")[2].strip().lower() or None,
        vendor=_known(vendor),
        licence=_known(licence),
        repository=(repositories or {}).get((name, epoch, version, release, arch)),
        source=_known(source),
    )


def _known(value: str) -> str | None:
    return None if value in ("", _NONE) else value


def origins(transaction: Path) -> dict[tuple[str, ...], str]:
    """The repository of each package (name, epoch, version, release, arch), from what dnf's plugin wrote."""
    keys = ("name", "epoch", "version", "release", "arch")
    packages = json.loads(transaction.read_text(encoding="utf-8"))
    return {tuple(str(item[key]) for key in keys): item["repository"] for item in packages}
