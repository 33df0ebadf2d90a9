"""qemu-img: the one place that knows how it is called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from builder.errors import HallmarkError
from builder.image.vhd import FOOTER_SIZE
from builder.run import run

__all__ = ["compare", "convert"]


def convert(
    image: Path,
    target: Path,
    *,
    to: Literal["qcow2", "vhdx"],
    options: Sequence[str],
    compressed: bool = False,
) -> None:
    """Write the disk of the fixed VHD ``image`` in another format.

    Never with ``-W``: blocks that are written out of order make another file each time.

    :param options: of the format, as ``-o`` takes them.
    :raises CommandFailed: qemu-img failed; what it wrote is of no use.
    """
    # A fixed VHD begins with the disk's own bytes, so its format can't be guessed: it must be named.
    words = ("-f", "vpc", "-O", to, "-o", ",".join(options))
    run(("qemu-img", "convert", *(("-c",) if compressed else ()), *words, image, target))


def compare(image: Path, other: Path, *, kind: str) -> None:
    """Make sure that a file holds the disk of the fixed VHD ``image``: same size, same bytes.

    :param kind: the format of ``other``, as qemu-img calls it.
    :raises HallmarkError: it holds another disk, or qemu-img can't read one of them.
    """
    info = json.loads(run(("qemu-img", "info", "--output=json", "-f", kind, other)).stdout)
    size = image.stat().st_size - FOOTER_SIZE
    same = info["virtual-size"] == size
    details = [f"the disk has {size} bytes, this one {info['virtual-size']}"]
    if same:
        done = run(("qemu-img", "compare", "-f", "vpc", "-F", kind, image, other), check=False)
        if done.returncode > 1:  # 1 says that they differ, more that it could not look
            raise HallmarkError(
                "qemu-img can't compare the two files", where=other, details=done.stderr.splitlines()
            )
        same, details = done.returncode == 0, done.stdout.splitlines()
    if not same:
        raise HallmarkError(
            f"the {kind} file holds another disk than the image",
            where=other,
            why="the certificate speaks for the disk that was looked at",
            details=details,
        )
