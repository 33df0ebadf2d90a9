"""Judging and signing, from records of looks as they are left behind by good and by broken guests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.certify import judge_looks, views_of
from builder.errors import HallmarkError
from builder.recipe import Plan, find, load, plan
from builder.workspace import Artefacts
from certification.observe import give_up


@pytest.fixture
def sample() -> Plan:
    return plan(load(find("sample-9")), version="9.20261122.0", source_date_epoch=0)


def test_looks_that_went_wrong_leave_a_report_no_certificate_and_are_taken_again(
    tmp_path: Path, sample: Plan
) -> None:
    artefacts = Artefacts(tmp_path / "sample-9" / sample.version)
    artefacts.stages.mkdir(parents=True)
    artefacts.image.write_bytes(bytes(4096))
    artefacts.certificate.write_text("of an earlier run")
    looks = views_of(sample)
    for look in looks:
        give_up(
            "the guest's kernel panicked: Attempted to kill init!",
            view=look.view,
            image=artefacts.image,
            out=artefacts.root / "observations" / look.name,
            variant=look.firmware,
            console=["booting", "Kernel panic - not syncing"] if look.firmware else [],
        )
        (artefacts.stages / f"observe-{look.name}.json").write_text("{}")
    with pytest.raises(HallmarkError, match="is not certified") as caught:
        judge_looks(artefacts, sample, looks, find("sample-9").parent)
    assert any("kernel panicked" in line for line in caught.value.details)
    assert not artefacts.certificate.exists()
    assert list(artefacts.stages.iterdir()) == [], "the next run looks again"
    results = json.loads(artefacts.results.read_text())
    kinds = {item["verdict"] for item in results["results"]}
    assert kinds <= {"error", "not-provable-here"} and "error" in kinds
    page = artefacts.report_html.read_text()
    assert "Serial console, booted (uefi)" in page and "Kernel panic - not syncing" in page
