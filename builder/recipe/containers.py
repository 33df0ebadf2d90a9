"""The part of a plan that makes it one of a container image."""

from __future__ import annotations

import shlex
from typing import Any

from builder.recipe import model
from builder.recipe.load import Recipe
from builder.recipe.merge import Tree, settled
from builder.recipe.violations import Violation

__all__ = ["NO_MACHINE", "container"]

#: What a plan says of the machine that a container doesn't have. Its files get their SELinux label from the
#: engine that runs it.
NO_MACHINE: dict[str, Any] = {
    "services": model.Services(),
    "kernel": model.Kernel(arguments=()),
    "dracut": model.Dracut(),
    "selinux": model.Selinux(mode="disabled"),
    "bootloader": model.Bootloader(),
    "disk": model.DiskSpec(size_mib=0, generations=()),
    "outputs": ("oci",),
}
_NEEDED = {
    "user": "without it the program would run as root",
    "home": "a user whom the image doesn't know needs a place to write",
    "command": "nothing says what runs",
}


def container(recipe: Recipe) -> tuple[model.Container | None, list[Violation]]:
    """What the engine is told, of a recipe for a container; and what is missing in it."""
    tree = recipe.tree.children.get("container")
    if not isinstance(tree, Tree):
        return None, []
    data = settled(tree)
    wrong = [
        Violation(
            "HM007", tree.where, f"container.{key} is missing", why, "set it, or extend a layer that does"
        )
        for key, why in _NEEDED.items()
        if key not in data and (key != "command" or "entrypoint" not in data)
    ]
    if wrong:
        return None, wrong
    home = str(data["home"])
    made = model.Container(
        user=data["user"],
        home=home,
        workdir=str(data.get("workdir", home)),
        writable=tuple(dict.fromkeys((home, *map(str, data.get("writable", ()))))),
        ports=tuple(data.get("ports", ())),
        entrypoint=tuple(shlex.split(str(data.get("entrypoint", "")))),
        command=tuple(shlex.split(str(data.get("command", "")))),
        environment={key: str(value) for key, value in sorted(data.get("environment", {}).items())},
        labels={key: str(value) for key, value in sorted(data.get("labels", {}).items())},
        where=model.Origin(path=str(tree.where.path), line=tree.where.line),
    )
    return made, []
