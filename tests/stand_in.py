"""Recipes of real distributions, built from the sample distribution: ``./ci/nox -s try -- RECIPE…``.

Whatever an image of a vendor's recipe must be, such an image is, except the vendor's. So exactly the
requirements about provenance and identity fail. Without names, every recipe of Enterprise Linux 8 to 10 is
tried; ``--boot`` boots each, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from builder import log
from builder.built import existing
from builder.certify import certify
from builder.errors import HallmarkError
from builder.looks import views_of
from builder.pipeline import Pipeline
from builder.recipe import Plan, load, names
from builder.vm.acceleration import probe
from builder.workspace import PROJECT, Artefacts, Workspace
from certification import judge, observe

__all__ = ["IDENTITY", "MIRROR", "build", "refused", "refused_when_booted"]

MIRROR = PROJECT / "images" / "sample-distribution" / "mirror.yaml"
_IMAGES = PROJECT / "images"

#: What only the vendor's own content meets: its signatures, its kernel, and its release package, which says
#: who the system is and brings repositories and public keys. (What is asked of RHEL alone, a subscription for
#: example, is not asked of a guest that doesn't say that it is RHEL.) What else the sample's content lacks is
#: waived, visibly, in images/waivers/sample-content.yaml.
IDENTITY = frozenset(
    {
        "azure.secureboot-chain-offline",
        "ccsp.kernel-module-provenance",
        "ccsp.kernel-release-match",
        "ccsp.kernel-vendor",
        "ccsp.os-version-consistent",
        "ccsp.repos-configured",
        "ccsp.rpm-nonvendor-declared",
        "ccsp.rpm-provenance",
        "ccsp.rpm-signing-keys",
        "dotnet.packages-vendor",
        "security.gpgcheck-key-files",
    }
)


def build(workspace: Workspace, recipe: str) -> Artefacts:
    """The recipe's image, with the sample distribution in the place of its repositories."""
    return Pipeline(workspace, recipe, mirrors=MIRROR).build()


def refused(workspace: Workspace, artefacts: Artefacts) -> dict[str, str]:
    """What fails in the unbooted views, by requirement, and why.

    :raises HallmarkError: a look came to no good end.
    """
    _, plan = existing(workspace, artefacts.root.parent.name, version=artefacts.root.name)
    looks = []
    for view in ("format", "disk"):
        out = artefacts.root / "observations" / view
        observe.observe(
            view,
            artefacts.image,
            out=out,
            logs=artefacts.log,
            claim=f"{plan.distribution.id}:{plan.distribution.release}",
            force_tcg=probe(cache=workspace.cache).kind == "tcg",
        )
        looks.append(out / "observations.jsonl")
    return _failures(plan, looks)


def refused_when_booted(workspace: Workspace, artefacts: Artefacts) -> dict[str, str]:
    """The same of the whole certification, which boots the image with every firmware that it is made for.

    :raises HallmarkError: a look came to no good end, or the image got a certificate.
    """
    _, plan = existing(workspace, artefacts.root.parent.name, version=artefacts.root.name)
    try:
        certify(workspace, artefacts, plan, images=_IMAGES)
    except HallmarkError as error:
        log.info(str(error).splitlines()[0])
    if artefacts.certificate.exists():
        raise HallmarkError("a stand-in was certified", where=artefacts.certificate)
    observations = artefacts.root / "observations"
    return _failures(plan, [observations / look.name / "observations.jsonl" for look in views_of(plan)])


def _failures(plan: Plan, looks: Sequence[Path]) -> dict[str, str]:
    waivers = plan.certification.waivers
    judgement = judge.judge(
        looks,
        policies=plan.certification.policies,
        waivers=_IMAGES / waivers if waivers else None,
        recipe=plan.recipe,
        now=datetime.now(UTC),
    )
    if judgement.problems:
        raise HallmarkError("the look went wrong", where=plan.recipe, details=judgement.problems)
    return {
        verdict.requirement.id: verdict.message
        for verdict in judgement.verdicts
        if verdict.kind in ("fail", "error") and verdict.observations
    }


def main() -> int:
    """Try recipes; 1 if one of them fails otherwise than it must."""
    options = argparse.ArgumentParser(prog="try", description=__doc__)
    options.add_argument("recipes", nargs="*")
    options.add_argument("--boot", action="store_true", help="boot the images, too: minutes for each")
    options.add_argument("--build-dir", type=Path)
    given = options.parse_args()
    log.configure()
    workspace = Workspace.default(build=given.build_dir)
    wrong = False
    for recipe in given.recipes or [name for name in names() if _concerned(name)]:
        try:
            artefacts = build(workspace, recipe)
            look = refused_when_booted if given.boot else refused
            found = look(workspace, artefacts)
        except HallmarkError as error:
            print(f"{recipe}: {error}")
            wrong = True
            continue
        seen = set(found)
        for name, message in sorted(found.items()):
            print(f"{recipe}: {name}: {message[:160]}")
        strange = sorted(seen - IDENTITY) + [f"not {name}" for name in sorted(IDENTITY - seen)]
        print(f"{recipe}: {'as it must be' if not strange else 'differs: ' + ', '.join(strange)}")
        wrong = wrong or bool(strange)
    return int(wrong)


def _concerned(name: str) -> bool:
    recipe = load(_IMAGES / f"{name}.yaml")
    major = int(recipe.context.release.partition(".")[0])
    known = recipe.context.distribution in ("rhel", "centos") and 8 <= major <= 10
    return known and not {"ostree", "container"} & recipe.tree.children.keys()


if __name__ == "__main__":
    sys.exit(main())
