"""Finding release records in the workspace."""

from __future__ import annotations

from builder.errors import HallmarkError
from builder.publish.release import Release
from builder.versions import parse as parse_version
from builder.workspace import Artefacts, Workspace

__all__ = ["of_recipe", "one", "records"]


def records(workspace: Workspace) -> list[tuple[Artefacts, Release]]:
    """Every release record below the build directory: recipes by name, newest version first.

    :raises HallmarkError: a record can't be read, or lies in another place than it says.
    """
    found = []
    for path in sorted(workspace.build.glob("*/*/release.json")):
        home = path.parent
        if home.is_symlink() or home.parent.name.startswith(".") or home.parent == workspace.catalog:
            continue  # `latest` is one of the others
        release = Release.read(path)
        if (release.recipe, release.version) != (home.parent.name, home.name):
            raise HallmarkError(
                f"this is the record of {release.recipe} {release.version}",
                where=path,
                why="the catalog would offer one release under another's name",
                hint="delete the copied record and publish that version again",
            )
        found.append((Artefacts(home), release))
    found.sort(key=lambda item: parse_version(item[1].version), reverse=True)
    found.sort(key=lambda item: item[1].recipe)
    return found


def of_recipe(workspace: Workspace, recipe: str) -> list[tuple[Artefacts, Release]]:
    """The releases of one recipe, newest version first.

    :raises HallmarkError: there is none.
    """
    found = [item for item in records(workspace) if item[1].recipe == recipe]
    if not found:
        raise HallmarkError(
            f"nothing of {recipe} is published",
            where=workspace.build / recipe,
            hint=f"publish it first: hallmark publish {recipe}",
        )
    return found


def one(workspace: Workspace, recipe: str, version: str | None) -> tuple[Artefacts, Release]:
    """The release of this version, or the newest.

    :raises HallmarkError: there is no such release.
    """
    found = of_recipe(workspace, recipe)
    if version is None:
        return found[0]
    for item in found:
        if item[1].version == version:
            return item
    raise HallmarkError(
        f"{recipe} {version} is not published",
        where=workspace.build / recipe,
        hint="published are " + ", ".join(release.version for _, release in found),
    )
