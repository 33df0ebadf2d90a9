"""The format view: the image file's own bytes, with no guest running and no filesystem mounted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from builder.errors import HallmarkError
from builder.image import vhd
from certification.evidence import EvidenceLog
from certification.model import Subject
from certification.views.fat import Fat
from certification.views.partitions import SECTOR, Gpt, Mbr, Partition, parse_gpt, parse_mbr

__all__ = ["FOOTER", "FormatView", "ImageBytes", "merge_ranges"]

FOOTER = 512
#: Bytes of an image that a recording holds at most; what was read beyond can't be read again from it.
_RECORDED = 64 << 20
T = TypeVar("T")


class ImageBytes:
    """A fixed VHD: the raw disk followed by a footer of 512 bytes. Everything is read when it is asked for.

    ``disk_size`` is the length of the disk without the footer; all offsets are bytes from the start of the
    disk.
    """

    def __init__(self, path: Path, *, evidence: EvidenceLog | None = None) -> None:
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HallmarkError(f"cannot open the image: {error.strerror}", where=path) from None
        self._path = path
        self.size = os.fstat(self._handle).st_size
        self.disk_size = self.size - FOOTER
        self._evidence = evidence
        self._ranges: set[tuple[int, int]] = set()
        if self.disk_size < 1 << 20:
            self.close()
            raise HallmarkError(
                f"{self.size} bytes are too few for a VHD with a partitioned disk", where=path
            )

    @property
    def path(self) -> Path:
        """The file itself, for programs of this machine that look into it (within ``answer``).

        :raises HallmarkError: there is only a recording of some of its bytes.
        """
        return self._path

    @property
    def name(self) -> str:
        """The name of the file."""
        return self._path.name

    def answer(self, name: str, ask: Callable[[], str]) -> str:
        """What ``ask`` says about the whole image, recorded under ``name``.

        For looks that read too much to be kept (a filesystem check): their answer is the recording, and not
        the bytes that they read.
        """
        before = set(self._ranges)
        try:
            if self._evidence is None:
                return ask()
            return self._evidence.made(name, lambda: ask().encode()).decode()
        finally:
            self._ranges = before

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file; fewer than ``length`` at its end."""
        self._ranges.add((offset, length))
        return os.pread(self._handle, length, offset)

    @cached_property
    def footer_bytes(self) -> bytes:
        """The last 512 bytes of the file."""
        return self._note("footer", self.read(self.disk_size, FOOTER), show=bytes.hex)

    @cached_property
    def footer(self) -> vhd.Footer:
        """The footer, decoded.

        :raises HallmarkError: there is none.
        """
        return vhd.read_footer(self._path)

    @cached_property
    def deviations(self) -> list[vhd.Deviation]:
        """Everything that a strict reader finds wrong with the file as a fixed VHD for Azure and Hyper-V."""
        self._ranges |= {(0, FOOTER), (self.disk_size, FOOTER)}
        found = vhd.deviations(self._path)
        return self._note("deviations from a fixed VHD", found)

    @cached_property
    def mbr(self) -> Mbr:
        """The first sector."""
        return self._note("MBR", parse_mbr(self.read(0, SECTOR)), show=lambda mbr: str(mbr.entries))

    @cached_property
    def gpt(self) -> Gpt | None:
        """Both copies of the GPT; None when the disk has none."""

        def show(gpt: Gpt | None) -> str:
            return "none" if gpt is None else f"{gpt.partitions} problems: {gpt.problems}"

        return self._note("GPT", parse_gpt(self._disk_read, self.disk_size), show=show)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The partitions by the GPT; empty when there is none."""
        return self.gpt.partitions if self.gpt else ()

    def partition(self, kind: str) -> Partition | None:
        """The first partition of a kind (``esp``, ``bios-boot``, ``linux``, …)."""
        return next((part for part in self.partitions if part.kind == kind), None)

    @cached_property
    def esp(self) -> Fat | None:
        """The filesystem of the EFI system partition; None when there is no such partition.

        :raises HallmarkError: the partition holds no FAT filesystem.
        """
        part = self.partition("esp")
        if part is None:
            return None

        def read(offset: int, length: int) -> bytes:
            return self.read(part.offset + offset, max(0, min(length, part.length - offset)))

        fat = Fat(read, where=f"{self.name}, partition {part.number}")
        return self._note("ESP", fat, show=lambda fat: "\n".join(sorted(fat.files)))

    def close(self) -> None:
        """Close the file; what was read of it goes to the evidence."""
        if self._handle >= 0:
            if self._evidence is not None and self._ranges:
                ranges = smallest(merge_ranges(self._ranges), limit=_RECORDED)
                held = sum(length for _, length in ranges)
                self._evidence.whole(
                    "image",
                    self._pack(ranges),
                    summary=f"{held} bytes in {len(ranges)} places",
                )
            os.close(self._handle)
            self._handle = -1

    def _pack(self, ranges: list[tuple[int, int]]) -> bytes:
        head = json.dumps({"name": self.name, "size": self.size, "ranges": ranges}).encode()
        return b"\n".join([head, b"".join(os.pread(self._handle, length, start) for start, length in ranges)])

    def _disk_read(self, offset: int, length: int) -> bytes:
        return self.read(offset, max(0, min(length, self.disk_size - offset)))

    def _note(self, name: str, value: T, *, show: Callable[[T], str] = str) -> T:
        if self._evidence is not None:
            self._evidence.fact(name, show(value))
        return value


def smallest(ranges: Iterable[tuple[int, int]], *, limit: int) -> list[tuple[int, int]]:
    """Of the (offset, length) pairs, short ones first, as many as have ``limit`` bytes together; sorted."""
    kept: list[tuple[int, int]] = []
    for start, length in sorted(ranges, key=lambda item: item[1]):
        limit -= length
        if limit < 0:
            break
        kept.append((start, length))
    return sorted(kept)


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(offset, length) pairs, sorted; those that touch or overlap become one."""
    merged: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        if merged and start <= sum(merged[-1]):
            first, before = merged[-1]
            merged[-1] = (first, max(before, start + length - first))
        else:
            merged.append((start, length))
    return merged


class FormatView:
    """The view over ``ImageBytes``. It has no guest."""

    def __init__(
        self,
        *,
        image: Path,
        work: Path,
        evidence: EvidenceLog,
        ssh_config: Path | None = None,
        force_tcg: bool = False,
        test_seconds: float = 120.0,
    ) -> None:
        self._image = ImageBytes(image, evidence=evidence)

    @property
    def image(self) -> ImageBytes:
        return self._image

    @property
    def host(self) -> Any:
        raise HallmarkError(
            "the format view looks at bytes and has no guest", hint="use the disk or booted view"
        )

    def subject(self) -> Subject | None:
        return None

    def check(self) -> None:
        """What is on a disk stays there."""

    def close(self) -> None:
        self._image.close()
