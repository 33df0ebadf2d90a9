"""How tests of ``hallmark diff`` run it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builder.cli import main

__all__ = ["run"]


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Status and event of the command."""
    status = main(["diff", *words, "--json"])
    [line] = [line for line in capsys.readouterr().out.splitlines() if '"event": "diff"' in line]
    return status, json.loads(line)
