"""A real image in every format, through the pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from builder.built import existing
from builder.diff.command import EXIT_DIFFERENT
from builder.errors import HallmarkError
from builder.image import outputs, vhdx
from builder.image.vhd import FOOTER_SIZE
from builder.pipeline import Pipeline
from builder.recipe import Plan
from builder.run import run
from builder.workspace import PROJECT, Artefacts, Workspace, digest_file

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def plan(library_image: Artefacts) -> Plan:
    return Plan.model_validate_json(library_image.plan.read_bytes())


def test_every_format_holds_the_disk(library_image: Artefacts, plan: Plan) -> None:
    assert plan.outputs == ("vhd", "vhdx", "qcow2", "oci")
    for kind in ("vhdx", "qcow2"):
        other = library_image.output(kind)
        run(("qemu-img", "compare", "-f", "vpc", "-F", kind, library_image.image, other))
    size = library_image.image.stat().st_size - FOOTER_SIZE
    assert vhdx.deviations(library_image.output("vhdx"), virtual_size=size) == []
    with tarfile.open(library_image.output("oci")) as archive:
        largest = max(archive, key=lambda member: member.size)
        with tarfile.open(fileobj=archive.extractfile(largest)) as layer:
            [disk] = [member for member in layer if member.isfile()]
    assert disk.name == "disk/sample-9-library.qcow2"
    assert disk.size == library_image.output("qcow2").stat().st_size


def test_all_files_are_recorded(library_image: Artefacts, plan: Plan) -> None:
    digests = outputs.certifiable(library_image, plan)
    assert list(digests) == ["image.vhdx", "image.qcow2", "image.oci.tar"]
    assert digests == {item.name: item.sha256 for item in outputs.load(library_image.outputs)}


def test_a_changed_output_is_refused(
    library_image: Artefacts, library_recipe: Path, workspace: Workspace
) -> None:
    found, _ = existing(workspace, str(library_recipe))
    assert found == library_image
    path = library_image.output("vhdx")
    status = path.stat()
    try:
        path.touch()
        with pytest.raises(HallmarkError, match="not as the build left it") as caught:
            existing(workspace, str(library_recipe))
        assert caught.value.where == path
        # A store of artefacts keeps no times: what is compared with a certificate may come from one.
        assert existing(workspace, str(library_recipe), certified=True)[0] == library_image
    finally:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_difference_from_the_sample_is_told(sample_image: Artefacts, library_image: Artefacts) -> None:
    argv = [sys.executable, "-m", "builder.cli", "diff", "--json"]
    argv += [str(sample_image.root), str(library_image.root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == EXIT_DIFFERENT, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["sections"]
    assert found["settings"]["changed"]["disk.filesystem"] == ["ext4", "xfs"]
    assert "ostree.x86_64" in found["packages"]["removed"]
    assert found["packages"]["added"] == {}
    assert found["kernel arguments"]["added"] == {"panic": "30"}
    assert found["services"]["added"] == {"ctrl-alt-del.target": "masked"}
    assert list(found["users"]["added"]) == ["worker"]
    assert found["users"]["added"]["worker"].startswith("uid=700 ")
    assert "/etc/motd.d/library" in found["files"]["added"]
    assert "/usr/bin/ostree" in found["files"]["removed"]
    assert "/etc/passwd" in found["files"]["changed"]
    assert "/usr/bin/bash" not in str(found)


def test_only_what_is_missing_is_made_again(
    library_image: Artefacts, library_recipe: Path, workspace: Workspace
) -> None:
    def build() -> dict[str, str]:
        pipeline = Pipeline(workspace, str(library_recipe))
        assert pipeline.build() == library_image
        return {report.name: report.state for report in pipeline.reports}

    done = {"sample-distribution": "up to date", "rootfs": "up to date", "image": "up to date"}
    before = digest_file(library_image.outputs)
    assert build() == {**done, "formats": "up to date"}
    library_image.output("qcow2").unlink()
    assert build() == {**done, "formats": "done"}
    assert digest_file(library_image.outputs) == before, "the same disk gave another file"
