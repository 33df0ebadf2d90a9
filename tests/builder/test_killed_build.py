"""A build that is killed (-9): nothing of it is left, and the next one goes on."""

from __future__ import annotations

import json
import shutil

import pytest

from builder.image import vhd
from builder.workspace import Artefacts, Workspace, digest_file
from tests.command import hallmark, kill_in, left_behind

pytestmark = pytest.mark.system


@pytest.mark.parametrize("stage", ["root filesystem", "disk and image"])
def test_a_killed_build_leaves_nothing_behind_and_goes_on(
    stage: str, workspace: Workspace, sample_image: Artefacts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    space = Workspace.default(build=tmp_path_factory.mktemp("killed") / "build", cache=workspace.cache)
    kill_in(space, "build", step=stage, after=12 if stage == "root filesystem" else 1)
    assert left_behind(space) == []
    assert not list(space.build.rglob("image.vhd"))
    done = hallmark(space, "build", "sample-9", "--json")
    stages = [json.loads(line) for line in done.stdout.splitlines() if '"stages"' in line][-1]["stages"]
    states = {item["name"]: item["state"] for item in stages}
    assert states["rootfs"] == ("done" if stage == "root filesystem" else "up to date")
    image = next(path for path in space.build.glob("sample-9/*/image.vhd"))
    assert vhd.deviations(image) == []
    if image.parent.name == sample_image.root.name:
        assert digest_file(image) == digest_file(sample_image.image), "two builds of one version differ"
    shutil.rmtree(space.build)
