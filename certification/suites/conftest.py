"""Fixtures that every suite shares; ``image``, ``host`` and ``check`` come from the plugin."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from certification.expectations import Facts
from certification.views.guest import Guest


@pytest.fixture(scope="session")
def guest(hallmark: Any, host: Any) -> Guest:
    """The guest, in an operating system's words."""
    return Guest(host, booted=hallmark.view == "booted", image=lambda: hallmark.opened.image)


@pytest.fixture(scope="session")
def facts(guest: Guest) -> Facts:
    """What must be there in the guest's release."""
    release = guest.os_release
    return Facts(
        os_id=release.get("ID", ""),
        version=release.get("VERSION_ID", ""),
        machine="x86_64" if guest.booted else guest.machine,
    )


@pytest.fixture(scope="session")
def today() -> date:
    """The day of the certification, UTC."""
    return datetime.now(UTC).date()
