"""A lock's side: the exact packages (``images/locks/RECIPE.lock.yaml``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from builder.diff.model import Section, Side
from builder.errors import HallmarkError

__all__ = ["evr", "of_lock", "versions"]


class _Package(BaseModel):
    # What else a lock says of a package doesn't tell two locks apart.
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    name: str
    epoch: int = 0
    version: str
    release: str
    arch: str
    sha256: str
    repository: str


class _Lock(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    packages: tuple[_Package, ...]


def of_lock(path: Path) -> Side:
    """The packages of a lock, each with its digest and repository.

    :raises HallmarkError: the file is no lock.
    """
    try:
        # No type but text: a version such as 9.10 is no number.
        lock = _Lock.model_validate(yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader))
    except OSError as error:
        raise HallmarkError(f"cannot read the lock: {error.strerror}", where=path) from None
    except (UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise HallmarkError("the file is no lock", where=path, details=str(error).splitlines()[:5]) from None
    entries = (
        (
            f"{item.name}.{item.arch}",
            f"{evr(item.epoch, item.version, item.release)}"
            f" repository={item.repository} sha256={item.sha256}",
        )
        for item in lock.packages
    )
    return Side(str(path), {"packages": versions(entries)})


def evr(epoch: int, version: str, release: str) -> str:
    """Epoch, if it isn't 0, version and release as dnf writes them."""
    return f"{epoch}:{version}-{release}" if epoch else f"{version}-{release}"


def versions(entries: Iterable[tuple[str, str]]) -> Section:
    """Values by name; those of packages that are there in several versions (kernels) side by side."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in entries:
        found[name].append(value)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}
