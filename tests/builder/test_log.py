"""What a program reads of several steps at once."""

from __future__ import annotations

import io
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from builder import log


class _Slow(io.StringIO):
    """Lets other threads go on after each write, as a full pipe does."""

    def write(self, text: str) -> int:
        written = super().write(text)
        time.sleep(0.0005)
        return written


def test_events_of_steps_side_by_side_are_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Slow())
    log.configure(mode="json")
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda number: log.event("stage", name=str(number)), range(40)))
    assert isinstance(sys.stdout, _Slow)
    lines = sys.stdout.getvalue().splitlines()
    assert sorted(json.loads(line)["name"] for line in lines) == sorted(map(str, range(40)))
