"""What tests of several rooms need."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        return process.pid
