"""What the pipeline refuses before it fetches or makes anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from builder import versions
from builder.built import existing
from builder.errors import HallmarkError
from builder.pipeline import Pipeline
from builder.recipe import find, load, plan
from builder.recipe.model import OutputFormat
from builder.workspace import PROJECT, Artefacts, Workspace

_NOBODY = 65534


def test_building_without_root_is_refused_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.owner() != "root" or parent.stat().st_mode & 0o001:
            continue
        parent.chmod(parent.stat().st_mode | 0o001)
    space = tmp_path / "space"
    argv = [sys.executable, "-m", "builder.cli", "build", "sample-9"]
    argv += ["--build-dir", str(space / "build"), "--cache-dir", str(space / "cache")]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        user=_NOBODY if os.geteuid() == 0 else None,
        group=_NOBODY if os.geteuid() == 0 else None,
    )
    assert done.returncode == 1, done.stderr
    assert "needs root" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((space / "build").rglob("*.tar"))
    assert not (space / "cache" / "sample-distribution").exists()


def test_an_unknown_recipe_is_explained(tmp_path: Path) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    with pytest.raises(HallmarkError, match="sample-8"):
        Pipeline(space, "sample-8").build()


def test_an_image_that_was_never_built_is_explained(tmp_path: Path) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    with pytest.raises(HallmarkError, match="no image of sample-9") as caught:
        existing(space, "sample-9")
    assert caught.value.hint == "build it first: hallmark build sample-9"


def _version(
    space: Workspace, number: int, *, image: bool, outputs: tuple[OutputFormat, ...] = ()
) -> Artefacts:
    version = f"9.20261101.{number}"
    place = space.artefacts("sample-9", version)
    place.stages.mkdir(parents=True)
    made = plan(load(find("sample-9")), version=version, source_date_epoch=0)
    place.plan.write_text(made.model_copy(update={"outputs": ("vhd", *outputs)}).to_json())
    if image:
        place.image.write_text("a disk")
    return place


def test_what_was_only_begun_does_not_hide_the_image_before_it(tmp_path: Path) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    good = _version(space, 0, image=True)
    _version(space, 1, image=False)
    _version(space, 2, image=True, outputs=("vhdx",))
    place, found = existing(space, "sample-9")
    assert (place, found.version) == (good, "9.20261101.0")
    with pytest.raises(HallmarkError, match=r"no image of sample-9 9\.20261101\.2"):
        existing(space, "sample-9", version="9.20261101.2")
    newest = _version(space, 3, image=True)
    assert existing(space, "sample-9")[0] == newest


@pytest.mark.parametrize("damage", ["{half", '{"format": 0}'])
def test_a_plan_of_another_hallmark_is_explained(tmp_path: Path, damage: str) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    place = _version(space, 0, image=True)
    place.plan.write_text(damage)
    with pytest.raises(HallmarkError, match="this is no plan") as caught:
        existing(space, "sample-9")
    assert caught.value.where == place.plan
    assert caught.value.hint == "build the image anew: hallmark build sample-9"


class _Tomorrow(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(days=1)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Begins a build of packages from the network, which ends as soon as it wants the vendor's key."""
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    monkeypatch.setattr("builder.pipeline.check_host", lambda plan: None)
    monkeypatch.setattr("builder.rootfs.dib.check_host", lambda plan: None)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)

    def begin() -> list[str]:
        with pytest.raises(HallmarkError, match="key"):
            Pipeline(space, "centos-stream-9").build()
        return [place.root.name for place in versions.begun(space, "centos-stream-9")]

    return begin


def test_the_next_day_a_build_looks_for_updates(
    begun: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begun()
    assert len(first) == 1
    assert begun() == first, "the same day it goes on"
    for module in ("pipeline", "versions"):
        monkeypatch.setattr(f"builder.{module}.datetime", _Tomorrow)
    second = begun()
    assert len(second) == 2
    assert versions.parse(second[0])[1] > versions.parse(first[0])[1]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert len(begun()) == 3, "another time in every file is another image"


def test_a_published_version_is_left_alone(begun: Callable[[], list[str]], tmp_path: Path) -> None:
    (first,) = begun()
    record = tmp_path / "build/centos-stream-9" / first / "release.json"
    record.write_text("{}")
    before = {path: path.stat().st_mtime_ns for path in record.parent.rglob("*") if path.name != "plan.json"}
    second, _ = begun()
    assert versions.parse(second) == (*versions.parse(first)[:2], 1)
    after = {path: path.stat().st_mtime_ns for path in record.parent.rglob("*") if path.name != "plan.json"}
    assert {path for path in after if path.is_file() and before.get(path) != after[path]} == set()
