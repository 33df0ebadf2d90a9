"""The container image: what readers of the specification find, the same each time; every damage refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.image import container, oci
from builder.recipe import Plan, find, load, plan
from builder.run import run
from builder.workspace import digest_file


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(load(find("dotnet-sample-9")), version="9.20261122.3", source_date_epoch=1_795_305_600)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (("./etc/os-release", b"ID=x\n"), ("./usr/bin/thing", bytes(range(256)) * 400)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def archive(rootfs: Path, planned: Plan, tmp_path: Path) -> Path:
    path = tmp_path / "image.oci.tar"
    container.write(rootfs, path, planned, work=tmp_path)
    return path


def test_the_layer_is_the_root_filesystem_as_it_was_made(archive: Path, rootfs: Path) -> None:
    with oci.opened(archive) as opened:
        [(descriptor, diff_id, stream)] = opened.layers()
        assert descriptor["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
        assert diff_id == digest_file(rootfs)
        assert stream.read() == rootfs.read_bytes()
        assert opened.strangers() == ()
        process = opened.config["config"]
    assert (process["User"], process["WorkingDir"]) == ("1001:0", "/opt/app-root/app")
    assert process["Entrypoint"] == ["/usr/bin/container-entrypoint"]
    assert process["Cmd"] == ["/usr/libexec/s2i/run"]
    assert process["ExposedPorts"] == {"8080/tcp": {}}
    assert "HOME=/opt/app-root" in process["Env"] and process["Env"] == sorted(process["Env"])
    labels = process["Labels"]
    assert (labels["name"], labels["version"], labels["release"]) == ("dotnet-sample-9", "9.20261122", "3")
    assert labels["vendor"] and labels["maintainer"] and labels["summary"] and labels["description"]
    assert labels["io.openshift.s2i.scripts-url"] == "image:///usr/libexec/s2i"
    assert labels["org.opencontainers.image.version"] == "9.20261122.3"


def test_the_same_files_give_the_same_digest(
    archive: Path, rootfs: Path, planned: Plan, tmp_path: Path
) -> None:
    rootfs.touch()
    again = container.write(rootfs, tmp_path / "again.tar", planned, work=tmp_path)
    assert again == container.read(archive)
    assert digest_file(tmp_path / "again.tar") == digest_file(archive)


@pytest.mark.system
def test_skopeo_reads_it_and_gives_it_the_same_digest(archive: Path) -> None:
    seen = json.loads(run(("skopeo", "inspect", f"oci-archive:{archive}")).stdout)
    assert seen["Digest"] == f"sha256:{container.read(archive).digest}"


@pytest.mark.parametrize("place", ["layer", "configuration", "manifest"])
def test_a_changed_byte_is_found(archive: Path, place: str) -> None:
    data = bytearray(archive.read_bytes())
    marks = {"layer": b"\x1f\x8b\x08", "configuration": b'"WorkingDir"', "manifest": b'"schemaVersion"'}
    offset = data.index(marks[place]) + {"layer": 60}.get(place, 1)
    data[offset] ^= 1
    archive.write_bytes(data)
    with pytest.raises(HallmarkError, match="is damaged"):
        container.read(archive)


def test_another_tar_than_the_configuration_names_is_found(
    rootfs: Path, planned: Plan, tmp_path: Path
) -> None:
    other = gzip.compress(rootfs.read_bytes() + bytes(512), mtime=0)
    sha256 = oci.digest(io.BytesIO(other))
    layer = oci.Layer(
        oci.LAYER_GZIP, sha256, len(other), digest_file(rootfs), "a layer", lambda: iter([other])
    )
    description = oci.Description("n", "1", "t", "s", "x86_64", 0, {}, {})
    oci.pack(tmp_path / "forged.tar", (layer,), description)
    with pytest.raises(HallmarkError, match="another digest than it should"):
        container.read(tmp_path / "forged.tar")


def test_a_truncated_archive_is_refused(archive: Path) -> None:
    with archive.open("r+b") as stream:
        stream.truncate(archive.stat().st_size // 2)
    with pytest.raises(HallmarkError, match=r"no complete OCI archive|is damaged"):
        container.read(archive)


def test_a_full_disk_is_told(rootfs: Path, planned: Plan, tmp_path: Path) -> None:
    (tmp_path / "layer.tar.gz").symlink_to("/dev/full")
    with pytest.raises(HallmarkError, match="cannot compress the layer: No space left"):
        container.write(rootfs, tmp_path / "x.tar", planned, work=tmp_path)
