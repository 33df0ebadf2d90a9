"""Judging and signing, from records of looks as they are left behind by good and by broken guests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.certify import certify, judge_looks
from builder.errors import HallmarkError
from builder.looks import (
    Look,
    acceleration_for,
    left_out,
    look_at,
    ostree_claim_of,
    sharing_of,
    views_of,
)
from builder.ostree import Commit
from builder.pool import Pool
from builder.recipe import Plan, find, load, names, plan
from builder.stages import run_stage
from builder.vm.firmware import Firmware
from builder.workspace import Artefacts, Workspace
from certification import catalogue
from certification.evidence import EvidenceLog
from certification.model import POLICY_OF_TARGET, RunRecord, Subject, View
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


def looked(artefacts: Artefacts, view: View, **changes: object) -> None:
    """Leave what a look leaves that came to its end; ``changes`` are made to its record afterwards."""
    out = Look(view).observations(artefacts).parent
    out.mkdir(parents=True)
    record = RunRecord(
        view=view,
        subject=None if view == "format" else Subject(id="x", version="9", families=frozenset({"rhel"})),
        before="b",
        after="b",
        catalogue=catalogue.load().digest,
        suites="s",
        started="2026-11-22T10:00:00+00:00",
        seconds=1,
    )
    (out / "observations.jsonl").touch()
    with EvidenceLog(out / "evidence.jsonl", view=view) as log:
        log.fact("one", 1)
        log.seal(record.model_dump(mode="json"))
    (out / "run.json").write_text(record.model_copy(update=changes).model_dump_json())
    (artefacts.stages / f"observe-{view}.json").write_text("{}")


@pytest.mark.parametrize(
    ("changes", "believed"),
    [
        ({}, True),
        ({"console": ("a last line",)}, True),  # it is added afterwards
        ({"subject": Subject(id="x", version="9", families=frozenset({"atomic"}))}, False),
        ({"elsewhere": ("ccsp.selinux-enforcing",)}, False),
    ],
)
def test_a_record_is_held_against_the_seal_of_its_evidence(
    tmp_path: Path, sample: Plan, changes: dict[str, object], believed: bool
) -> None:
    artefacts = Artefacts(tmp_path / "sample-9" / sample.version)
    artefacts.stages.mkdir(parents=True)
    artefacts.image.write_bytes(bytes(4096))
    looked(artefacts, "format")
    looked(artefacts, "disk", **changes)
    with pytest.raises(HallmarkError, match="is not certified") as caught:
        judge_looks(artefacts, sample, [Look("format"), Look("disk")], find("sample-9").parent)
    said = "disk view: run.json isn't the record that the evidence was sealed with"
    assert any(line.startswith(said) for line in caught.value.details) is not believed
    left = {path.stem for path in artefacts.stages.iterdir()}
    assert left == ({"observe-format", "observe-disk"} if believed else {"observe-format"})


def test_an_edited_record_is_looked_for_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = plan(load(find("dotnet-sample-9")), version="9.20261122.0", source_date_epoch=0)
    artefacts = Artefacts(tmp_path / container.recipe / container.version)
    artefacts.stages.mkdir(parents=True)
    artefacts.output(container.image_format).write_bytes(bytes(4096))
    run_stage(artefacts, "image", title="image", inputs={}, outputs=(), make=lambda: None)
    taken: list[str] = []

    def observe(view: View, image: Path, *, out: Path, **_: object) -> None:
        taken.append(view)
        give_up("nobody looks here", view=view, image=image, out=out)

    monkeypatch.setattr("builder.looks.observe.observe", observe)

    def look() -> None:
        acceleration = acceleration_for(workspace, container)
        with Pool(1) as pool:
            sharing = sharing_of(acceleration, 1)
            for future in look_at(workspace, artefacts, container, acceleration, sharing, pool):
                future.result()

    look()
    look()
    assert taken == ["disk"]
    record = Look("disk").record(artefacts)
    record.write_text(record.read_text().replace('"subject": null', '"subject":  null'))
    look()
    assert taken == ["disk", "disk"]


def test_what_is_judged_by_is_read_before_anybody_looks(workspace: Workspace, tmp_path: Path) -> None:
    container = plan(load(find("dotnet-sample-9")), version="9.20261122.0", source_date_epoch=0)
    chosen = container.certification
    artefacts = Artefacts(tmp_path / container.recipe / container.version)
    waivers = tmp_path / "waivers.yaml"
    waivers.write_text("waivers: [{expires: 2027-02-30}]\n")
    for change, said in (
        ({"waivers": "waivers.yaml"}, "a waiver is not well-formed"),
        ({"waivers": "none.yaml"}, "the waivers can't be read"),
        ({"targets": ("azure",)}, "meant for azure, and the policy azure-marketplace isn't among"),
        ({"targets": ("hyperv",)}, "meant for hyperv, and the policy hyperv-on-premises isn't among"),
        ({"waivers": None}, "the image was never finished"),  # so far it comes otherwise
    ):
        certification = chosen.model_copy(update={"waivers": None, **change})
        other = container.model_copy(update={"certification": certification})
        with pytest.raises(HallmarkError, match=said):
            certify(workspace, artefacts, other, images=tmp_path)


def test_every_recipe_is_judged_by_the_policies_of_its_targets() -> None:
    for recipe in map(load, map(find, names())):
        major = recipe.context.release.partition(".")[0]
        chosen = plan(recipe, version=f"{major}.20261122.0", source_date_epoch=0).certification
        assert {POLICY_OF_TARGET[target] for target in chosen.targets} <= set(chosen.policies)


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
