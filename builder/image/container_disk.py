"""The container disk for OpenShift Virtualization: an OCI image whose one layer holds /disk/NAME.qcow2.

KubeVirt's user guide ("Disks and volumes", containerDisk) asks for one disk below ``/disk`` that user 107
(QEMU) can read. The layer is not compressed: the qcow2 in it is.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

from builder.errors import HallmarkError
from builder.image import oci
from builder.image.oci import must
from builder.workspace import digest_file

__all__ = ["check", "write"]

#: The user and group that QEMU runs as in KubeVirt's containers.
QEMU_USER = 107
_READ = 4 << 20


def write(qcow2: Path, target: Path, *, description: oci.Description) -> None:
    """Pack a qcow2 into an OCI archive, and prove it by reading it back.

    :raises HallmarkError: a file can't be read or written, or the archive doesn't read back.
    """
    try:
        size = qcow2.stat().st_size
        member = f"disk/{description.name}.qcow2"
        head = oci.header("disk/", 0, description.epoch, owner=QEMU_USER, mode=0o555)
        head += oci.header(member, size, description.epoch, owner=QEMU_USER, mode=0o444)
        tail = bytes(-size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)

        def chunks() -> Iterator[bytes]:
            """The layer's tar, made as it is read: the disk is never copied for it."""
            yield head
            with qcow2.open("rb", buffering=0) as stream:
                while data := stream.read(_READ):
                    yield data
            yield tail

        sha256 = hashlib.sha256()
        for chunk in chunks():
            sha256.update(chunk)
    except OSError as error:
        raise HallmarkError(f"cannot read the disk: {error.strerror}", where=qcow2) from None
    layer = oci.Layer(
        kind=oci.LAYER,
        sha256=sha256.hexdigest(),
        size=len(head) + size + len(tail),
        diff_id=sha256.hexdigest(),
        comment=member,
        chunks=chunks,
    )
    oci.pack(target, (layer,), description)
    check(target, qcow2_sha256=digest_file(qcow2))


def check(path: Path, *, qcow2_sha256: str) -> None:
    """Read an archive: every digest and size, one layer, one disk in it.

    :param qcow2_sha256: what the disk's digest must be, in hexadecimal.
    :raises HallmarkError: naming what is not as it must be.
    """
    with oci.opened(path) as archive:
        layers = list(archive.layers())
        must(len(layers) == 1, path, "the image has another number of layers than one")
        [(descriptor, diff_id, stream)] = layers
        must(descriptor["digest"] == f"sha256:{diff_id}", path, "the configuration names another layer")
        with tarfile.open(fileobj=stream, mode="r:") as tree:
            directory, *files = tree.getmembers()
            must(directory.isdir() and directory.name == "disk", path, "the layer does not begin with /disk")
            must(
                len(files) == 1 and files[0].isreg(), path, "the layer holds another number of disks than one"
            )
            for member in (directory, *files):
                mine = member.uid == member.gid == QEMU_USER and bool(member.mode & 0o400)
                must(mine, path, f"user {QEMU_USER} does not own and read /{member.name}")
            must(files[0].name.startswith("disk/"), path, "the disk does not lie below /disk")
            disk = tree.extractfile(files[0])
            assert disk is not None, "a regular file"
            must(oci.digest(disk) == qcow2_sha256, path, "the layer holds another disk")
