"""The catalog as data: what ``catalog.json`` holds. Consumers read this; the page is made from the same."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from builder.publish.release import Release, Transition
from builder.recipe.support import SupportEnd

__all__ = ["Catalog", "Channel", "Entry", "Package"]


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


class Channel(_Frozen):
    """What consumers of a recipe should take: ``current`` is its newest released version, None if there is
    none. After a rollback ``rolled_back`` says which change that was.
    """

    current: str | None
    rolled_back: Transition | None = None


class Catalog(_Frozen):
    """Every release, newest first within a recipe. ``updated`` is the last time that a release changed;
    ``channels`` maps each recipe to what is current in it.
    """

    schema_version: Literal[1] = 1
    updated: datetime | None
    releases: tuple[Entry, ...]
    channels: dict[str, Channel]

    def recipes(self) -> dict[str, tuple[Entry, ...]]:
        """The releases of each recipe, by its name."""
        names = dict.fromkeys(entry.release.recipe for entry in self.releases)
        return {name: tuple(e for e in self.releases if e.release.recipe == name) for name in names}

    def shown(self, recipe: str) -> Entry:
        """The release that stands for the recipe: the current one, or what comes nearest to it."""
        entries = self.recipes()[recipe]
        for state in ("released", "staged", "deprecated"):
            for entry in entries:
                if entry.release.state == state:
                    return entry
        return entries[0]

    @classmethod
    def of(cls, entries: tuple[Entry, ...]) -> Catalog:
        """The catalog of these releases, which are in order already."""
        releases = [entry.release for entry in entries]
        changes = [item.history[-1] for item in releases]
        return cls(
            updated=max((made.when for made in changes), default=None),
            releases=entries,
            channels={
                name: _channel([item for item in releases if item.recipe == name])
                for name in dict.fromkeys(item.recipe for item in releases)
            },
        )


def _channel(releases: list[Release]) -> Channel:
    last = max((item.history[-1] for item in releases), key=lambda made: (made.when, made.rollback or ""))
    current = next((item.version for item in releases if item.state == "released"), None)
    return Channel(current=current, rolled_back=last if last.rollback else None)
