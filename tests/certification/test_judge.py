"""Merging what the views saw: each row is a set of looks and the verdict or the problem that must come of
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_looks import CHECK, SAMPLE, WAIVER, Looks, kinds

from builder.errors import HallmarkError
from certification.model import Check, Observation


def test_a_good_image_is_certified(looks: Looks) -> None:
    looks.good()
    judgement = looks.judge()
    assert judgement.certified and judgement.reasons() == []
    assert kinds(judgement) == {
        "one": "pass",
        "two": "pass",
        "three": "pass",
        "four": "pass",
        "only-seven": "not-applicable",
        "far-away": "not-provable-here",
    }


@pytest.mark.parametrize(
    ("changes", "name", "kind", "certified"),
    [
        ({"one": "fail"}, "one", "fail", False),
        ({"two": "fail"}, "two", "fail", True),  # a `should`
        ({"two": "error"}, "two", "error", False),
        ({"one": "error"}, "one", "error", False),
        ({"one": "not-applicable"}, "one", "pass", True),  # the disk view proved it
        ({"two": "not-applicable"}, "two", "not-applicable", True),
    ],
)
def test_the_worst_view_counts(
    looks: Looks, changes: dict[str, Any], name: str, kind: str, certified: bool
) -> None:
    looks.good(**changes)
    judgement = looks.judge()
    assert kinds(judgement)[name] == kind
    assert judgement.certified is certified
    assert bool(judgement.reasons()) is not certified


def test_disagreement_between_views_is_a_finding(looks: Looks) -> None:
    looks.good(four="fail")
    (verdict,) = [v for v in looks.judge().verdicts if v.requirement.id == "azure.four"]
    assert verdict.kind == "fail"
    assert "the views disagree: format failed, booted (bios), booted (uefi) passed" in verdict.message
    assert verdict.disagreement and verdict.refuses


def test_disagreement_of_two_firmwares_refuses_whatever_the_severity(
    looks: Looks, toy_policies: Path
) -> None:
    policy = toy_policies / "toy.yaml"
    lower = "{severity: should, reason: It would be nice to have it this way.}"
    policy.write_text(f"{policy.read_text()}severity:\n  azure.four: {lower}\n")
    looks.good()
    assert looks.judge().certified
    bios = looks.paths[2]
    lines = [Observation.model_validate_json(line) for line in bios.read_text().splitlines()]
    changed = [
        item.model_copy(update={"outcome": "fail", "checks": (CHECK,)})
        if item.requirement == "azure.four"
        else item
        for item in lines
    ]
    bios.write_text("".join(item.model_dump_json() + "\n" for item in changed))
    judgement = looks.judge()
    assert not judgement.certified and kinds(judgement)["four"] == "fail"
    assert any("booted (bios) failed, format, booted (uefi) passed" in text for text in judgement.reasons())


def test_of_a_machine_only_what_it_shows_is_judged(looks: Looks) -> None:
    looks.look("booted", {"three": "pass", "four": "pass"}, before="", after="")
    judgement = looks.judge(source="machine")
    assert kinds(judgement) == {
        "one": "not-provable-here",
        "two": "not-provable-here",
        "three": "pass",
        "four": "pass",
        "only-seven": "not-applicable",
        "far-away": "not-provable-here",
    }
    assert judgement.certified, "nothing that it shows is wrong"
    assert not looks.judge().certified, "an image must be looked at in every view"


@pytest.mark.parametrize(
    ("prints", "unique", "kind"),
    [(("a", "b"), True, "pass"), (("a", "a"), True, "fail"), (("a", "a"), False, "pass")],
)
def test_two_machines_of_an_image_share_no_identity(
    looks: Looks, prints: tuple[str, str], unique: bool, kind: str
) -> None:
    looks.look("format", {"one": "pass", "two": "pass", "four": "pass", "only-seven": "pass"})
    looks.look("disk", {"one": "pass"})
    for variant, shown in zip(("bios", "uefi"), prints, strict=True):
        seen = Check(what="fingerprint of machine-id", expected="x", observed=shown, ok=True, unique=unique)
        looks.look("booted", {"three": "pass", "four": "pass"}, variant=variant, checks=(seen,))
    judgement = looks.judge()
    (verdict,) = [item for item in judgement.verdicts if item.requirement.id == "azure.three"]
    assert verdict.kind == kind
    assert judgement.certified is (kind == "pass")
    if kind == "fail":
        assert verdict.message == "fingerprint of machine-id: the same in booted (bios), booted (uefi)"


def test_a_missing_verdict_is_an_error(looks: Looks) -> None:
    looks.look("format", {"two": "pass", "four": "pass", "only-seven": "pass"})
    looks.look("disk", {"one": "pass"})
    looks.look("booted", {"three": "pass", "four": "pass"}, variant="bios")
    judgement = looks.judge()
    assert kinds(judgement)["one"] == "error"
    assert any("azure.one (error): format: no verdict" in reason for reason in judgement.reasons())


def test_a_view_that_nobody_looked_at_is_an_error(looks: Looks) -> None:
    looks.look("format", {"one": "pass", "two": "pass", "four": "pass", "only-seven": "pass"})
    judgement = looks.judge()
    assert kinds(judgement)["three"] == "error" and not judgement.certified


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"complete": False}, "ended early"),
        ({"problems": ("a crash",)}, "format view: a crash"),
        ({"after": "c"}, "changed while the format view looked at it"),
        ({"before": "c", "after": "c"}, "did not look at the same file"),
        ({"catalogue": "0" * 64}, "another catalogue"),
        ({"suites": "t"}, "not tested by the same suites"),
        ({"subject": SAMPLE.model_copy(update={"version": "8"})}, "saw different guests"),
        ({"subject": SAMPLE.model_copy(update={"families": frozenset({"atomic"})})}, "saw different guests"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_defects_of_a_look_refuse_the_certificate(looks: Looks, change: dict[str, Any], problem: str) -> None:
    looks.look("format", {"one": "pass", "two": "pass", "four": "pass", "only-seven": "pass"}, **change)
    looks.look("disk", {"one": "pass"})
    looks.look("booted", {"three": "pass", "four": "pass"}, variant="bios")
    judgement = looks.judge()
    assert any(problem in text for text in judgement.problems), judgement.problems
    assert not judgement.certified


def test_unknown_doubled_and_foreign_records_are_problems(looks: Looks) -> None:
    looks.good()
    looks.look(
        "format", {"one": "pass", "two": "pass", "four": "pass", "only-seven": "pass", "unheard-of": "pass"}
    )
    text = looks.paths[0].read_text() + looks.paths[1].read_text()
    looks.paths[0].write_text(text)
    problems = "\n".join(looks.judge().problems)
    assert "two records of the format view" in problems
    assert "azure.unheard-of, which nobody knows" in problems
    assert "a record of the disk view is among its own" in problems


def test_no_looks_at_all(looks: Looks) -> None:
    judgement = looks.judge()
    assert not judgement.certified and "nobody looked at the image" in judgement.problems


def test_a_garbled_record_is_an_error_with_its_place(looks: Looks) -> None:
    looks.good()
    looks.paths[1].write_text('{"requirement": ')
    with pytest.raises(HallmarkError, match="can't be read"):
        looks.judge()


@pytest.mark.parametrize(
    ("waiver", "failing", "certified", "problem"),
    [
        (("one", "sample-9", "2026-11-22"), True, True, None),
        (("one", "'*'", "2027-01-01"), True, True, None),
        (("one", "sample-9", "2026-11-21"), True, False, "expired on 2026-11-21"),
        (("one", "sample-9", "2027-01-01"), False, False, "waives nothing: the requirement does not fail"),
        (("one", "rhel-9", "2027-01-01"), True, False, None),
        (("unheard-of", "sample-9", "2027-01-01"), False, False, "the catalogue knows no such requirement"),
        (("two", "sample-9", "2027-01-01"), False, False, "does not fail"),
        (("only-seven", "sample-9", "2027-01-01"), False, False, "does not fail"),
    ],
)
def test_waivers(
    looks: Looks, waiver: tuple[str, str, str], failing: bool, certified: bool, problem: str | None
) -> None:
    looks.good(**({"one": "fail", "disk": "fail"} if failing else {}))
    name, scope, expires = waiver
    judgement = looks.judge("waivers:" + WAIVER.format(name=name, scope=scope, expires=expires))
    assert judgement.certified is certified
    assert (kinds(judgement)["one"] == "waived") is (failing and certified)
    assert problem is None or any(problem in text for text in judgement.problems), judgement.problems


def test_a_disagreement_cannot_be_waived(looks: Looks) -> None:
    looks.good(one="fail")
    judgement = looks.judge("waivers:" + WAIVER.format(name="one", scope="sample-9", expires="2027-01-01"))
    assert kinds(judgement)["one"] == "fail" and not judgement.certified and judgement.waivers == ()
    assert any("a disagreement of views can't be waived" in reason for reason in judgement.reasons())
    assert judgement.problems == (), "nor does it show that the waiver is not needed"


def test_an_error_cannot_be_waived(looks: Looks) -> None:
    looks.good(one="error")
    judgement = looks.judge("waivers:" + WAIVER.format(name="one", scope="sample-9", expires="2027-01-01"))
    assert kinds(judgement)["one"] == "error" and not judgement.certified
    assert judgement.problems == (), "nor does an error show that the waiver is not needed"


@pytest.mark.parametrize(("name", "needed"), [("one", True), ("four", True), ("three", False)])
def test_a_machine_shows_a_waiver_needless_only_where_it_shows_all(
    looks: Looks, name: str, needed: bool
) -> None:
    looks.look("booted", {"three": "pass", "four": "pass"}, before="", after="")
    waiver = WAIVER.format(name=name, scope="sample-9", expires="2027-01-01")
    judgement = looks.judge(f"waivers:{waiver}", source="machine")
    assert judgement.certified is needed
    assert any("waives nothing" in problem for problem in judgement.problems) is not needed


@pytest.mark.parametrize("outcome", ["pass", "fail", "error"])
def test_a_verdict_about_what_the_guest_is_not_is_an_error(looks: Looks, outcome: str) -> None:
    looks.good()
    looks.look("format", {"only-seven": outcome}, variant="other", subject=SAMPLE)
    judgement = looks.judge()
    (verdict,) = [item for item in judgement.verdicts if item.requirement.id == "azure.only-seven"]
    assert verdict.kind == "error" and not judgement.certified
    assert verdict.message.startswith("format (other): a verdict, although it is only for versions")


@pytest.mark.parametrize(
    ("first", "elsewhere", "kind"),
    [
        ({"three": "pass", "four": "pass"}, ("azure.three",), "pass"),
        ({"three": "fail", "four": "pass"}, ("azure.three",), "fail"),
        ({"four": "pass"}, ("azure.three",), "error"),  # the first look has to decide
        ({"three": "pass", "four": "pass"}, (), "error"),  # the second was not told to leave it out
    ],
)
def test_what_no_firmware_changes_is_decided_once(
    tmp_path: Path,
    toy_catalogue: Path,
    toy_policies: Path,
    first: dict[str, str],
    elsewhere: tuple[str, ...],
    kind: str,
) -> None:
    file = toy_catalogue / "azure.yaml"
    text = file.read_text()
    file.write_text(text.replace("id: azure.three,", "id: azure.three, once: true,"))
    assert file.read_text() != text
    looks = Looks(tmp_path / "looks", toy_catalogue, toy_policies)
    looks.look("format", {"one": "pass", "two": "pass", "four": "pass", "only-seven": "pass"})
    looks.look("disk", {"one": "pass"})
    looks.look("booted", first, variant="uefi")
    looks.look("booted", {"four": "pass"}, variant="bios", elsewhere=elsewhere)
    assert kinds(looks.judge())["three"] == kind
