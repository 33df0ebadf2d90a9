"""Support that ends: how long a certificate counts, and who answers for what is over."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from toy_looks import WAIVER, Looks, kinds

from certification.model import Observation, SupportEnd
from certification.support import expiry


def test_validity_ends_with_the_first_of_days_support_and_waivers(looks: Looks) -> None:
    today = date(2026, 11, 22)
    ends = [("a runtime", date(2022, 12, 13)), ("a system", date(2026, 12, 24))]
    support = tuple(SupportEnd(what=what, ends=day) for what, day in ends)
    looks.look(
        "format", {"one": "fail", "two": "pass", "four": "pass", "only-seven": "pass"}, support=support
    )
    looks.look("disk", {"one": "fail"})
    looks.look("booted", {"three": "pass", "four": "pass"}, variant="bios")
    waiver = "waivers:" + WAIVER.format(name="one", scope="sample-9", expires="{}")
    # What is over already does not count; the system's end does, and an earlier end of a waiver.
    assert expiry(looks.judge(waiver.format("2027-06-01")), issued=today, days=90) == date(2026, 12, 24)
    assert expiry(looks.judge(waiver.format("2026-12-01")), issued=today, days=90) == date(2026, 12, 1)
    assert expiry(looks.judge(waiver.format("2027-06-01")), issued=today, days=10) == date(2026, 12, 2)


@pytest.mark.parametrize(
    ("outcome", "waived", "ends", "certified"),
    [
        ("pass", False, "2026-11-22", True),
        ("pass", False, "2026-11-21", False),  # it ended since the look
        ("fail", False, "2026-11-21", False),  # a `should`, which alone refuses nothing
        ("fail", True, "2026-11-21", True),
    ],
)
def test_somebody_answers_for_support_that_is_over(
    looks: Looks, outcome: str, waived: bool, ends: str, certified: bool
) -> None:
    looks.good(two=outcome)
    supported(looks.paths[0], "azure.two", ends)
    waiver = "waivers:" + WAIVER.format(name="two", scope="sample-9", expires="2027-01-01")
    judgement = looks.judge(waiver if waived else None)
    assert judgement.certified is certified
    said = f"the support of a system ended on {ends}, and nobody answers for that"
    assert (said in judgement.problems) is not certified


def supported(observations: Path, requirement: str, ends: str) -> None:
    """Let a look find, at this requirement, that the support of a system ends on a day."""
    support = (SupportEnd(what="a system", ends=date.fromisoformat(ends)),)
    lines = [Observation.model_validate_json(line) for line in observations.read_text().splitlines()]
    changed = [
        item.model_copy(update={"supported_until": support}) if item.requirement == requirement else item
        for item in lines
    ]
    observations.write_text("".join(item.model_dump_json() + "\n" for item in changed))


def test_support_that_no_policy_asks_about_counts(looks: Looks, toy_policies: Path) -> None:
    policy = toy_policies / "toy.yaml"
    policy.write_text(policy.read_text() + "exclude: {azure.two: It is judged by another policy.}\n")
    looks.good(two="fail")
    assert looks.judge().certified
    supported(looks.paths[0], "azure.two", "2022-12-13")
    judgement = looks.judge()
    assert "two" not in kinds(judgement) and not judgement.certified
    assert any("support of a system ended on 2022-12-13" in problem for problem in judgement.problems)


def test_a_recording_is_judged_as_of_its_day(looks: Looks) -> None:
    looks.good()
    looks.look(
        "booted", {"three": "pass", "four": "pass"}, variant="old", recorded="2026-11-19T10:00:00+00:00"
    )
    supported(looks.paths[0], "azure.two", "2026-11-20")
    assert looks.judge(source="recording").certified
    assert not looks.judge().certified
