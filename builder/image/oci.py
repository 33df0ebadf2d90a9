"""The container disk for OpenShift Virtualization: an OCI image whose one layer holds /disk/NAME.qcow2.

KubeVirt's user guide ("Disks and volumes", containerDisk) asks for one disk below ``/disk`` that user 107
(QEMU) can read. The archive is an image layout ("OCI Image Format Specification" 1.0) in a tar, as
``skopeo copy oci-archive:image.oci.tar docker://…`` and ``podman load`` take it. The layer is not compressed:
the qcow2 in it is.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from builder.errors import HallmarkError
from builder.workspace import digest_file

__all__ = ["Description", "check", "write"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
INDEX = "application/vnd.oci.image.index.v1+json"
#: The user and group that QEMU runs as in KubeVirt's containers.
QEMU_USER = 107
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_READ = 4 << 20


@dataclass(frozen=True, slots=True)
class Description:
    """What the image says about itself. ``epoch``: seconds since 1970, the time of everything in it."""

    name: str
    version: str
    title: str
    summary: str
    architecture: str
    epoch: int


def write(qcow2: Path, target: Path, *, description: Description) -> None:
    """Pack a qcow2 into an OCI archive, and prove it by reading it back.

    The same qcow2 and description give the same archive, byte for byte.

    :raises HallmarkError: a file can't be read or written, or the archive doesn't read back.
    """
    layer = _Layer.of(qcow2, description)
    try:
        layer_digest = _digest(layer.chunks())
        created = datetime.fromtimestamp(description.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        labels = {
            "org.opencontainers.image.title": description.title,
            "org.opencontainers.image.description": description.summary,
            "org.opencontainers.image.version": description.version,
            "org.opencontainers.image.created": created,
        }
        platform = {"architecture": _ARCHITECTURES[description.architecture], "os": "linux"}
        config = _json(
            {
                **platform,
                "created": created,
                "config": {"Labels": labels},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
                "history": [{"created": created, "created_by": "hallmark", "comment": layer.member}],
            }
        )
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _descriptor(CONFIG, config),
                "layers": [{"mediaType": LAYER, "digest": f"sha256:{layer_digest}", "size": layer.size}],
                "annotations": labels,
            }
        )
        named = {"org.opencontainers.image.ref.name": description.version}
        entry = {**_descriptor(MANIFEST, manifest), "platform": platform, "annotations": named}
        index = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
        with target.open("wb") as stream:
            for name in ("blobs/", "blobs/sha256/"):
                stream.write(_header(name, 0, description.epoch))
            for data in (config, manifest):
                _put(stream, f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", data, description.epoch)
            stream.write(_header(f"blobs/sha256/{layer_digest}", layer.size, description.epoch))
            for chunk in layer.chunks():
                stream.write(chunk)
            _put(stream, "index.json", index, description.epoch)
            _put(stream, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), description.epoch)
            stream.write(bytes(2 * tarfile.BLOCKSIZE))
    except OSError as error:
        raise HallmarkError(f"cannot write the OCI archive: {error.strerror}", where=target) from None
    check(target, qcow2_sha256=digest_file(qcow2))


def check(path: Path, *, qcow2_sha256: str) -> None:
    """Read an archive as the specification says: every digest and size, one layer, one disk in it.

    :param qcow2_sha256: what the disk's digest must be, in hexadecimal.
    :raises HallmarkError: naming what is not as it must be.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = {member.name: member for member in archive}
            layout = _load(_blob(archive, members, "oci-layout"), path)
            _must(layout.get("imageLayoutVersion") == "1.0.0", path, "it is no OCI image layout")
            index = _load(_blob(archive, members, "index.json"), path)
            [entry] = _list(index.get("manifests"), path, "the index names another number of images than one")
            manifest = _load(_verified(archive, members, entry, MANIFEST, path).read(), path)
            config = _load(_verified(archive, members, manifest["config"], CONFIG, path).read(), path)
            [layer] = _list(manifest.get("layers"), path, "the image has another number of layers than one")
            ids = config.get("rootfs", {}).get("diff_ids")
            _must(ids == [layer["digest"]], path, "the configuration names another layer")
            with tarfile.open(fileobj=_verified(archive, members, layer, LAYER, path), mode="r:") as tree:
                _check_layer(tree, path, qcow2_sha256)
    except (OSError, tarfile.TarError, KeyError, TypeError, AttributeError) as error:
        raise HallmarkError(f"the file is no complete OCI archive: {error}", where=path) from None


def _check_layer(tree: tarfile.TarFile, path: Path, sha256: str) -> None:
    directory, *files = tree.getmembers()
    _must(directory.isdir() and directory.name == "disk", path, "the layer does not begin with /disk")
    _must(len(files) == 1 and files[0].isreg(), path, "the layer holds another number of disks than one")
    for member in (directory, *files):
        mine = member.uid == member.gid == QEMU_USER and member.mode & 0o400
        _must(bool(mine), path, f"user {QEMU_USER} does not own and read /{member.name}")
    _must(files[0].name.startswith("disk/"), path, "the disk does not lie below /disk")
    disk = tree.extractfile(files[0])
    assert disk is not None, "a regular file"
    _must(_digest(iter(lambda: disk.read(_READ), b"")) == sha256, path, "the layer holds another disk")


@dataclass(frozen=True, slots=True)
class _Layer:
    """The layer's tar, made as it is read: the disk is never copied for it."""

    qcow2: Path
    member: str
    head: bytes
    tail: bytes

    @classmethod
    def of(cls, qcow2: Path, description: Description) -> _Layer:
        try:
            size = qcow2.stat().st_size
        except OSError as error:
            raise HallmarkError(f"cannot read the disk: {error.strerror}", where=qcow2) from None
        member = f"disk/{description.name}.qcow2"
        head = _header("disk/", 0, description.epoch, owner=QEMU_USER, mode=0o555)
        head += _header(member, size, description.epoch, owner=QEMU_USER, mode=0o444)
        return cls(qcow2, member, head, bytes(_padding(size) + 2 * tarfile.BLOCKSIZE))

    @property
    def size(self) -> int:
        return len(self.head) + self.qcow2.stat().st_size + len(self.tail)

    def chunks(self) -> Iterator[bytes]:
        yield self.head
        with self.qcow2.open("rb", buffering=0) as stream:
            while data := stream.read(_READ):
                yield data
        yield self.tail


def _header(name: str, size: int, epoch: int, *, owner: int = 0, mode: int = 0o644) -> bytes:
    """One member's header; a name that ends with a slash is a directory."""
    info = tarfile.TarInfo(name.rstrip("/"))
    info.size, info.mtime, info.uid, info.gid, info.mode = size, epoch, owner, owner, mode
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, mode | 0o111
    return info.tobuf(tarfile.PAX_FORMAT)


def _put(stream: BinaryIO, name: str, data: bytes, epoch: int) -> None:
    stream.write(_header(name, len(data), epoch) + data + bytes(_padding(len(data))))


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _digest(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _blob(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> bytes:
    stream = archive.extractfile(members[name])
    assert stream is not None, "a regular file"
    return stream.read()


def _verified(
    archive: tarfile.TarFile,
    members: Mapping[str, tarfile.TarInfo],
    descriptor: Mapping[str, Any],
    kind: str,
    path: Path,
) -> IO[bytes]:
    """The blob that a descriptor names, if it is what the descriptor says."""
    algorithm, _, sha256 = str(descriptor["digest"]).partition(":")
    _must(descriptor["mediaType"] == kind, path, f"a blob is of type {descriptor['mediaType']}, not {kind}")
    stream = archive.extractfile(members[f"blobs/{algorithm}/{sha256}"])
    assert stream is not None, "a regular file"
    found = _digest(iter(lambda: stream.read(_READ), b""))
    size = members[f"blobs/{algorithm}/{sha256}"].size
    _must((found, size) == (sha256, descriptor["size"]), path, f"the blob {sha256[:12]} is damaged")
    stream.seek(0)
    return stream


def _load(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise HallmarkError("a JSON document in the OCI archive is damaged", where=path) from None
    _must(isinstance(value, dict), path, "a JSON document in it is no object")
    return dict(value)


def _list(value: Any, path: Path, what: str) -> list[Any]:
    _must(isinstance(value, list) and len(value) == 1, path, what)
    return list(value)


def _must(condition: bool, path: Path, what: str) -> None:
    if not condition:
        raise HallmarkError(f"the OCI archive is wrong: {what}", where=path)
