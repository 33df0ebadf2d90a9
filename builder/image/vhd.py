"""The footer of a fixed VHD: written in place, read strictly.

A fixed VHD is the raw disk followed by one 512-byte footer; byte N of the disk is byte N of the file. All
integers are big-endian. Layout: Microsoft's "Virtual Hard Disk Image Format Specification" (2006), with the
data offset as every reader knows it (64 bits of ones); geometry rules from the specification's appendix, as
in QEMU's block/vpc.c.

Azure refuses what is not a fixed VHD, and a virtual size that isn't a whole number of MiB, only after the
upload; ``deviations`` says all of that in microseconds.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from builder.errors import HallmarkError

__all__ = [
    "CREATOR_APPLICATION",
    "FOOTER_SIZE",
    "MIB",
    "VHD_EPOCH",
    "Deviation",
    "Footer",
    "Geometry",
    "checksum",
    "deviations",
    "geometry",
    "make_footer",
    "read_footer",
    "write_footer",
]

MIB = 1 << 20
FOOTER_SIZE = 512
SECTOR = 512
#: 2000-01-01T00:00:00Z in seconds since 1970: where VHD timestamps begin.
VHD_EPOCH = 946_684_800
COOKIE = b"conectix"
#: Readers that find this creator take the disk's size from the footer's current size; with a name that they
#: don't know they compute it from the geometry, which is smaller (QEMU block/vpc.c, Image Customizer
#: vhdutils.go).
CREATOR_APPLICATION = b"win "
CREATOR_VERSION = 0x000A_0000
CREATOR_HOST_OS = b"Wi2k"
FEATURES = 0x0000_0002
VERSION = 0x0001_0000
FIXED_DATA_OFFSET = 0xFFFF_FFFF_FFFF_FFFF
FIXED = 2
_TYPES = {0: "none", 2: "fixed", 3: "dynamic", 4: "differencing"}
_SIZE_FROM_FOOTER = {b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS"}
_LAYOUT = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427s")
_COMPRESSED = {
    b"\xfd7zXZ\0": "xz",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}


class Geometry(NamedTuple):
    """Cylinders, heads and sectors per track: a description of the size, never the size."""

    cylinders: int
    heads: int
    sectors: int

    def __str__(self) -> str:
        return f"{self.cylinders}/{self.heads}/{self.sectors}"


@dataclass(frozen=True, slots=True)
class Footer:
    """The fields of a footer as they are in the file. Sizes in bytes, ``timestamp`` in seconds since 2000."""

    cookie: bytes
    features: int
    version: int
    data_offset: int
    timestamp: int
    creator_application: bytes
    creator_version: int
    creator_host_os: bytes
    original_size: int
    current_size: int
    geometry: Geometry
    disk_type: int
    checksum: int
    unique_id: UUID
    saved_state: int
    reserved: bytes

    @property
    def unix_timestamp(self) -> int:
        """When the image was made, in seconds since 1970."""
        return self.timestamp + VHD_EPOCH

    @classmethod
    def parse(cls, data: bytes) -> Footer:
        """Take 512 bytes apart; nothing is judged here."""
        (
            cookie,
            features,
            version,
            data_offset,
            timestamp,
            application,
            application_version,
            host_os,
            *rest,
        ) = _LAYOUT.unpack(data)
        original, current, cylinders, heads, sectors, disk_type, total, unique_id, state, reserved = rest
        return cls(
            cookie=cookie,
            features=features,
            version=version,
            data_offset=data_offset,
            timestamp=timestamp,
            creator_application=application,
            creator_version=application_version,
            creator_host_os=host_os,
            original_size=original,
            current_size=current,
            geometry=Geometry(cylinders, heads, sectors),
            disk_type=disk_type,
            checksum=total,
            unique_id=UUID(bytes=unique_id),
            saved_state=state,
            reserved=reserved,
        )

    def pack(self) -> bytes:
        """The 512 bytes, with ``checksum`` as it is in the object."""
        return _LAYOUT.pack(
            self.cookie,
            self.features,
            self.version,
            self.data_offset,
            self.timestamp,
            self.creator_application,
            self.creator_version,
            self.creator_host_os,
            self.original_size,
            self.current_size,
            *self.geometry,
            self.disk_type,
            self.checksum,
            self.unique_id.bytes,
            self.saved_state,
            self.reserved,
        )


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which a file is not the fixed VHD that Azure and Hyper-V take. ``code`` is stable."""

    code: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.code}: {self.what} (expected {self.expected}, found {self.found})"


def geometry(size: int) -> Geometry:
    """The geometry of a disk of ``size`` bytes, by the algorithm of the specification's appendix."""
    total = min(size // SECTOR, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        return Geometry(total // 255 // 16, 16, 255)
    sectors = 17
    tracks = total // sectors
    heads = max(4, -(-tracks // 1024))
    if tracks >= heads * 1024 or heads > 16:
        sectors, heads = 31, 16
        tracks = total // sectors
    if tracks >= heads * 1024:
        sectors, heads = 63, 16
        tracks = total // sectors
    return Geometry(tracks // heads, heads, sectors)


def checksum(footer: bytes) -> int:
    """The one's complement of the sum of a footer's bytes, its checksum field counted as zero."""
    return ~(sum(footer) - sum(footer[64:68])) & 0xFFFF_FFFF


def make_footer(*, size: int, timestamp: int, unique_id: UUID) -> bytes:
    """The 512 bytes for a disk of ``size`` bytes; ``timestamp`` in seconds since 1970."""
    unsigned = Footer(
        cookie=COOKIE,
        features=FEATURES,
        version=VERSION,
        data_offset=FIXED_DATA_OFFSET,
        timestamp=max(0, timestamp - VHD_EPOCH),
        creator_application=CREATOR_APPLICATION,
        creator_version=CREATOR_VERSION,
        creator_host_os=CREATOR_HOST_OS,
        original_size=size,
        current_size=size,
        geometry=geometry(size),
        disk_type=FIXED,
        checksum=0,
        unique_id=unique_id,
        saved_state=0,
        reserved=bytes(427),
    ).pack()
    return unsigned[:64] + checksum(unsigned).to_bytes(4, "big") + unsigned[68:]


def write_footer(path: Path, *, timestamp: int, unique_id: UUID) -> Footer:
    """Turn the raw disk at ``path`` into a fixed VHD by appending the footer; the disk's bytes are not
    touched.

    :param timestamp: seconds since 1970; times before 2000 become 2000-01-01, where the format begins.
    :raises HallmarkError: the size isn't a whole number of MiB above zero, the file ends with a footer
        already, or it cannot be written.
    """
    try:
        with path.open("r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size >= FOOTER_SIZE and size % MIB == FOOTER_SIZE:
                stream.seek(-FOOTER_SIZE, os.SEEK_END)
                if stream.read(8) == COOKIE:
                    raise HallmarkError("the file ends with a VHD footer already", where=path)
            if size == 0 or size % MIB:
                raise HallmarkError(
                    f"the disk's size is {size} bytes, not a whole number of MiB",
                    where=path,
                    why="Azure refuses such a VHD, and says so only after the upload",
                    hint="give the disk a size in whole MiB",
                )
            data = make_footer(size=size, timestamp=timestamp, unique_id=unique_id)
            try:
                stream.seek(size)
                stream.write(data)
                stream.flush()
            except OSError:
                os.ftruncate(stream.fileno(), size)  # a part of a footer is worse than none
                raise
    except OSError as error:
        raise HallmarkError(f"cannot write the VHD footer: {error.strerror}", where=path) from None
    return Footer.parse(data)


def read_footer(path: Path) -> Footer:
    """The footer of a VHD, whatever its fields say; ``deviations`` judges them.

    :raises HallmarkError: the file can't be read, is shorter than a footer, or holds no footer at its end.
    """
    _, data = _tail(path)
    footer = Footer.parse(data) if len(data) == FOOTER_SIZE else None
    if footer is None or footer.cookie != COOKIE:
        first = next(_file_deviations(path, data, 0))
        raise HallmarkError(
            f"this is not a VHD: {first.what}",
            where=path,
            details=[str(first)],
            hint="a fixed VHD ends with a 512-byte footer that begins with 'conectix'",
        )
    return footer


def deviations(path: Path) -> list[Deviation]:
    """Every way in which the file is not a fixed VHD that Azure and Hyper-V take; empty when it is one.

    Only the file's ends are read. When there is no footer at all, its fields are not judged.

    :raises HallmarkError: the file cannot be read.
    """
    size, data = _tail(path)
    found = list(_file_deviations(path, data, size))
    if len(data) == FOOTER_SIZE and _looks_like_footer(data):
        found += _field_deviations(Footer.parse(data), data, size - FOOTER_SIZE)
    return found


def _looks_like_footer(data: bytes) -> bool:
    """Whether the fields are worth judging: the cookie is there, or what follows a damaged one is a
    footer's."""
    return data[:8] == COOKIE or (
        data[12:16] == VERSION.to_bytes(4, "big") and data[36:40] == CREATOR_HOST_OS
    )


def _tail(path: Path) -> tuple[int, bytes]:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - FOOTER_SIZE))
            return size, stream.read(FOOTER_SIZE)
    except OSError as error:
        raise HallmarkError(f"cannot read the image: {error.strerror}", where=path) from None


def _file_deviations(path: Path, data: bytes, size: int) -> Iterator[Deviation]:
    """What can be said before the fields are looked at."""
    with path.open("rb") as stream:
        head = stream.read(FOOTER_SIZE)
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            yield Deviation("compressed", f"the file is compressed with {name}", "an uncompressed disk", name)
    if len(data) < FOOTER_SIZE:
        yield Deviation(
            "too-short", "the file is shorter than a footer", ">= 512 bytes", f"{len(data)} bytes"
        )
        return
    if head[:8] == b"vhdxfile":
        yield Deviation("vhdx", "the file is a VHDX", "a fixed VHD", "vhdxfile")
    if head[:8] == COOKIE:
        kind = _TYPES.get(int.from_bytes(head[60:64], "big"), "unknown")
        yield Deviation(
            "leading-footer", "the file begins with a footer copy", "disk data", f"a {kind} VHD's header"
        )
    if data[:8] == COOKIE:
        return
    inside = data.find(COOKIE)
    if inside > 0:
        what = f"the footer is cut: {FOOTER_SIZE - inside} of its 512 bytes are left"
        yield Deviation(
            "truncated-footer", what, "cookie at length-512", f"cookie {FOOTER_SIZE - inside} from the end"
        )
        return
    yield Deviation(
        "cookie", "the last 512 bytes are not a VHD footer", repr(COOKIE.decode()), repr(data[:8])
    )
    if size and size % SECTOR:
        yield Deviation(
            "length", "the length is not a whole number of sectors", "a multiple of 512", str(size)
        )


def _field_deviations(footer: Footer, data: bytes, disk: int) -> list[Deviation]:
    """Judge each field; ``disk`` is the file's length without the footer."""
    out: list[Deviation] = []

    def equal(code: str, what: str, expected: object, found: object) -> None:
        if expected != found:
            out.append(Deviation(code, what, str(expected), str(found)))

    def holds(condition: bool, code: str, what: str, expected: str, found: object) -> None:
        if not condition:
            out.append(Deviation(code, what, expected, str(found)))

    wanted, got = f"{FEATURES:#x}", f"{footer.features:#x}"
    equal("features", "the features field lacks its reserved bit or has others", wanted, got)
    equal("version", "the file format version is unknown", f"{VERSION:#x}", f"{footer.version:#x}")
    equal("disk-type", "the disk is not fixed", "2 (fixed)", _type_name(footer.disk_type))
    wanted, got = f"{FIXED_DATA_OFFSET:#x}", f"{footer.data_offset:#x}"
    equal("data-offset", "a fixed disk has no dynamic header to point at", wanted, got)
    shape = footer.geometry
    exact = shape.cylinders * shape.heads * shape.sectors * SECTOR == disk
    known = footer.creator_application in _SIZE_FROM_FOOTER or _is_maximal(shape) or exact
    names = ", ".join(sorted(repr(name.decode()) for name in _SIZE_FROM_FOOTER))
    what = "readers take the size from the geometry for this creator, and get another one"
    holds(known, "creator", what, f"one of {names}", footer.creator_application)
    host = footer.creator_host_os in {b"Wi2k", b"Mac "}
    holds(host, "host-os", "the creator's host system is unknown", "'Wi2k' or 'Mac '", footer.creator_host_os)
    equal("original-size", "the original size is not the disk's size", disk, footer.original_size)
    equal("current-size", "the current size is not the disk's size", disk, footer.current_size)
    what = "the virtual size is not a whole number of MiB, so Azure refuses it"
    holds(disk > 0 and disk % MIB == 0, "alignment", what, f"a multiple of {MIB}", disk)
    fitting = shape == geometry(disk) or _is_maximal(shape)
    holds(fitting, "geometry", "the geometry doesn't describe the size", str(geometry(disk)), shape)
    equal(
        "checksum",
        "the checksum doesn't match the footer",
        f"{checksum(data):#010x}",
        f"{footer.checksum:#010x}",
    )
    holds(footer.unique_id.int != 0, "unique-id", "the unique id is empty", "a UUID", footer.unique_id)
    equal("saved-state", "the image is marked as a saved state", 0, footer.saved_state)
    dirty = sum(1 for byte in footer.reserved if byte)
    holds(dirty == 0, "reserved", "the reserved bytes are not zero", "427 zeros", f"{dirty} other bytes")
    return out


def _is_maximal(shape: Geometry) -> bool:
    return shape == (65535, 16, 255)


def _type_name(kind: int) -> str:
    return f"{kind} ({_TYPES.get(kind, 'unknown')})"
