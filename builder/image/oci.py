"""OCI archives: an image layout in a tar, as ``skopeo copy oci-archive:FILE …`` and ``podman`` take it.

Source: the "OCI Image Format Specification" 1.0 (layout, index, manifest, configuration, layers). The same
layers and description give the same archive, byte for byte.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from builder.errors import HallmarkError

__all__ = [
    "INDEX",
    "LAYER",
    "LAYER_GZIP",
    "MANIFEST",
    "Archive",
    "Description",
    "Layer",
    "digest",
    "header",
    "must",
    "opened",
    "pack",
]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_READ = 4 << 20


@dataclass(frozen=True, slots=True)
class Description:
    """What the image says about itself. ``epoch``: seconds since 1970, the time of everything in it.

    ``config`` is the object that tells an engine how to run it, without the labels.
    """

    name: str
    version: str
    title: str
    summary: str
    architecture: str
    epoch: int
    labels: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def created(self) -> str:
        """``epoch`` as RFC 3339 writes it."""
        return datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def annotations(self) -> dict[str, str]:
        """The specification's own keys (annex "Pre-Defined Annotation Keys")."""
        return {
            "org.opencontainers.image.title": self.title,
            "org.opencontainers.image.description": self.summary,
            "org.opencontainers.image.version": self.version,
            "org.opencontainers.image.created": self.created,
        }


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its media type, digest (SHA-256 in hexadecimal) and size as a blob, and the digest of its tar.

    ``chunks`` gives the blob's bytes, each time it is called; ``comment`` is for the image's history.
    """

    kind: str
    sha256: str
    size: int
    diff_id: str
    comment: str
    chunks: Callable[[], Iterator[bytes]]


def pack(target: Path, layers: Sequence[Layer], description: Description) -> str:
    """Write an archive that holds one image; the SHA-256 (hexadecimal) of its manifest.

    :raises HallmarkError: a file can't be read or written.
    """
    labels = {**description.annotations, **description.labels}
    platform = {"architecture": _ARCHITECTURES[description.architecture], "os": "linux"}
    config = _json(
        {
            **platform,
            "created": description.created,
            "config": {**description.config, "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
            "history": [
                {"created": description.created, "created_by": "hallmark", "comment": layer.comment}
                for layer in layers
            ],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [
                {"mediaType": layer.kind, "digest": f"sha256:{layer.sha256}", "size": layer.size}
                for layer in layers
            ],
            "annotations": description.annotations,
        }
    )
    named = {"org.opencontainers.image.ref.name": description.version}
    entry = {**_descriptor(MANIFEST, manifest), "platform": platform, "annotations": named}
    index = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    epoch = description.epoch
    try:
        with target.open("wb") as stream:
            for name in ("blobs/", "blobs/sha256/"):
                stream.write(header(name, 0, epoch))
            for data in (config, manifest):
                _put(stream, f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", data, epoch)
            for layer in layers:
                stream.write(header(f"blobs/sha256/{layer.sha256}", layer.size, epoch))
                for chunk in layer.chunks():
                    stream.write(chunk)
                stream.write(bytes(_padding(layer.size)))
            _put(stream, "index.json", index, epoch)
            _put(stream, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), epoch)
            stream.write(bytes(2 * tarfile.BLOCKSIZE))
    except OSError as error:
        raise HallmarkError(f"cannot write the OCI archive: {error.strerror}", where=target) from None
    return hashlib.sha256(manifest).hexdigest()


@dataclass(frozen=True)
class Archive:
    """An archive that is being read; what the index names was held against its digests."""

    path: Path
    digest: str
    entry: Mapping[str, Any]
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    _tar: tarfile.TarFile

    def layers(self) -> Iterator[tuple[Mapping[str, Any], str, IO[bytes]]]:
        """Each layer, the lowest first: its descriptor, the digest (hexadecimal) that the configuration gives
        its tar, and the tar, to be read as long as the archive is open.

        :raises HallmarkError: a blob isn't what its descriptor says.
        """
        ids = list(self.config.get("rootfs", {}).get("diff_ids", ()))
        descriptors = list(self.manifest.get("layers", ()))
        must(
            len(ids) == len(descriptors), self.path, "the configuration names other layers than the manifest"
        )
        for descriptor, named in zip(descriptors, ids, strict=True):
            kind = descriptor["mediaType"]
            must(kind in (LAYER, LAYER_GZIP), self.path, f"a layer is of type {kind}")
            blob: IO[bytes] = _verified(self._tar, descriptor, kind, self.path)
            tar = gzip.GzipFile(fileobj=blob) if kind == LAYER_GZIP else blob
            yield descriptor, str(named).removeprefix("sha256:"), tar  # type: ignore[misc]  # GzipFile reads bytes

    def strangers(self) -> tuple[str, ...]:
        """Files of the archive that no document of it names."""
        named = [self.entry, self.manifest["config"], *self.manifest.get("layers", ())]
        known = {"oci-layout", "index.json", *("blobs/" + item["digest"].replace(":", "/") for item in named)}
        return tuple(sorted(item.name for item in self._tar if not item.isdir() and item.name not in known))


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Read an archive of one image as the specification says; all that is named has its digest and size.

    :raises HallmarkError: naming what is not as it must be; also for what goes wrong while it is open.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            layout = _load(_member(tar, "oci-layout").read(), path)
            must(layout.get("imageLayoutVersion") == "1.0.0", path, "it is no OCI image layout")
            index = _load(_member(tar, "index.json").read(), path)
            entries = index.get("manifests")
            one = isinstance(entries, list) and len(entries) == 1
            must(one, path, "the index names another number of images than one")
            entry = index["manifests"][0]
            manifest = _load(_verified(tar, entry, MANIFEST, path).read(), path)
            config = _load(_verified(tar, manifest["config"], CONFIG, path).read(), path)
            yield Archive(path, str(entry["digest"]).removeprefix("sha256:"), entry, manifest, config, tar)
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, TypeError, AttributeError) as error:
        raise HallmarkError(f"the file is no complete OCI archive: {error}", where=path) from None


def digest(stream: IO[bytes]) -> str:
    """The SHA-256 (hexadecimal) of what is left in a stream."""
    found = hashlib.sha256()
    while data := stream.read(_READ):
        found.update(data)
    return found.hexdigest()


def header(name: str, size: int, epoch: int, *, owner: int = 0, mode: int = 0o644) -> bytes:
    """The header of one member of a tar; a name that ends with a slash is a directory."""
    info = tarfile.TarInfo(name.rstrip("/"))
    info.size, info.mtime, info.uid, info.gid, info.mode = size, epoch, owner, owner, mode
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, mode | 0o111
    return info.tobuf(tarfile.PAX_FORMAT)


def must(condition: bool, path: Path, what: str) -> None:
    """Refuse an archive.

    :raises HallmarkError: the condition doesn't hold.
    """
    if not condition:
        raise HallmarkError(f"the OCI archive is wrong: {what}", where=path)


def _put(stream: BinaryIO, name: str, data: bytes, epoch: int) -> None:
    stream.write(header(name, len(data), epoch) + data + bytes(_padding(len(data))))


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = tar.extractfile(tar.getmember(name))
    if stream is None:
        raise KeyError(f"{name} is no file")
    return stream


def _verified(tar: tarfile.TarFile, descriptor: Mapping[str, Any], kind: str, path: Path) -> IO[bytes]:
    """The blob that a descriptor names, if it is what the descriptor says."""
    algorithm, _, sha256 = str(descriptor["digest"]).partition(":")
    must(descriptor["mediaType"] == kind, path, f"a blob is of type {descriptor['mediaType']}, not {kind}")
    name = f"blobs/{algorithm}/{sha256}"
    stream = _member(tar, name)
    found = (digest(stream), tar.getmember(name).size)
    must(found == (sha256, descriptor["size"]), path, f"the blob {sha256[:12]} is damaged")
    stream.seek(0)
    return stream


def _load(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise HallmarkError("a JSON document in the OCI archive is damaged", where=path) from None
    must(isinstance(value, dict), path, "a JSON document in it is no object")
    return dict(value)
