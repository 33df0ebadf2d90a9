"""The container disk: what a reader of the image specification finds, and every damage refused."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import HallmarkError
from builder.image import container_disk, oci
from builder.workspace import digest_file

DESCRIPTION = oci.Description(
    name="small-9",
    version="9.20261122.0",
    title="Small",
    summary="As small as it can be",
    architecture="x86_64",
    epoch=1_795_305_600,
    labels={},
    config={},
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    path.write_bytes(b"QFI\xfb" + bytes(range(256)) * 33)
    return path


@pytest.fixture
def archive(disk: Path, tmp_path: Path) -> Path:
    path = tmp_path / "image.oci.tar"
    container_disk.write(disk, path, description=DESCRIPTION)
    return path


def blobs(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tree:
        return {m.name: tree.extractfile(m).read() for m in tree if m.isfile()}  # type: ignore[union-attr]


def follow(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], bytes]:
    """Index, manifest, configuration and layer, each by the digest that names it."""
    found = blobs(path)

    def blob(descriptor: dict[str, Any]) -> bytes:
        data = found["blobs/" + descriptor["digest"].replace(":", "/")]
        assert len(data) == descriptor["size"]
        assert descriptor["digest"] == "sha256:" + hashlib.sha256(data).hexdigest()
        return data

    index = json.loads(found["index.json"])
    manifest = json.loads(blob(index["manifests"][0]))
    return index, manifest, json.loads(blob(manifest["config"])), blob(manifest["layers"][0])


def test_a_reader_of_the_specification_finds_the_disk(archive: Path, disk: Path, tmp_path: Path) -> None:
    assert json.loads(blobs(archive)["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index, manifest, config, layer = follow(archive)
    assert index["schemaVersion"] == manifest["schemaVersion"] == 2
    assert index["manifests"][0]["platform"] == {"architecture": "amd64", "os": "linux"}
    assert index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] == "9.20261122.0"
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert config["config"]["Labels"]["org.opencontainers.image.title"] == "Small"
    assert config["rootfs"] == {
        "type": "layers",
        "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()],
    }
    (tmp_path / "layer.tar").write_bytes(layer)
    with tarfile.open(tmp_path / "layer.tar") as tree:
        members = tree.getmembers()
        assert [(m.name, m.uid, m.gid) for m in members] == [
            ("disk", 107, 107),
            ("disk/small-9.qcow2", 107, 107),
        ]
        assert members[0].isdir() and members[0].mode == 0o555
        stream = tree.extractfile(members[1])
        assert stream is not None and stream.read() == disk.read_bytes()


def test_the_same_disk_gives_the_same_archive(archive: Path, disk: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    disk.touch()
    container_disk.write(disk, again, description=DESCRIPTION)
    assert digest_file(again) == digest_file(archive)


def damage(path: Path, what: Callable[[dict[str, bytes]], None]) -> None:
    """Write the archive anew after a change to its members."""
    members = blobs(path)
    what(members)
    with tarfile.open(path, "w") as tree:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            source = path.with_name("member")
            source.write_bytes(data)
            with source.open("rb") as stream:
                tree.addfile(info, stream)


def edit(members: dict[str, bytes], old: bytes, new: bytes, *, where: str = "") -> None:
    hit = [name for name, data in members.items() if old in data and where in name]
    assert hit, old
    members[hit[0]] = members[hit[0]].replace(old, new, 1)


def relayer(members: dict[str, bytes], old: bytes, new: bytes) -> None:
    """Change the layer and make every digest right again, as somebody who repacks it would."""
    index = json.loads(members["index.json"])
    [entry] = index["manifests"]
    manifest = json.loads(members.pop("blobs/" + entry["digest"].replace(":", "/")))
    config = json.loads(members.pop("blobs/" + manifest["config"]["digest"].replace(":", "/")))
    layer = members.pop("blobs/" + manifest["layers"][0]["digest"].replace(":", "/"))
    assert old in layer

    def put(data: bytes, descriptor: dict[str, Any]) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        members[f"blobs/sha256/{sha256}"] = data
        descriptor.update(digest=f"sha256:{sha256}", size=len(data))

    put(_checksums(layer.replace(old, new)), manifest["layers"][0])
    config["rootfs"]["diff_ids"] = [manifest["layers"][0]["digest"]]
    put(json.dumps(config).encode(), manifest["config"])
    put(json.dumps(manifest).encode(), entry)
    members["index.json"] = json.dumps(index).encode()


def _checksums(layer: bytes) -> bytes:
    """The two headers at the begin of a layer with their sums made right again."""
    data = bytearray(layer)
    for start in (0, 512):
        data[start + 148 : start + 156] = b" " * 8
        data[start + 148 : start + 156] = f"{sum(data[start : start + 512]):06o}\0 ".encode()
    return bytes(data)


UID = b"0000153\0"  # 107


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda m: m.pop("oci-layout"), "no complete OCI archive"),
        (lambda m: edit(m, b"1.0.0", b"2.0.0", where="oci-layout"), "no OCI image layout"),
        (lambda m: edit(m, b'"manifests":[', b'"manifests":[{},', where="index"), "number of images"),
        (lambda m: edit(m, b"{", b"[", where="index"), "damaged"),
        (lambda m: edit(m, b"index.v1+json", b"index.v1-json") or edit(m, b"QFI", b"QFJ"), "is damaged"),
        (lambda m: edit(m, b'"history"', b'"History"'), "is damaged"),
        (lambda m: edit(m, b"image.layer.v1.tar", b"image.layer.v1.tgz"), "is damaged"),
        (lambda m: relayer(m, b"QFI", b"QFJ"), "another disk"),
        (lambda m: relayer(m, b"disk/small-9.qcow2", b"root/small-9.qcow2"), "below /disk"),
        (lambda m: relayer(m, UID, b"0000000\0"), "user 107"),
        (lambda m: relayer(m, b"0000444\0", b"0000044\0"), "user 107"),
    ],
)
def test_each_damage_is_refused(
    archive: Path, disk: Path, what: Callable[[dict[str, bytes]], None], words: str
) -> None:
    container_disk.check(archive, qcow2_sha256=digest_file(disk))
    damage(archive, what)
    with pytest.raises(HallmarkError, match=words):
        container_disk.check(archive, qcow2_sha256=digest_file(disk))


def test_a_truncated_archive_is_refused(archive: Path, disk: Path) -> None:
    with archive.open("r+b") as stream:
        stream.truncate(archive.stat().st_size // 2)
    with pytest.raises(HallmarkError):
        container_disk.check(archive, qcow2_sha256=digest_file(disk))
