"""Which images this program can boot, and so certify: those for its emulator's one kind of processor."""

from __future__ import annotations

from builder.errors import HallmarkError
from builder.recipe import Plan, find, load, plan
from builder.recipe.model import Architecture

__all__ = ["BOOTED", "must_boot", "must_boot_of"]

#: What the guests of a look are: machines of ``builder.vm.qemu``.
BOOTED: Architecture = "x86_64"


def must_boot(decided: Plan) -> None:
    """Refuse, before anything is done with it, an image that would have to be booted here and can't be.

    :raises HallmarkError: it is a machine's, and for another processor.
    """
    if decided.container is None and decided.architecture != BOOTED:
        raise HallmarkError(
            f"images of {decided.architecture} are built, but can't be booted and so not certified here yet",
            where=decided.recipe,
            why=f"the guests that Hallmark boots are {BOOTED} machines, and an image that nobody saw booting "
            "gets no certificate",
            hint=f"on an {decided.architecture} host, `hallmark build {decided.recipe}` makes it for trials",
        )


def must_boot_of(recipe: str) -> None:
    """The same of a recipe, before its image is built.

    :raises HallmarkError: as ``must_boot``, or the recipe is wrong.
    """
    # The version decides nothing here.
    must_boot(plan(load(find(recipe)), version="0.19700101.0", source_date_epoch=0))
