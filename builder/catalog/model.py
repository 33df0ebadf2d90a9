"""The catalog as data: what ``catalog.json`` holds. Consumers read this; the page is made from the same."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from builder.publish.release import Release
from builder.recipe.support import SupportEnd

__all__ = ["Catalog", "Entry", "Package"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Package(_Frozen):
    """One installed package. ``evr`` is ``[epoch:]version-release``."""

    name: str
    evr: str
    arch: str


class Entry(_Frozen):
    """One release in the catalog.

    ``files`` maps what a file is (``certificate``, ``report``, ``sbom``, ``packages``, ``release``) to its
    path relative to the catalog. ``highlights`` are the packages that people choose an image by. ``support``
    tells until when the suppliers maintain the release and each .NET channel in it, the earliest end first.
    """

    release: Release
    files: dict[str, str]
    package_count: int
    highlights: tuple[Package, ...] = ()
    support: tuple[SupportEnd, ...] = ()


class Catalog(_Frozen):
    """Every release, newest first within a recipe. ``updated`` is the last time that a release changed."""

    schema_version: Literal[1] = 1
    updated: datetime | None
    releases: tuple[Entry, ...]

    def recipes(self) -> dict[str, tuple[Entry, ...]]:
        """The releases of each recipe, by its name."""
        names = dict.fromkeys(entry.release.recipe for entry in self.releases)
        return {name: tuple(e for e in self.releases if e.release.recipe == name) for name in names}
