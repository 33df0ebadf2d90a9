"""What the pipeline refuses before it fetches or makes anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.pipeline import Pipeline, existing
from builder.workspace import PROJECT, Workspace

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
