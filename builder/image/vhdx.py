"""VHDX, read strictly.

A dynamic VHDX holds the disk in blocks that lie anywhere in the file; a table (BAT) says where. All
structures begin on whole MiB except those in the first MiB. Rules: Microsoft's [MS-VHDX] "Virtual Hard Disk
v2 (VHDX) File Format".
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from builder.errors import HallmarkError
from builder.image.crc32c import crc32c
from builder.image.vhd import Deviation
from builder.image.vhdx_layout import (
    BAT,
    FILE_PARAMETERS,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    IDENTIFIER,
    ITEM,
    LOGICAL_SECTOR,
    METADATA,
    METADATA_TABLE,
    MIB,
    PAGE_83,
    PHYSICAL_SECTOR,
    REGION,
    REGION_TABLES,
    TABLE,
    TABLE_SIZE,
    VIRTUAL_SIZE,
    Header,
    Span,
)

__all__ = ["Reader", "deviations"]

_MOST_ENTRIES = 2047  # of a region or metadata table: what 64 KiB hold
_LARGEST = 64 << 40
_SECTOR = 512
_NAMES = {
    BAT: "BAT",
    METADATA: "metadata",
    FILE_PARAMETERS: "file parameters",
    VIRTUAL_SIZE: "virtual disk size",
    PAGE_83: "virtual disk id",
    LOGICAL_SECTOR: "logical sector size",
    PHYSICAL_SECTOR: "physical sector size",
}
#: Length and flags of each item that a disk without a parent must have (flags: 2 of the virtual disk, 4
#: required).
_ITEMS = {
    FILE_PARAMETERS: (8, 4),
    VIRTUAL_SIZE: (8, 6),
    PAGE_83: (16, 6),
    LOGICAL_SECTOR: (4, 6),
    PHYSICAL_SECTOR: (4, 6),
}
# States of a payload block ([MS-VHDX] 2.5.1.1).
_ZERO = 2
_PRESENT = 6
#: Not present, undefined, unmapped: a reader may return whatever was there before.
_UNDEFINED = frozenset({0, 1, 3})


def deviations(path: Path, *, virtual_size: int | None = None) -> list[Deviation]:
    """Every way in which the file is not a dynamic VHDX that Hyper-V takes; empty when it is one.

    Structures are read, payload isn't. A structure that can't be found hides what depends on it.

    :param virtual_size: what the disk's size must be, in bytes; whole MiB are asked for in any case.
    :raises HallmarkError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return list(Reader(stream).judge(virtual_size))
    except OSError as error:
        raise HallmarkError(f"cannot read the image: {error.strerror}", where=path) from None


class Reader:
    """The structures of an open VHDX."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.size = stream.seek(0, os.SEEK_END)
        self.taken: list[Span] = [Span(0, MIB, "header section")]

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, filled up with zeros beyond its end."""
        self.stream.seek(offset)
        return self.stream.read(length).ljust(length, b"\0")

    def judge(self, virtual_size: int | None) -> Iterator[Deviation]:
        """Every deviation, in the order of the file's structures."""
        if self.size < MIB:
            yield Deviation("too-short", "the file is shorter than its headers", f">= {MIB}", str(self.size))
            return
        cookie = self.read(0, 8)
        if cookie != IDENTIFIER:
            yield Deviation("identifier", "the file is no VHDX", repr(IDENTIFIER), repr(cookie))
            return
        yield from self._headers()
        yield from self._region_tables()
        yield from self._regions()
        yield from self._metadata()
        yield from self._parameters(virtual_size)
        yield from self._bat()

    def _headers(self) -> Iterator[Deviation]:
        headers = []
        for number, place in enumerate(HEADERS, 1):
            data = self.read(place, HEADER_SIZE)
            header = Header.parse(data)
            name = f"header {number}"
            if header.signature != b"head":
                yield Deviation("header-signature", f"{name} is damaged", "b'head'", repr(header.signature))
                continue
            yield from _checksum("header-checksum", name, data)
            if header.version != 1:
                yield Deviation("version", f"{name} has an unknown version", "1", str(header.version))
            if header.log_version != 0:
                what = f"{name} has an unknown log version"
                yield Deviation("log-version", what, "0", str(header.log_version))
            if header.log.int:
                what = "the log holds writes that are not in place yet: whoever wrote the file was killed"
                yield Deviation("log-not-empty", what, "no log identifier", str(header.log))
            for guid, what in ((header.file_write, "file"), (header.data_write, "data")):
                if not guid.int:
                    yield Deviation(
                        "identity", f"{name} has no identifier of {what} writes", "a GUID", str(guid)
                    )
            if any(data[HEADER.size :]):
                yield Deviation("reserved", f"{name} has reserved bytes that are not zero", "zeros", "others")
            headers.append(header)
        if len(headers) == 2 and headers[0].sequence == headers[1].sequence:
            what = "both headers have one sequence number, so neither is the newer one"
            yield Deviation("sequence", what, "two numbers", str(headers[0].sequence))
        if headers:
            newest = max(headers, key=lambda header: header.sequence)
            yield from self._take(Span(newest.log_offset, newest.log_length, "log"))

    def _region_tables(self) -> Iterator[Deviation]:
        tables = [self.read(place, TABLE_SIZE) for place in REGION_TABLES]
        for number, data in enumerate(tables, 1):
            name = f"region table {number}"
            if data[:4] != b"regi":
                yield Deviation("region-signature", f"{name} is damaged", "b'regi'", repr(data[:4]))
                continue
            yield from _checksum("region-checksum", name, data)
        if tables[0] != tables[1]:
            yield Deviation("region-copies", "the two region tables differ", "copies", "two tables")

    def regions(self) -> Iterator[tuple[UUID, Span, bool]]:
        """The regions that the first region table names, each with whether it is required."""
        data = self.read(REGION_TABLES[0], TABLE_SIZE)
        _, _, count, _ = TABLE.unpack_from(data)
        for index in range(min(count, _MOST_ENTRIES)):
            raw, offset, length, required = REGION.unpack_from(data, TABLE.size + index * REGION.size)
            guid = UUID(bytes_le=raw)
            yield guid, Span(offset, length, f"{_NAMES.get(guid, guid)} region"), bool(required & 1)

    def _regions(self) -> Iterator[Deviation]:
        seen: set[UUID] = set()
        for guid, span, required in self.regions():
            if guid in seen:
                yield Deviation("region-twice", f"the {span.what} is listed twice", "once", str(guid))
            seen.add(guid)
            if guid not in (BAT, METADATA):
                if required:
                    what = "a required region is unknown to every reader of version 1"
                    yield Deviation("region-unknown", what, "BAT and metadata", str(guid))
                continue
            if not required:
                yield Deviation("region-flags", f"the {span.what} is not marked as required", "1", "0")
            yield from self._take(span)
        for guid in (BAT, METADATA):
            if guid not in seen:
                yield Deviation("region-missing", f"there is no {_NAMES[guid]} region", str(guid), "nothing")

    def items(self) -> Iterator[tuple[UUID, int, tuple[int, int]]]:
        """The metadata items: identifier, place in the file, and (length, flags)."""
        span = self._region(METADATA)
        if span is None:
            return
        table = self.read(span.offset, TABLE_SIZE)
        _, _, count, _ = METADATA_TABLE.unpack_from(table)
        for index in range(min(count, _MOST_ENTRIES)):
            raw, offset, length, flags, _ = ITEM.unpack_from(table, METADATA_TABLE.size + index * ITEM.size)
            yield UUID(bytes_le=raw), span.offset + offset, (length, flags)

    def _metadata(self) -> Iterator[Deviation]:
        span = self._region(METADATA)
        if span is None:
            return
        signature = self.read(span.offset, 8)
        if signature != b"metadata":
            what = "the metadata table is damaged"
            yield Deviation("metadata-signature", what, "b'metadata'", repr(signature))
            return
        seen: set[UUID] = set()
        for guid, offset, (length, flags) in self.items():
            name = _NAMES.get(guid, str(guid))
            if guid not in _ITEMS:
                if flags & 4:
                    what = "a required metadata item is not one of a disk without a parent"
                    yield Deviation("metadata-unknown", what, "the five items", name)
                continue
            if guid in seen:
                yield Deviation("metadata-twice", f"the item {name} is listed twice", "once", "twice")
            seen.add(guid)
            expected = _ITEMS[guid]
            if (length, flags & 7) != expected:
                what = f"the item {name} has another length or other flags"
                yield Deviation("metadata-item", what, str(expected), str((length, flags)))
            if offset < span.offset + TABLE_SIZE or offset + length > span.end:
                what = f"the item {name} lies outside of the metadata region"
                yield Deviation(
                    "metadata-place", what, f"{span.offset + TABLE_SIZE}..{span.end}", str(offset)
                )
        for guid in _ITEMS:
            if guid not in seen:
                yield Deviation("metadata-missing", f"there is no item {_NAMES[guid]}", str(guid), "nothing")

    def _values(self) -> dict[UUID, bytes]:
        return {
            guid: self.read(offset, _ITEMS[guid][0]) for guid, offset, _ in self.items() if guid in _ITEMS
        }

    def _parameters(self, wanted: int | None) -> Iterator[Deviation]:
        values = self._values()
        if len(values) != len(_ITEMS):
            return
        block, flags = struct.unpack("<II", values[FILE_PARAMETERS])
        if not MIB <= block <= 256 * MIB or block & (block - 1):
            yield Deviation("block-size", "the block size is none", "a power of 2, 1 to 256 MiB", str(block))
        if flags & 2:
            yield Deviation("parent", "the disk is a difference to another", "a disk of its own", "a parent")
        if flags & ~3:
            yield Deviation("file-parameters", "reserved flags are set", "0", f"{flags:#x}")
        size = int.from_bytes(values[VIRTUAL_SIZE], "little")
        if not 0 < size <= _LARGEST or size % MIB or (wanted is not None and size != wanted):
            expected = str(wanted) if wanted is not None else f"a multiple of {MIB} up to 64 TiB"
            yield Deviation("virtual-size", "the disk's size is not the right one", expected, str(size))
        logical = int.from_bytes(values[LOGICAL_SECTOR], "little")
        if logical != _SECTOR:
            what = "the partition table counts in sectors of 512 bytes, the disk doesn't"
            yield Deviation("logical-sector", what, str(_SECTOR), str(logical))
        physical = int.from_bytes(values[PHYSICAL_SECTOR], "little")
        if physical not in (512, 4096):
            what = "the physical sector size is none"
            yield Deviation("physical-sector", what, "512 or 4096", str(physical))
        if not any(values[PAGE_83]):
            yield Deviation("disk-id", "the disk has no identifier of its own", "a GUID", "zeros")

    def _bat(self) -> Iterator[Deviation]:
        span = self._region(BAT)
        values = self._values()
        if span is None or len(values) != len(_ITEMS):
            return
        block = int.from_bytes(values[FILE_PARAMETERS][:4], "little")
        size = int.from_bytes(values[VIRTUAL_SIZE], "little")
        if not MIB <= block <= 256 * MIB or block & (block - 1) or not 0 < size <= _LARGEST:
            return  # said already
        blocks = -(-size // block)
        ratio = (1 << 23) * _SECTOR // block
        entries = blocks + (blocks - 1) // ratio
        if entries * 8 > span.length or span.end > self.size:
            yield Deviation(
                "bat-length", "the BAT is too short", f"{entries} entries", f"{span.length} bytes"
            )
            return
        payload: list[Span] = []
        undefined: list[int] = []
        for index, entry in enumerate(_words(self.read(span.offset, entries * 8))):
            state, place = entry & 7, entry >> 20
            if index % (ratio + 1) == ratio:
                if entry:
                    what = "a disk without a parent has a sector bitmap"
                    yield Deviation("bat-bitmap", what, f"entry {index} = 0", f"{entry:#x}")
            elif state == _PRESENT and not entry & 0xFFFF8:
                payload.append(Span(place * MIB, block, f"block {index}"))
            elif state in _UNDEFINED:
                undefined.append(index)
            elif state != _ZERO:
                what = f"BAT entry {index} has no state that a disk without a parent knows"
                yield Deviation("bat-state", what, "2 or 6", f"{entry:#x}")
            elif entry >> 3:
                # Hyper-V refuses it (QEMU block/vhdx.c, commit cdf9634b).
                what = f"BAT entry {index} has a place for a block that is not there"
                yield Deviation("bat-offset", what, "0", f"{entry:#x}")
        if undefined:
            what = f"{len(undefined)} blocks are undefined: what is read there is left to the reader"
            yield Deviation("bat-undefined", what, "state 2, zeros", f"BAT entry {undefined[0]} and others")
        yield from self._places(payload)

    def blocks(self) -> tuple[int, dict[int, int]]:
        """The block size, and where in the file each present block lies. Judge the file first."""
        span, values = self._region(BAT), self._values()
        assert span is not None, "judged before"
        block = int.from_bytes(values[FILE_PARAMETERS][:4], "little")
        ratio = (1 << 23) * _SECTOR // block
        table = _words(self.read(span.offset, span.length))
        found = {}
        for index, entry in enumerate(table):
            if entry & 7 == _PRESENT and index % (ratio + 1) != ratio:
                found[index - index // (ratio + 1)] = (entry >> 20) * MIB
        return block, found

    def _places(self, payload: list[Span]) -> Iterator[Deviation]:
        """Blocks must lie in the file, and nowhere on each other or on a structure."""
        spans = sorted([*self.taken, *payload])
        for one, two in pairwise(spans):
            if one.end > two.offset:
                what = f"the {one.what} and the {two.what} lie on each other"
                yield Deviation("overlap", what, f">= {one.end}", str(two.offset))
        for span in payload:
            if span.end > self.size:
                what = f"the {span.what} lies beyond the end: the file is cut off"
                yield Deviation("truncated", what, f"<= {self.size}", str(span.end))

    def _region(self, wanted: UUID) -> Span | None:
        return next((span for guid, span, _ in self.regions() if guid == wanted), None)

    def _take(self, span: Span) -> Iterator[Deviation]:
        """Remember where a structure lies; it must be whole MiB, within the file."""
        if span.offset < MIB or span.offset % MIB or span.length % MIB or not span.length:
            what = f"the {span.what} is not at whole MiB"
            yield Deviation("place", what, "multiples of 1 MiB", f"{span.offset} + {span.length}")
        if span.end > self.size:
            what = f"the {span.what} lies beyond the end: the file is cut off"
            yield Deviation("truncated", what, f"<= {self.size}", str(span.end))
        self.taken.append(span)


def _words(data: bytes) -> Sequence[int]:
    words = array("Q", data)
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _checksum(code: str, name: str, data: bytes) -> Iterator[Deviation]:
    found = int.from_bytes(data[4:8], "little")
    right = crc32c(data[:4] + bytes(4) + data[8:])
    if found != right:
        yield Deviation(code, f"the checksum of {name} is wrong", f"{right:#010x}", f"{found:#010x}")
