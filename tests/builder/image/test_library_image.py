"""A real image in every format, through the pipeline."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from builder.built import existing
from builder.errors import HallmarkError
from builder.image import outputs, vhdx
from builder.image.vhd import FOOTER_SIZE
from builder.pipeline import Pipeline
from builder.recipe import Plan
from builder.run import run
from builder.workspace import Artefacts, Workspace, digest_file

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def plan(library_image: Artefacts) -> Plan:
    return Plan.model_validate_json(library_image.plan.read_bytes())


def test_every_format_holds_the_disk(library_image: Artefacts, plan: Plan) -> None:
    assert plan.outputs == ("vhd", "vhdx", "qcow2", "oci")
    assert plan.disk.generations == (1,)
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
    finally:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


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
