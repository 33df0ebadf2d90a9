"""The images that were built before: which there is, and whether it is still as its build left it."""

from __future__ import annotations

from builder import log, versions
from builder.diff.images import plan_of
from builder.errors import HallmarkError
from builder.recipe import Plan, name_of
from builder.stages import output_of, read_stamp
from builder.workspace import Artefacts, Workspace

__all__ = ["existing"]


def existing(
    workspace: Workspace, recipe: str, *, version: str | None = None, certified: bool = False
) -> tuple[Artefacts, Plan]:
    """The image of a recipe that was built before, checked to be as the build left it.

    :param version: this one; without it the newest that is there with every output. One that a failed or a
        running build has only begun doesn't hide the image before it.
    :param certified: every byte will be compared with a certificate; so the files may have been built by
        another machine and come from a store that keeps no times, as those of CI systems do.
    :raises HallmarkError: there is none, it was changed since it was built, or its plan can't be read.
    """
    name = name_of(recipe)
    begun = [workspace.artefacts(name, version)] if version else versions.begun(workspace, name)
    found = next(((place, plan) for place in begun if (plan := _complete(place)) is not None), None)
    if found is None:
        raise HallmarkError(
            f"there is no image of {name}" + (f" {version}" if version else ""),
            where=workspace.build / name,
            hint=f"build it first: hallmark build {name}",
        )
    place, plan = found
    if place != begun[0]:
        log.info(f"{name} {begun[0].root.name} has no image: taking the one of {place.root.name}")
    for stage in () if certified else ("image", "formats"):
        stamp = read_stamp(place, stage)
        for output, left in stamp.outputs.items() if stamp else ():
            path = place.root / output
            if not path.exists() or output_of(path) != left:
                raise HallmarkError(
                    "the image is not as the build left it: its size or modification time differ",
                    where=path,
                    why="a certificate speaks for the bytes that the recipe produced",
                    hint=f"build it again: hallmark build {name}",
                )
    return place, plan


def _complete(place: Artefacts) -> Plan | None:
    """The plan of a version that has every output of it, else None."""
    if not any(place.output(kind).exists() for kind in ("vhd", "oci")):
        return None  # whoever began it got no further
    plan = plan_of(place)
    return plan if all(place.output(kind).exists() for kind in plan.outputs) else None
