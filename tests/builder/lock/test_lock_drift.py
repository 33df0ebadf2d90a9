"""The table of what moved between a lock and another package set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builder.lock.drift import compare, from_report, mismatch, table
from builder.recipe.lock import LockedPackage
from tests.small_repository import KEY_ID


def package(name: str = "app", **changes: Any) -> LockedPackage:
    fields = {"version": "1.0", "release": "1", "arch": "noarch", "repository": "small", "key": KEY_ID}
    return LockedPackage(**{"name": name, "sha256": "a" * 64, **fields, **changes})


@pytest.mark.parametrize(
    ("now", "row"),
    [
        ([package(version="1.1")], "changed app.noarch 1.0-1 1.1-1"),
        ([package(epoch=1)], "changed app.noarch 1.0-1 1:1.0-1"),
        ([], "removed app.noarch 1.0-1 –"),
        ([package(), package("new")], "added new.noarch – 1.0-1"),
        ([package(), package(arch="i686")], "added app.i686 – 1.0-1"),
        ([package(repository="other")], "changed app.noarch 1.0-1 from small 1.0-1 from other"),
        (
            [package(sha256="b" * 64)],
            "digest differs app.noarch 1.0-1 sha256 aaaaaaaaaaaa… 1.0-1 sha256 bbbbbbbbbbbb…",
        ),
        (
            [package(sha256="b" * 64, key="0" * 16)],
            f"digest differs app.noarch 1.0-1 sha256 aaaaaaaaaaaa…, key {KEY_ID}"
            f" 1.0-1 sha256 bbbbbbbbbbbb…, key {'0' * 16}",
        ),
    ],
)
def test_every_way_to_move(now: list[LockedPackage], row: str) -> None:
    moves = compare([package()], now)
    assert len(moves) == 1
    heading, line = table(moves)
    assert heading.split() == ["what", "package", "locked", "now"]
    assert " ".join(line.split()) == row


def test_the_same_set_in_another_order_has_not_moved() -> None:
    one, two = package(), package("two")
    assert compare([one, two], [two, one]) == ()


def test_what_the_plugin_reports(tmp_path: Path) -> None:
    report = tmp_path / "drift.json"
    newer = {"name": "app", "epoch": 0, "version": "2.0", "release": "1", "arch": "noarch"}
    report.write_text(
        json.dumps(
            [
                {"locked": package().model_dump(), "available": {**newer, "repository": "small"}},
                {"locked": package("gone").model_dump(), "available": None},
            ]
        )
    )
    error = mismatch(from_report(report), recipe="small-9")
    assert error.what == "packages are not as the lock of small-9 has them: 2"
    assert error.hint and "hallmark lock small-9 --update" in error.hint
    assert [" ".join(line.split()) for line in error.details[1:]] == [
        "changed app.noarch 1.0-1 2.0-1",
        "removed gone.noarch 1.0-1 –",
    ]
