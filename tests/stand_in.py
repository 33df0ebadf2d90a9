"""Recipes of real distributions, built from the sample distribution: ``./ci/nox -s try -- RECIPE…``.

Whatever an image of a vendor's recipe must be, such an image is, except the vendor's. So exactly the
requirements about provenance and identity fail. Without names, every recipe of Enterprise Linux 8 to 10 is
tried; ``--boot`` boots each, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder import log
from builder.certify import certify, views_of
from builder.errors import HallmarkError
from builder.pipeline import Pipeline, existing
from builder.recipe import Plan, load, names
from builder.vm.acceleration import probe
from builder.workspace import PROJECT, Artefacts, Workspace
from certification import judge, observe

__all__ = ["IDENTITY", "MIRROR", "Refusal", "build", "refused", "refused_when_booted"]

MIRROR = PROJECT / "images" / "sample-distribution" / "mirror.yaml"
_IMAGES = PROJECT / "images"

#: What only the vendor's own content meets. What else the sample's content lacks is waived, visibly, in
#: images/waivers/sample-content.yaml.
IDENTITY = frozenset(
    {
        # Its signatures and its kernel.
        "azure.secureboot-chain-offline",
        "ccsp.kernel-module-provenance",
        "ccsp.kernel-release-match",
        "ccsp.kernel-vendor",
        "ccsp.rpm-nonvendor-declared",
        "ccsp.rpm-provenance",
        "ccsp.rpm-signing-keys",
        "dotnet.packages-vendor",
        # Its release package: who the system is, its repositories, its public keys, its licence agreement.
        "ccsp.eula-package",
        "ccsp.os-version-consistent",
        "ccsp.product-certificate",
        "ccsp.repos-configured",
        "security.gpgcheck-key-files",
        # Whose the machine is: subscription, RHUI, Insights.
        "azure.rhui-package",
        "ccsp.insights-client",
        "ccsp.subscription-plugins",
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What fails, by requirement, and why; and what of ``IDENTITY`` is about such an image at all."""

    failed: dict[str, str]
    identity: frozenset[str]

    @property
    def as_it_must_be(self) -> bool:
        """Everything about the vendor fails, and nothing else does."""
        return self.identity == self.failed.keys()

    @property
    def differences(self) -> list[str]:
        """What fails and should not, and what should and does not."""
        return sorted(self.failed.keys() - self.identity) + [
            f"not {name}" for name in sorted(self.identity - self.failed.keys())
        ]


def build(workspace: Workspace, recipe: str) -> Artefacts:
    """The recipe's image, with the sample distribution in the place of its repositories."""
    return Pipeline(workspace, recipe, mirrors=MIRROR).build()


def refused(workspace: Workspace, artefacts: Artefacts) -> Refusal:
    """What fails in the unbooted views.

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


def refused_when_booted(workspace: Workspace, artefacts: Artefacts) -> Refusal:
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


def _failures(plan: Plan, looks: Sequence[Path]) -> Refusal:
    waivers = plan.certification.waivers
    judgement = judge.judge(
        looks,
        policies=plan.certification.policies,
        waivers=_IMAGES / waivers if waivers else None,
        recipe=plan.recipe,
        now=datetime.now(UTC),
    )
    if judgement.problems or judgement.subject is None:
        raise HallmarkError("the look went wrong", where=plan.recipe, details=judgement.problems)
    return Refusal(
        failed={
            verdict.requirement.id: verdict.message
            for verdict in judgement.verdicts
            if verdict.kind in ("fail", "error") and verdict.observations
        },
        identity=frozenset(
            verdict.requirement.id
            for verdict in judgement.verdicts
            if verdict.requirement.id in IDENTITY
            and not verdict.requirement.applies_to.excludes(judgement.subject)
        ),
    )


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
        for name, message in sorted(found.failed.items()):
            print(f"{recipe}: {name}: {message[:160]}")
        told = "as it must be" if found.as_it_must_be else f"differs: {', '.join(found.differences)}"
        print(f"{recipe}: {told}")
        wrong = wrong or not found.as_it_must_be
    return int(wrong)


def _concerned(name: str) -> bool:
    recipe = load(_IMAGES / f"{name}.yaml")
    major = int(recipe.context.release.partition(".")[0])
    known = recipe.context.distribution in ("rhel", "centos") and 8 <= major <= 10
    return known and "ostree" not in recipe.tree.children


if __name__ == "__main__":
    sys.exit(main())
