"""Fixtures that every suite shares; ``image``, ``host`` and ``check`` come from the plugin."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Any

import pytest

from certification.catalogue import SUITES, suites_digest
from certification.expectations import Facts
from certification.model import OstreeClaim
from certification.testkit import object_store, support_report
from certification.views.guest import Guest

#: What takes long in a guest, and what starts it.
EARLY = {"ccsp.sosreport-works": support_report.begin, "atomic.fsck": object_store.begin}


@pytest.fixture(scope="session")
def guest(hallmark: Any, host: Any) -> Guest:
    """The guest, in an operating system's words."""
    return Guest(host, booted=hallmark.view == "booted", image=lambda: hallmark.opened.image)


@pytest.fixture(scope="session")
def facts(guest: Guest, hallmark: Any) -> Facts:
    """What must be there: in what the image is called, which is not always what it says that it is."""
    return Facts.of(
        guest.os_release,
        claim=hallmark.claim,
        machine="x86_64" if guest.booted else guest.machine,
    )


@pytest.fixture(scope="session")
def claimed(hallmark: Any) -> OstreeClaim | None:
    """What an ostree host is said to run, and from where it is said to be updated; None: nobody says."""
    said: OstreeClaim | None = hallmark.ostree
    return said


@pytest.fixture(scope="session")
def today(hallmark: Any) -> date:
    """The day of the look, UTC; of a recording, the day on which it was made."""
    day: date = hallmark.day
    return day


@pytest.fixture(scope="session", autouse=True)
def begun_early(request: pytest.FixtureRequest, hallmark: Any, look_began: float) -> None:
    """Starts in the guest what takes longest, for the tests that collect it."""
    wanted = {str(value) for item in request.session.items for _, value in item.user_properties}
    for requirement, begin in EARLY.items() if hallmark.view == "booted" else ():
        if requirement in wanted:
            host = hallmark.opened.host
            with hallmark.evidence.about(requirement):
                host.run(begin(host.backend))


_SUITES = suites_digest(SUITES)


@pytest.fixture(scope="session")
def suites_at_start() -> str:
    """The digest of what decides, from before the first test."""
    return _SUITES


@pytest.fixture(scope="session", autouse=True)
def look_began(hallmark: Any) -> float:
    """When the first test asked a booted guest, by its clock in seconds since 1970; never where none says."""
    if hallmark.view != "booted":
        return math.inf
    answer = hallmark.opened.host.run("date +%s.%N").stdout.strip()
    return float(answer) if re.fullmatch(r"\d+\.\d+", answer) else math.inf
