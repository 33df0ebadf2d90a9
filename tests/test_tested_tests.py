"""Certification notices what it should: damages to copies of the sample image, judged as a release is judged.

Runs after the release (by name), whose looks at the undamaged image serve as the measure.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.vm.acceleration import probe
from builder.workspace import Artefacts, Workspace
from certification import catalogue
from certification.model import View
from certification.mutants import engine, model
from certification.views.base import identity

pytestmark = pytest.mark.system


def judged(view: View, image: Artefacts, space: Workspace, work: Path) -> list[engine.Finding]:
    """Every look at the format view; the first one at the disk view."""
    looks = [
        look for look in engine.plan(model.load(catalogue.load()).of("sample-9")) if look[0].view == view
    ]
    chosen = [mutant for look in looks[: 1 if view == "disk" else None] for mutant in look]
    force_tcg = probe(cache=space.cache).force_tcg
    recorded = image.root / "observations" / view
    good = engine.baseline(view, image.image, work=work, force_tcg=force_tcg, recorded=recorded)
    before = identity(image.image)
    findings = engine.examine(chosen, image.image, good={view: good}, work=work, force_tcg=force_tcg)
    assert identity(image.image) == before
    assert not list(work.rglob("*.vhd")), "a damaged copy was left behind"
    return findings


@pytest.mark.parametrize(("view", "at_least"), [("format", 19), ("disk", 40)])
def test_every_damage_is_noticed(
    sample_image: Artefacts, workspace: Workspace, tmp_path: Path, view: View, at_least: int
) -> None:
    findings = judged(view, sample_image, workspace, tmp_path)
    verdicts = [verdict for finding in findings for verdict in finding.verdicts]
    survivors = [f"{item.mutant.id}: {item.reason}" for item in verdicts if not item.killed]
    assert survivors == []
    assert [line for finding in findings for line in finding.strange] == []
    assert len(verdicts) >= at_least
