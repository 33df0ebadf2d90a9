"""The further formats of an image: recorded, certifiable as they were built, gone when nobody wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.image import outputs
from builder.image.outputs import OutputFile
from builder.image.vhd import write_footer
from builder.recipe import Plan, find, load, plan
from builder.recipe.model import OutputFormat
from builder.run import run
from builder.workspace import Artefacts, digest_file

MIB = 1 << 20


def planned(*kinds: OutputFormat) -> Plan:
    draft = plan(load(find("sample-9")), version="9.20261122.0", source_date_epoch=1_795_305_600)
    return draft.model_copy(update={"outputs": kinds})


@pytest.fixture
def built(tmp_path: Path) -> Artefacts:
    """A VHD of 80 MiB with data here and there, some of it random."""
    artefacts = Artefacts(tmp_path / "build")
    artefacts.root.mkdir()
    with artefacts.image.open("wb") as stream:
        for place, data in ((0, b"begin"), (17 * MIB - 2, b"across"), (40 * MIB, bytes(range(256)) * 9000)):
            stream.seek(place)
            stream.write(data)
        stream.truncate(80 * MIB)
    write_footer(artefacts.image, timestamp=1_795_305_600, unique_id=planned("vhd").identifiers.vhd)
    return artefacts


def record(artefacts: Artefacts, kind: OutputFormat) -> None:
    """An output as the stage leaves it, whatever is in it."""
    path = artefacts.output(kind)
    path.write_bytes(b"a disk")
    item = OutputFile(name=path.name, format=kind, sha256=digest_file(path), size=6, virtual_size=80 * MIB)
    artefacts.outputs.write_text(f"[{item.model_dump_json()}]")


def test_the_vhd_is_always_among_the_formats(tmp_path: Path) -> None:
    assert planned("vhd").outputs == ("vhd",)
    assert outputs.further(planned("vhd", "oci", "vhdx")) == ("oci", "vhdx")


def test_a_certificate_gets_the_digests_of_what_was_built(built: Artefacts) -> None:
    assert outputs.certifiable(built, planned("vhd")) == {}
    record(built, "vhdx")
    assert outputs.certifiable(built, planned("vhd", "vhdx")) == {
        "image.vhdx": digest_file(built.output("vhdx"))
    }


@pytest.mark.parametrize("damage", ["edited", "missing", "unrecorded"])
def test_what_is_not_as_it_was_built_gets_none(built: Artefacts, damage: str) -> None:
    record(built, "vhdx")
    if damage == "edited":
        built.output("vhdx").write_bytes(b"A disk")
    elif damage == "missing":
        built.output("vhdx").unlink()
    else:
        built.outputs.unlink()
    with pytest.raises(HallmarkError, match="vhdx output is missing or not as the build left it") as caught:
        outputs.certifiable(built, planned("vhd", "vhdx"))
    assert caught.value.hint == "build it again: hallmark build sample-9"


@pytest.mark.parametrize("text", ["{", '[{"name": "image.vhdx"}]', "{}"])
def test_a_damaged_list_is_explained(built: Artefacts, text: str) -> None:
    built.outputs.write_text(text)
    with pytest.raises(HallmarkError, match="no list of outputs"):
        outputs.load(built.outputs)


def test_outputs_that_nobody_wants_any_more_are_deleted(built: Artefacts) -> None:
    record(built, "oci")
    outputs.discard(built)
    assert [path.name for path in built.root.iterdir()] == ["image.vhd"]


@pytest.mark.system
def test_every_format_holds_the_disk_and_is_the_same_each_time(built: Artefacts, tmp_path: Path) -> None:
    wanted = planned("vhd", "vhdx", "qcow2", "oci")
    digests = []
    for number in (1, 2):
        work = tmp_path / f"work{number}"
        work.mkdir()
        outputs.write(built, wanted, work=work)
        digests.append(outputs.certifiable(built, wanted))
        assert [(item.name, item.virtual_size) for item in outputs.load(built.outputs)] == [
            ("image.vhdx", 80 * MIB),
            ("image.qcow2", 80 * MIB),
            ("image.oci.tar", 80 * MIB),
        ]
    assert digests[0] == digests[1]
    for kind in ("vhdx", "qcow2"):
        run(("qemu-img", "compare", "-f", "vpc", "-F", kind, built.image, built.output(kind)))
        run(("qemu-img", "check", "-f", kind, built.output(kind)))
    layout = tmp_path / "layout"
    run(("skopeo", "copy", "--insecure-policy", f"oci-archive:{built.output('oci')}", f"dir:{layout}"))
    layers = [path for path in layout.iterdir() if path.stat().st_size > 100_000]
    run(("tar", "-xf", layers[0], "-C", tmp_path, "--no-same-owner", "--no-same-permissions"))
    assert (tmp_path / "disk" / "sample-9.qcow2").read_bytes() == built.output("qcow2").read_bytes()


@pytest.mark.system
@pytest.mark.parametrize("kind", ["vhdx", "qcow2", "oci"])
def test_a_wrong_disk_gets_no_name(
    built: Artefacts, kind: OutputFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.vhd"
    run(("cp", "--sparse=always", built.image, other))
    with other.open("r+b") as stream:
        stream.seek(60 * MIB)
        stream.write(b"!")
    real = outputs.qcow2.qemu.convert
    # As a qemu-img would that loses a write.
    monkeypatch.setattr(
        outputs.qcow2.qemu, "convert", lambda image, *rest, **more: real(other, *rest, **more)
    )
    with pytest.raises(HallmarkError, match="another disk"):
        outputs.write(built, planned("vhd", kind), work=tmp_path)
    assert [path.name for path in built.root.iterdir()] == ["image.vhd"]
