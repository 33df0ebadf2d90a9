"""A lock's side: the exact packages (``images/locks/RECIPE.lock.yaml``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from builder.diff.model import Section, Side
from builder.recipe.lock import load_lock

__all__ = ["evr", "of_lock", "versions"]


def of_lock(path: Path) -> Side:
    """The packages of a lock, each with its digest and repository.

    :raises HallmarkError: the file is no lock.
    """
    entries = (
        (f"{item.name}.{item.arch}", f"{item.evr} repository={item.repository} sha256={item.sha256}")
        for item in load_lock(path).packages
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
