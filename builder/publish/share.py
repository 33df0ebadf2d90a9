"""One release as one file in a directory, such as a Hyper-V library share."""

from __future__ import annotations

import os
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.image.sparse import extents
from builder.publish.ranges import puts, size_of
from builder.publish.upload import Transfer
from builder.workspace import atomic_file, digest_file

__all__ = ["deliver"]


def deliver(image: Path, target: Path, *, sha256: str) -> Transfer:
    """Copy the image (sparse), compare its digest, and only then give it its name.

    :raises HallmarkError: the directory can't be written or is full, other bytes have the name already, or
        the copy differs.
    """
    data = list(extents(image))
    size = image.stat().st_size
    try:
        if target.exists():
            _must_be_same(target, sha256)
            return Transfer(0, size_of(data), size - size_of(data), 0)
        with atomic_file(target) as temporary:
            with log.step("copy the image"), image.open("rb") as source, temporary.open("r+b") as copy:
                copy.truncate(size)
                for offset, length in puts(data):
                    _write(copy.fileno(), os.pread(source.fileno(), length, offset), offset)
            with log.step("read the copy back"):
                _compare(temporary, sha256)
            # link(2) refuses to replace what another publisher put there meanwhile; rename(2) would not.
            try:
                os.link(temporary, target)
            except FileExistsError:
                _must_be_same(target, sha256)
            except OSError:
                log.debug(f"{target.parent} knows no hard links: renaming")
    except OSError as error:
        raise HallmarkError(
            f"cannot publish to the directory: {error.strerror}",
            where=target.parent,
            hint="mount the share, make it writable, and free space in it; then run the same command again",
        ) from None
    return Transfer(size_of(data), 0, size - size_of(data), 0)


def _write(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(handle, view, offset)
        view, offset = view[done:], offset + done


def _must_be_same(target: Path, sha256: str) -> None:
    found = digest_file(target)
    if found != sha256:
        raise HallmarkError(
            "this version is published already, with other bytes",
            where=target,
            why="a published version never changes: consumers pin it, and its certificate names its digest",
            hint="build a new version (the last number counts up within a day)",
            details=[f"published: sha256 {found}", f"this image: sha256 {sha256}"],
        )


def _compare(path: Path, sha256: str) -> None:
    found = digest_file(path)
    if found != sha256:
        raise HallmarkError(
            "the copy is not the image",
            where=path.parent,
            why=f"its sha256 is {found}, not {sha256}",
            hint="the share stores wrong bytes, or the image was changed meanwhile; nothing was published",
        )
