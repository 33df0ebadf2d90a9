"""A container image: the root filesystem as the one layer of an OCI archive, and what an engine is told.

The layer is the tar that diskimage-builder made, compressed: registries and engines take it as it is.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import HallmarkError
from builder.image import oci
from builder.image.oci import must
from builder.recipe.model import Plan

__all__ = ["Contents", "read", "write"]

_READ = 4 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds. ``digest``: SHA-256 (hexadecimal) of the manifest, by which a registry knows it.

    ``unpacked``: bytes of all layers' tars.
    """

    digest: str
    unpacked: int


def write(rootfs: Path, target: Path, plan: Plan, *, work: Path) -> Contents:
    """Make the archive of a container's plan and read it back.

    :param work: the compressed layer is written here first.
    :raises HallmarkError: a file can't be read or written, or the archive doesn't read back.
    """
    packed = work / "layer.tar.gz"
    diff_id = hashlib.sha256()
    try:
        with (
            rootfs.open("rb") as source,
            packed.open("wb") as sink,
            # No name and no time: the same tar gives the same bytes.
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=sink, mtime=0) as compressed,
        ):
            while data := source.read(_READ):
                diff_id.update(data)
                compressed.write(data)
        with packed.open("rb") as stream:
            sha256 = oci.digest(stream)
    except OSError as error:
        raise HallmarkError(f"cannot compress the layer: {error.strerror}", where=packed) from None

    def chunks() -> Iterator[bytes]:
        with packed.open("rb") as stream:
            while data := stream.read(_READ):
                yield data

    layer = oci.Layer(
        kind=oci.LAYER_GZIP,
        sha256=sha256,
        size=packed.stat().st_size,
        diff_id=diff_id.hexdigest(),
        comment=plan.title,
        chunks=chunks,
    )
    written = oci.pack(target, (layer,), _describe(plan))
    packed.unlink()
    found = read(target)
    must(found.digest == written, target, "it reads back as another image")
    return found


def read(path: Path) -> Contents:
    """Read an archive whole: every digest, also of the layers' tars; each is a tar with members.

    :raises HallmarkError: naming what is not as it must be.
    """
    unpacked = 0
    with oci.opened(path) as archive:
        for _, diff_id, stream in archive.layers():
            must(oci.digest(stream) == diff_id, path, "a layer's tar has another digest than it should")
            unpacked += stream.tell()
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:") as tree:
                must(tree.next() is not None, path, "a layer is empty")
        must(unpacked > 0, path, "it has no layer")
        return Contents(archive.digest, unpacked)


def _describe(plan: Plan) -> oci.Description:
    container = plan.container
    assert container is not None, "a plan of a container"
    version, _, release = plan.version.rpartition(".")
    # openshift-preflight, HasRequiredLabel; vendor and maintainer are for people to give.
    labels = {
        "name": plan.recipe,
        "version": version,
        "release": release,
        "summary": plan.title,
        "description": plan.summary.strip(),
        **container.labels,
    }
    config: dict[str, Any] = {
        # A number: OpenShift can't know that a name isn't root's ("runAsNonRoot").
        "User": f"{container.user}:0",
        "WorkingDir": container.workdir,
        "Env": [f"{name}={value}" for name, value in sorted(container.environment.items())],
        "ExposedPorts": {f"{port}/tcp": {} for port in container.ports},
        "Entrypoint": list(container.entrypoint),
        "Cmd": list(container.command),
    }
    return oci.Description(
        name=plan.recipe,
        version=plan.version,
        title=plan.title,
        summary=plan.summary.strip(),
        architecture=plan.architecture,
        epoch=plan.source_date_epoch,
        labels=labels,
        config={key: value for key, value in config.items() if value},
    )
