"""What can be known before a byte moves: is this file an image that Azure and Hyper-V will take?

Only the file's ends are read, so a refusal takes milliseconds whatever the size. Azure itself says most of
these things after the upload, some of them an hour later when a machine doesn't boot.

Limits (Microsoft Learn): a generation 1 machine boots from at most 2 TiB, a generation 2 machine from at most
4095 GiB; a managed disk has at least 20 MiB. The format rules are those of ``builder.image.vhd``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from builder.disk import gpt
from builder.errors import HallmarkError
from builder.image import vhd
from builder.recipe.model import Generation

__all__ = ["GENERATION_LIMITS", "MINIMUM", "examine"]

#: The largest virtual size of an operating system disk, in bytes, by Hyper-V generation.
GENERATION_LIMITS: dict[Generation, int] = {1: 2 << 40, 2: 4095 << 30}
#: The smallest virtual size, in bytes, that Azure makes a disk of.
MINIMUM = 20 << 20

#: What people upload by mistake: the file's first bytes, its name, and what to do about it.
_MISTAKES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xfd7zXZ\0", "compressed with xz", "decompress it: xz -d FILE"),
    (b"\x1f\x8b", "compressed with gzip", "decompress it: gzip -d FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it: zstd -d FILE"),
    (b"BZh", "compressed with bzip2", "decompress it: bzip2 -d FILE"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"QFI\xfb", "a qcow2 disk", "publish the image.vhd that the build wrote beside it"),
    (
        b"vhdxfile",
        "a VHDX disk",
        "Azure takes no VHDX: publish the image.vhd that the build wrote",
    ),
    (b"KDMV", "a VMDK disk", "publish the image.vhd that the build wrote"),
    (b"conectix", "a dynamic VHD", "only fixed VHDs are taken: publish the image.vhd that the build wrote"),
)


def examine(image: Path, generations: Iterable[Generation]) -> None:
    """Refuse a file that can't become a bootable machine of each of these generations.

    :raises HallmarkError: it is of another format, has a footer, a length, a size or a partition table that
        the cloud refuses; or it can't be read.
    """
    _refuse_mistakes(image)
    if found := vhd.deviations(image):
        raise HallmarkError(
            "the image is not a VHD that Azure and Hyper-V take",
            where=image,
            why="Azure would say so only after the upload",
            hint="it was cut off or edited after the build: build and certify it again",
            details=[str(deviation) for deviation in found],
        )
    virtual = image.stat().st_size - vhd.FOOTER_SIZE
    _must_fit(image, virtual, generations)
    try:
        gpt.read(image, size=virtual)
    except HallmarkError as error:
        raise HallmarkError(
            f"the image's partition table is not whole: {error.what}",
            where=image,
            why="the backup belongs into the last sector before the footer: firmware and resizing rely on it",
            hint="the disk was grown or edited after its table was written: build and certify it again",
        ) from None


def _refuse_mistakes(image: Path) -> None:
    try:
        with image.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise HallmarkError(f"cannot read the image: {error.strerror}", where=image) from None
    for magic, what, remedy in _MISTAKES:
        if head.startswith(magic):
            raise HallmarkError(
                f"the file is {what}, not a fixed VHD",
                where=image,
                why="Azure would take the bytes as they are, and no machine would boot from them",
                hint=remedy,
            )


def _must_fit(image: Path, virtual: int, generations: Iterable[Generation]) -> None:
    if virtual < MINIMUM:
        raise HallmarkError(
            f"the disk has {virtual >> 20} MiB; Azure makes disks of {MINIMUM >> 20} MiB and more",
            where=image,
            hint="raise disk.size_mib in the recipe",
        )
    for generation in generations:
        limit = GENERATION_LIMITS[generation]
        if virtual > limit:
            raise HallmarkError(
                f"the disk has {virtual / (1 << 30):,.1f} GiB; "
                f"a generation {generation} machine boots from at most {limit >> 30:,} GiB",
                where=image,
                why="the image could be uploaded, but no machine could be made of it",
                hint="lower disk.size_mib in the recipe"
                + (", or leave generation 1 out of disk.generations" if generation == 1 else ""),
            )
