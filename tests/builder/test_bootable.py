"""What can't be booted here is refused before anything is built, booted or looked at."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from builder import verbs
from builder.bootable import must_boot
from builder.certify import certify, certify_several
from builder.errors import HallmarkError
from builder.examine import requirement
from builder.recipe import Plan, find, load, plan
from builder.release import release
from builder.workspace import Artefacts, Workspace

RECIPE = "rhel-9-aarch64"
REFUSED = "images of aarch64 are built, but can't be booted and so not certified here yet"


def planned(recipe: str) -> Plan:
    return plan(load(find(recipe)), version="9.20261123.0", source_date_epoch=0)


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")


@pytest.fixture
def built(space: Workspace) -> tuple[Artefacts, Plan]:
    """What a host of that processor leaves of a build."""
    made = planned(RECIPE)
    artefacts = space.artefacts(made.recipe, made.version)
    artefacts.root.mkdir(parents=True)
    artefacts.plan.write_text(made.to_json())
    artefacts.image.write_bytes(bytes(4096))
    space.set_latest(made.recipe, made.version)
    return artefacts, made


def test_what_can_be_booted_is_not_refused() -> None:
    must_boot(planned("rhel-9"))
    container = planned("dotnet-container-10")
    must_boot(container.model_copy(update={"architecture": "aarch64"}))  # nothing of it is booted


def test_a_release_is_refused_before_its_image_is_built(space: Workspace) -> None:
    with pytest.raises(HallmarkError, match=REFUSED):
        release(space, RECIPE, version=None, destination=None, mirrors=None, reports=[])
    assert not (space.build / RECIPE).exists()


def test_no_look_is_taken(space: Workspace, built: tuple[Artefacts, Plan]) -> None:
    artefacts, made = built
    with pytest.raises(HallmarkError, match=REFUSED):
        certify(space, artefacts, made, images=find(RECIPE).parent)
    (outcome,) = certify_several(space, [RECIPE])
    assert outcome.problem is not None and outcome.problem.what == REFUSED
    with pytest.raises(HallmarkError, match=REFUSED):
        requirement(space, artefacts, made, "azure.cloud-init-first-boot")
    with pytest.raises(HallmarkError, match=REFUSED):
        verbs.boot(Namespace(image=RECIPE, firmware="uefi"), space)
    assert not (artefacts.root / "observations").exists()
