"""A SCAP profile on the sample image: it holds as expected, and a damage turns its rule red and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.run import run
from builder.vm.acceleration import probe
from builder.workspace import Artefacts, Workspace
from certification.judge import load_run
from certification.model import Observation
from certification.mutants import model
from certification.mutants.operations import apply
from certification.observe import observe
from certification.views.base import identity

pytestmark = [pytest.mark.system, pytest.mark.slow]

PROFILE = "security.scap-cis-server-l1"


def look(image: Path, workspace: Workspace, work: Path) -> Observation:
    force_tcg = probe(cache=workspace.cache).force_tcg
    observe(
        "disk", image, out=work / "out", logs=work, asked=(PROFILE,), only=(PROFILE,), force_tcg=force_tcg
    )
    (seen,) = load_run(work / "out").observations
    return seen


def test_the_profile_holds_as_expected(sample_image: Artefacts, workspace: Workspace, tmp_path: Path) -> None:
    before = identity(sample_image.image)
    seen = look(sample_image.image, workspace, tmp_path)
    assert (seen.outcome, seen.message) == ("pass", "")
    assert identity(sample_image.image) == before
    assert not list(tmp_path.rglob("tree-*")), "a copy of the image's files was left behind"


def test_a_damage_turns_its_rule_red_and_no_other(
    sample_image: Artefacts, workspace: Workspace, tmp_path: Path
) -> None:
    damage = model.Mutant.model_validate(
        {
            "id": "group-for-everybody",
            "what": [{"change": "/etc/group", "mode": "0664"}],
            "red": {PROFILE: "file_permissions_etc_group"},
            "why": "Whoever is in its group makes himself an administrator.",
        }
    )
    copy = tmp_path / "image.vhd"
    run(["cp", "--sparse=always", "--reflink=auto", sample_image.image, copy])
    apply(damage, copy, work=tmp_path)
    seen = look(copy, workspace, tmp_path)
    copy.unlink()
    assert seen.outcome == "fail"
    assert [item.what for item in seen.checks if not item.ok] == [damage.red[PROFILE]]
