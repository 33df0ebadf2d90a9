"""Where .NET is on a disk and which runtimes are there, by the layout that its own resolver expects."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from certification.views.inventory import Inventory

__all__ = ["ROOTS", "DotnetRoot", "Runtime", "dotnet_roots"]

#: Known places: the distribution's, Debian's, Microsoft's packages, and hand-made copies.
ROOTS = (
    "/usr/lib64/dotnet",
    "/usr/lib/dotnet",
    "/usr/share/dotnet",
    "/opt/dotnet",
    "/root/.dotnet",
    "/usr/local/share/dotnet",
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A shared framework: ``name`` (Microsoft.NETCore.App), exact ``version``, and its directory."""

    name: str
    version: str
    path: str

    @property
    def channel(self) -> str:
        """Major and minor version, as Microsoft names its support channels: ``8.0``."""
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class DotnetRoot:
    """One .NET root with its frameworks, resolvers (``host/fxr`` versions) and SDKs."""

    path: str
    runtimes: tuple[Runtime, ...]
    resolvers: tuple[str, ...]
    sdks: tuple[str, ...]


def dotnet_roots(inventory: Inventory) -> list[DotnetRoot]:
    """Every directory with a ``shared/Microsoft.NETCore.App`` or ``host/fxr`` in it."""
    places = set(ROOTS)
    for entry in inventory:
        match = re.fullmatch(r"(.+)/(?:shared/Microsoft\.NETCore\.App|host/fxr)", entry.path)
        if match and entry.type == "d":
            places.add(match[1])
    found: dict[str, DotnetRoot] = {}
    for place in sorted(places):
        real = inventory.resolve(place)
        if real is None or real in found:
            continue
        runtimes = tuple(
            Runtime(posixpath.basename(framework.path), posixpath.basename(version.path), version.path)
            for framework in inventory.children(f"{real}/shared")
            for version in inventory.children(framework.path)
            if version.type == "d"
        )
        resolvers = _versions(inventory, f"{real}/host/fxr")
        if runtimes or resolvers:
            found[real] = DotnetRoot(real, runtimes, resolvers, _versions(inventory, f"{real}/sdk"))
    return list(found.values())


def _versions(inventory: Inventory, directory: str) -> tuple[str, ...]:
    names = [posixpath.basename(entry.path) for entry in inventory.children(directory) if entry.type == "d"]
    return tuple(
        sorted((name for name in names if _version(name)), key=lambda name: _version(name) or Version("0"))
    )


def _version(name: str) -> Version | None:
    try:
        return Version(name)
    except InvalidVersion:
        return None
