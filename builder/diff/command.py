"""``hallmark diff A B``: find out what A and B are, compare them, print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder import log
from builder.diff.images import of_image, plan_of
from builder.diff.locks import of_lock
from builder.diff.model import Side, compare
from builder.diff.plans import of_plan
from builder.diff.show import show
from builder.errors import HallmarkError
from builder.recipe import Plan, Reference, find, load, plan
from builder.workspace import Artefacts

__all__ = ["EXIT_DIFFERENT", "diff_command"]

#: The status when something differs; 1 says that the work could not be done, 2 that the command is wrong.
EXIT_DIFFERENT = 3

Kind = Literal["recipe", "lock", "image"]


@dataclass(frozen=True, slots=True)
class _Operand:
    """What the user named."""

    text: str
    kind: Kind
    path: Path
    variant: str = ""

    @classmethod
    def of(cls, text: str) -> _Operand:
        """A directory of a build or a file in it, a lock, or else a recipe by name or path."""
        path = Path(text)
        if path.is_dir():
            return cls._image(text, path)
        if text.endswith((".lock.yaml", ".lock.yml")):
            return cls(text, "lock", path)
        if path.is_file() and path.suffix not in (".yaml", ".yml"):
            return cls._image(text, path.parent)
        reference = find(text)
        return cls(text, "recipe", reference.path, reference.variant)

    @classmethod
    def _image(cls, text: str, directory: Path) -> _Operand:
        artefacts = Artefacts(directory.resolve())
        if not artefacts.plan.exists():
            raise HallmarkError(
                "there is no plan.json in the directory",
                where=directory,
                why="an image is compared by what its build recorded beside it",
                hint="name a directory that a build made, such as build/sample-9/9.20261121.0",
            )
        return cls(text, "image", artefacts.root)

    def plan(self) -> Plan:
        """The plan of an image, or the one that a build of the recipe would begin with."""
        if self.kind == "image":
            return plan_of(Artefacts(self.path))
        recipe = load(Reference(self.path, self.variant))
        return plan(recipe, version="0.19700101.0", source_date_epoch=0)


def diff_command(before: str, after: str, *, json: bool, whole: bool) -> int:
    """Print what differs; 0 if nothing does, ``EXIT_DIFFERENT`` if something does.

    :param json: one event for programs instead of tables.
    :param whole: print long sections to their end.
    :raises HallmarkError: one of the two is nothing that can be compared, or they can't be compared.
    """
    difference = compare(*_sides(_Operand.of(before), _Operand.of(after)))
    if json:
        log.event("diff", **difference.to_dict())
    else:
        show(difference, whole=whole)
    return 0 if difference.equal else EXIT_DIFFERENT


def _sides(one: _Operand, two: _Operand) -> tuple[Side, Side]:
    kinds = {one.kind, two.kind}
    if kinds == {"lock"}:
        return of_lock(one.path), of_lock(two.path)
    if kinds == {"image"}:
        return of_image(one.text, Artefacts(one.path)), of_image(two.text, Artefacts(two.path))
    if "lock" not in kinds:
        # An image and a recipe have one thing in common: a plan.
        return of_plan(one.text, one.plan()), of_plan(two.text, two.plan())
    other = one if two.kind == "lock" else two
    raise HallmarkError(
        f"a lock can't be compared with the {other.kind} {other.text}",
        why="a lock holds digests of package files; nothing else knows them",
        hint="compare two recipes, two locks or two images",
    )
