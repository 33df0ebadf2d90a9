"""A recipe's side: what its plan asks for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from builder.diff.model import Section, Side
from builder.recipe.model import Plan

__all__ = ["arguments", "of_plan", "settings"]

# What says which build it is rather than what is built, and what has a section of its own.
_NO_SETTING = {
    *("recipe", "version", "source_date_epoch", "identifiers"),
    *("repositories", "packages", "files", "scripts", "services", "kernel"),
}


def of_plan(name: str, plan: Plan) -> Side:
    """Every section that a plan can fill."""
    requests = dict.fromkeys((request.name for request in plan.packages.install), "install")
    services: dict[str, str] = {}
    for state, units in plan.services.model_dump().items():
        services |= dict.fromkeys(units, state)
    return Side(
        name,
        {
            "settings": settings(plan),
            "repositories": {
                item.id: " ".join(
                    (item.embedded or item.metalink or item.baseurl or "", "key", item.fingerprint)
                )
                for item in plan.repositories
            },
            "packages": requests | dict.fromkeys(plan.packages.exclude, "exclude"),
            "kernel arguments": arguments(plan.kernel.arguments),
            "kernel modules": dict.fromkeys(plan.kernel.drivers, "in the initramfs")
            | dict.fromkeys(plan.kernel.blacklist, "blacklisted"),
            "services": services,
            "scripts": {item.name: f"sha256={_digest(item.content)}" for item in plan.scripts},
            "files": {
                item.path: f"mode={item.mode:04o} owner={item.owner}:{item.group}"
                f" size={len(item.content.encode())} sha256={_digest(item.content)}"
                for item in plan.files
            },
        },
    )


def settings(plan: Plan) -> Section:
    """The plan's remaining values by dotted path."""
    return dict(_flatten(plan.model_dump(mode="json", exclude=_NO_SETTING), ""))


def arguments(words: Iterable[str]) -> Section:
    """Kernel arguments by name: ``console`` is ``tty1 ttyS0``; one without a value has an empty text.

    Every image has identifiers of its own, so which root filesystem is meant is no difference.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for word in words:
        name, _, value = word.partition("=")
        if name == "root" and value.startswith("UUID="):
            value = "UUID"
        found[name].append(value)
    return {name: " ".join(values) for name, values in found.items()}


def _flatten(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "where":
                continue  # a line of a recipe: moving it changes no image
            yield from _flatten(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _flatten(item, f"{path}.{number}")
    else:
        yield path, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
