"""A built image's side: what its build recorded beside it."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from builder.diff import tree
from builder.diff.locks import evr, versions
from builder.diff.model import Section, Side
from builder.diff.plans import settings
from builder.errors import HallmarkError
from builder.image import outputs
from builder.image.vhd import FOOTER_SIZE
from builder.recipe.model import Plan
from builder.rootfs import manifest
from builder.workspace import Artefacts

__all__ = ["of_image", "plan_of"]


def of_image(name: str, artefacts: Artefacts) -> Side:
    """Every section that the artefacts of one build can fill; what is not there is named.

    :raises HallmarkError: an artefact is damaged.
    """
    plan = plan_of(artefacts)
    sections: dict[str, Section] = {"settings": settings(plan)}
    missing = {}
    sizes: dict[str, str] = {}
    if artefacts.packages.exists():
        packages = _packages(artefacts)
        sections["packages"] = versions(
            (
                f"{item.name}.{item.arch}",
                f"{evr(item.epoch, item.version, item.release)}"
                f" key={item.signature_key} sha256={item.sha256}",
            )
            for item in packages
        )
        sizes["packages, installed bytes"] = str(sum(item.size for item in packages))
        sizes["packages, number"] = str(len(packages))
    else:
        missing["packages"] = _absent(artefacts.packages)
    if artefacts.rootfs.exists():
        sections |= tree.read(artefacts.rootfs)
        sizes["files, number"] = str(len(sections["files"]))
        sizes["root filesystem, bytes"] = str(artefacts.rootfs.stat().st_size)
    else:
        for section in ("kernel arguments", "services", "users", "groups", "files"):
            missing[section] = _absent(artefacts.rootfs)
    if artefacts.results.exists():
        sections["requirements"] = _verdicts(artefacts.results)
    else:
        missing["requirements"] = "it was never certified"
    if plan.container is None and artefacts.image.exists():
        sizes["disk, bytes"] = str(artefacts.image.stat().st_size - FOOTER_SIZE)
    for item in outputs.load(artefacts.outputs):
        sizes[f"{item.name}, bytes"] = str(item.size)
    return Side(f"{name} ({plan.recipe} {plan.version})", {**sections, "sizes": sizes}, missing)


def plan_of(artefacts: Artefacts) -> Plan:
    """The plan that an image was built from.

    :raises HallmarkError: there is none, or it can't be read.
    """
    try:
        return Plan.model_validate_json(artefacts.plan.read_bytes())
    except OSError as error:
        raise HallmarkError(f"cannot read the plan: {error.strerror}", where=artefacts.plan) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise HallmarkError(
            ": ".join(filter(None, ("this is no plan", ".".join(map(str, first["loc"])), first["msg"]))),
            where=artefacts.plan,
            why="it is damaged, or another version of Hallmark wrote it",
            hint=f"build the image anew: hallmark build {artefacts.root.parent.name}",
        ) from None


def _packages(artefacts: Artefacts) -> tuple[manifest.Package, ...]:
    try:
        return manifest.load(artefacts.packages)
    except (OSError, ValueError, TypeError) as error:
        raise HallmarkError(f"this is no list of packages: {error}", where=artefacts.packages) from None


def _verdicts(path: Path) -> Section:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        return {item["requirement"]: f"{item['verdict']} ({item['severity']})" for item in results}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise HallmarkError(f"these are no results of a certification: {error}", where=path) from None


def _absent(path: Path) -> str:
    return f"there is no {path.name}"
