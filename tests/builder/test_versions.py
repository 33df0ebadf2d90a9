"""Versions: the same inputs find theirs again, others get the next number, published ones stay."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder import versions
from builder.errors import HallmarkError
from builder.recipe import find, load, plan
from builder.recipe.lock import Lock
from builder.workspace import Workspace


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")


def test_numbers_follow_the_inputs(space: Workspace) -> None:
    today = datetime.now(UTC).strftime("%Y%m%d")
    names = [
        versions.choose(space, "sample-9", major=9, inputs=inputs).root.name
        for inputs in ("a", "a", "b", "b", "a")
    ]
    assert names == [f"9.{today}.{n}" for n in (0, 0, 1, 1, 2)]


def test_a_fresh_number_can_be_asked_for(space: Workspace) -> None:
    first, second = (
        versions.choose(space, "sample-9", major=9, inputs="a", fresh=fresh).root.name
        for fresh in (False, True)
    )
    assert versions.parse(second) == (*versions.parse(first)[:2], versions.parse(first)[2] + 1)


@pytest.mark.parametrize(
    ("recipe", "day"),
    [
        ("sample-9", ""),
        ("sample-atomic-9", ""),
        ("dotnet-sample-9", ""),
        ("rhel-9", "2026-11-22"),
        ("centos-stream-9", "2026-11-22"),
        ("atomic-host-7", "2026-11-22"),
    ],
)
def test_only_what_no_digest_tells_depends_on_the_day(recipe: str, day: str) -> None:
    made = plan(load(find(recipe)), version="9.20261122.0", source_date_epoch=0)
    now = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    assert versions.day_taken(made, None, now=now) == day
    lock = Lock(recipe=recipe, when=now, inputs="0" * 64, packages=())
    assert versions.day_taken(made, lock, now=now) == ""
    if made.ostree is not None and not made.composed:
        pinned = made.model_copy(update={"ostree": made.ostree.model_copy(update={"commit": "0" * 64})})
        assert versions.day_taken(pinned, None, now=now) == ""


def test_versions_sort_by_number_not_by_text(space: Workspace) -> None:
    for number in range(12):
        versions.choose(space, "sample-9", major=9, inputs=str(number))
    newest = versions.newest(space, "sample-9")
    assert newest is not None
    assert newest.root.name.endswith(".11")


def test_a_published_version_keeps_its_inputs(space: Workspace) -> None:
    place = versions.choose(space, "sample-9", major=9, inputs="a", wanted="9.20260101.0")
    place.release.write_text("{}")
    assert versions.choose(space, "sample-9", major=9, inputs="a", wanted="9.20260101.0") == place
    with pytest.raises(HallmarkError, match="is published"):
        versions.choose(space, "sample-9", major=9, inputs="b", wanted="9.20260101.0")


@pytest.mark.parametrize(
    "text", ["9", "9.1", "9.20260101", "v9.20260101.0", "9.20260101.0-rc1", "9.2026011.0"]
)
def test_other_texts_are_no_versions(text: str) -> None:
    with pytest.raises(HallmarkError, match="not a version"):
        versions.parse(text)


def test_the_time_of_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert versions.epoch_of("9.20260101.3") == int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert versions.epoch_of("9.20260101.3") == 1700000000
    for other in ("abc", "-1", "1.5", "²", "9" * 5000):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", other)
        with pytest.raises(HallmarkError, match="SOURCE_DATE_EPOCH is"):
            versions.epoch_of("9.20260101.3")
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    with pytest.raises(HallmarkError, match="not a date"):
        versions.epoch_of("9.20261399.0")
