"""Finding release records in the workspace."""

from __future__ import annotations

from pathlib import Path

from builder.errors import HallmarkError
from builder.publish.release import Release
from builder.versions import parse as parse_version
from builder.workspace import Artefacts, Workspace

__all__ = ["of_recipe", "one", "records"]


def records(workspace: Workspace) -> list[tuple[Artefacts, Release]]:
    """Every release record below the build directory: recipes by name, newest version first.

    :raises HallmarkError: a record can't be read, or lies in another place than it says.
    """
    return _read(_homes(workspace))


def of_recipe(workspace: Workspace, recipe: str) -> list[tuple[Artefacts, Release]]:
    """The releases of one recipe, newest version first. Other recipes' records may be damaged.

    :raises HallmarkError: there is none, or one can't be read.
    """
    return _read(_homes_of(workspace, recipe))


def one(workspace: Workspace, recipe: str, version: str | None) -> tuple[Artefacts, Release]:
    """The release of this version, or the newest. With a version no other record is read.

    :raises HallmarkError: there is no such release, or its record can't be read.
    """
    homes = _homes_of(workspace, recipe)
    if version is None:
        return _read(homes)[0]
    wanted = [home for home in homes if home.name == version]
    if not wanted:
        raise HallmarkError(
            f"{recipe} {version} is not published",
            where=workspace.build / recipe,
            hint="published are " + ", ".join(home.name for home in homes),
        )
    return _read(wanted)[0]


def _homes(workspace: Workspace) -> list[Path]:
    """The directories that have a record; ``latest`` is one of the others."""
    found = (path.parent for path in sorted(workspace.build.glob("*/*/release.json")))
    return [
        home
        for home in found
        if not (home.is_symlink() or home.parent.name.startswith(".") or home.parent == workspace.catalog)
    ]


def _homes_of(workspace: Workspace, recipe: str) -> list[Path]:
    homes = [home for home in _homes(workspace) if home.parent.name == recipe]
    if not homes:
        raise HallmarkError(
            f"nothing of {recipe} is published",
            where=workspace.build / recipe,
            hint=f"publish it first: hallmark publish {recipe}",
        )
    return homes


def _read(homes: list[Path]) -> list[tuple[Artefacts, Release]]:
    found = []
    for home in homes:
        artefacts = Artefacts(home)
        release = Release.read(artefacts.release)
        if (release.recipe, release.version) != (home.parent.name, home.name):
            raise HallmarkError(
                f"this is the record of {release.recipe} {release.version}",
                where=artefacts.release,
                why="the catalog would offer one release under another's name",
                hint="delete the copied record and publish that version again",
            )
        found.append((artefacts, release))
    found.sort(key=lambda item: parse_version(item[1].version), reverse=True)
    found.sort(key=lambda item: item[1].recipe)
    return found
