"""Judging and signing, from records of looks as they are left behind by good and by broken guests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.certify import judge_looks
from builder.errors import HallmarkError
from builder.looks import Look, left_out, ostree_claim_of, views_of
from builder.ostree import Commit
from builder.recipe import Plan, find, load, plan
from builder.vm.firmware import Firmware
from builder.workspace import Artefacts
from certification import catalogue
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
            out=look.observations(artefacts).parent,
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


@pytest.mark.parametrize("firmware", [("uefi",), ("uefi", "bios"), ("uefi", "uefi-secure", "bios")])
def test_what_no_firmware_changes_is_decided_by_one_look(firmware: tuple[Firmware, ...]) -> None:
    known = catalogue.load()
    looks = (*(Look("booted", kind) for kind in firmware), Look("disk"), Look("format"))
    once = sorted(entry.id for entry in known if entry.once)
    decided = [
        entry
        for look in looks
        for entry in once
        if look.firmware and entry not in left_out(look, looks, known)
    ]
    assert sorted(decided) == once
    assert left_out(Look("disk"), looks, known) == ()
    areas = [{entry.partition(".")[0] for entry in left_out(look, looks, known)} for look in looks]
    assert len(firmware) == 1 or areas[0] != areas[1], "each has its share"


def test_an_ostree_host_is_held_to_its_recipe_and_to_what_was_built(tmp_path: Path, sample: Plan) -> None:
    host = plan(load(find("sample-atomic-9")), version="9.20261122.0", source_date_epoch=0)
    artefacts = Artefacts(tmp_path / host.recipe / host.version)
    made = Commit(
        checksum="ab" * 32, ref="any", version="1", timestamp=0, parent=None, signers=("aa81a34a9a583dee",)
    )
    artefacts.root.mkdir(parents=True)
    made.save(artefacts.commit)
    claim = ostree_claim_of(artefacts, host)
    assert claim is not None and claim.commit == made.checksum
    assert (claim.stateroot, claim.remote) == ("hallmark-sample", "hallmark-sample")
    assert (claim.ref, claim.url) == (
        "hallmark-sample/9/x86_64/atomic",
        "https://ostree.hallmark.invalid/repo",
    )
    # What a recipe pins counts, whatever was built.
    assert host.ostree is not None
    pinned = host.model_copy(update={"ostree": host.ostree.model_copy(update={"commit": "cd" * 32})})
    claim = ostree_claim_of(artefacts, pinned)
    assert claim is not None and claim.commit == "cd" * 32
    assert ostree_claim_of(artefacts, sample) is None
