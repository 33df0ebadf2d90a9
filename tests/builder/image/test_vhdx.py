"""The strict VHDX reader: a right file passes, every damage has its name."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

import pytest
from small_vhdx import BAT, DATA, DISK, KIB, LOG, METADATA, MIB, VALUES, make, put, sign

from builder.errors import HallmarkError
from builder.image.crc32c import crc32c
from builder.image.vhd import write_footer
from builder.image.vhdx import deviations
from builder.image.vhdx_output import compare, seal

HEADERS = (64 * KIB, 128 * KIB)
TABLES = (192 * KIB, 256 * KIB)
ITEM = METADATA + 32  # the first metadata item: file parameters


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make(tmp_path / "image.vhdx")


def codes(path: Path, size: int | None = None) -> set[str]:
    return {item.code for item in deviations(path, virtual_size=size)}


def test_the_published_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, as every catalogue of CRCs lists it
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_a_right_file_has_no_deviation(image: Path) -> None:
    assert deviations(image) == []
    assert deviations(image, virtual_size=DISK) == []
    assert codes(image, DISK + MIB) == {"virtual-size"}


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


# (code, offsets, bytes, whether the checksums are made right again)
DAMAGE = [
    ("identifier", [0], b"vhdyfile", True),
    ("header-signature", [HEADERS[0]], b"hood", True),
    ("header-checksum", [HEADERS[1] + 8], u64(9), False),
    ("sequence", [HEADERS[1] + 8], u64(1), True),
    ("identity", [HEADERS[0] + 16], bytes(16), True),
    ("identity", [HEADERS[0] + 32], bytes(16), True),
    ("log-not-empty", [HEADERS[1] + 48], bytes(range(16)), True),
    ("log-version", [HEADERS[0] + 64], b"\1\0", True),
    ("version", [HEADERS[0] + 66], b"\2\0", True),
    ("reserved", [HEADERS[0] + 100], b"x", True),
    ("place", [place + 72 for place in HEADERS], u64(LOG + 4096), True),
    ("truncated", [place + 72 for place in HEADERS], u64(400 * MIB), True),
    ("overlap", [place + 72 for place in HEADERS], u64(METADATA), True),
    ("region-signature", [TABLES[1]], b"nope", True),
    ("region-checksum", [place + 9000 for place in TABLES], b"x", False),
    ("region-copies", [TABLES[1] + 9000], b"x", True),
    ("region-missing", [place + 8 for place in TABLES], u32(1), True),
    ("region-unknown", [place + 16 for place in TABLES], bytes(range(16)), True),
    (
        "region-twice",
        [place + 16 for place in TABLES],
        UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le,
        True,
    ),
    ("region-flags", [place + 16 + 28 for place in TABLES], u32(0), True),
    ("place", [place + 32 for place in TABLES], u64(BAT + 512), True),
    ("metadata-signature", [METADATA], b"METADATA", True),
    ("metadata-missing", [METADATA + 10], b"\4\0", True),
    ("metadata-unknown", [ITEM], bytes(range(16)), True),
    ("metadata-twice", [ITEM], UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le, True),
    ("metadata-item", [ITEM + 20], u32(4), True),
    ("metadata-item", [ITEM + 24], u32(0), True),
    ("metadata-place", [ITEM + 16], u32(0x400), True),
    ("block-size", [VALUES["file"]], u32(MIB + 512), True),
    ("parent", [VALUES["file"] + 4], u32(2), True),
    ("file-parameters", [VALUES["file"] + 4], u32(8), True),
    ("virtual-size", [VALUES["size"]], u64(DISK + 512), True),
    ("virtual-size", [VALUES["size"]], u64(65 << 40), True),
    ("disk-id", [VALUES["id"]], bytes(16), True),
    ("logical-sector", [VALUES["logical"]], u32(4096), True),
    ("physical-sector", [VALUES["physical"]], u32(520), True),
    ("bat-length", [VALUES["size"]], u64(2 << 40), True),
    ("bat-state", [BAT], u64(7), True),
    ("bat-state", [BAT + 8], u64(4 << 20 | 8 | 6), True),
    ("bat-undefined", [BAT], u64(0), True),
    ("bat-undefined", [BAT + 16], u64(3), True),
    ("bat-offset", [BAT], u64(5 << 20 | 2), True),
    ("overlap", [BAT], u64(DATA // MIB << 20 | 6), True),
    ("overlap", [BAT], u64(METADATA // MIB << 20 | 6), True),
    ("truncated", [BAT], u64(7 << 20 | 6), True),
]


@pytest.mark.parametrize(("code", "offsets", "data", "resign"), DAMAGE)
def test_each_damage_is_named(image: Path, code: str, offsets: list[int], data: bytes, resign: bool) -> None:
    for offset in offsets:
        put(image, offset, data)
    if resign:
        sign(image)
    assert code in codes(image)


def test_a_sector_bitmap_is_refused(tmp_path: Path) -> None:
    # 4096 blocks of 1 MiB make a chunk; the entry after them is a sector bitmap's.
    image = make(tmp_path / "image.vhdx")
    put(image, VALUES["size"], u64(5 << 30))
    put(image, BAT + 8 * 8, u64(2) * (4096 - 8) + u64(0) + u64(2) * 1024)
    assert codes(image) == set()
    put(image, BAT + 4096 * 8, u64(6))
    assert codes(image) == {"bat-bitmap"}


@pytest.mark.parametrize("keep", [0, 7, 512, 64 * KIB, MIB - 1])
def test_a_stump_is_too_short(image: Path, keep: int) -> None:
    with image.open("r+b") as stream:
        stream.truncate(keep)
    assert codes(image) == {"too-short"}


@pytest.mark.parametrize("keep", [MIB, METADATA + 32, BAT + 8, DATA, DATA + MIB])
def test_a_file_that_was_cut_off_is_named(image: Path, keep: int) -> None:
    with image.open("r+b") as stream:
        stream.truncate(keep)
    assert "truncated" in codes(image)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="cannot read the image"):
        deviations(tmp_path / "none")


def test_the_same_disk_gets_the_same_identifiers(image: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other.vhdx")
    for place in HEADERS:  # as another run of qemu-img would have it
        put(other, place + 8, u64(place))
        put(other, place + 16, bytes(range(32)))
    put(other, VALUES["id"], b"another identity")
    put(other, LOG + 100, b"what was logged")
    for place in TABLES:
        put(other, place + 16 + 28, u32(0))
    sign(other)
    assert codes(other) == {"region-flags"}
    for path in (image, other):
        seal(path, identity=UUID(int=5))
        assert deviations(path) == []
    assert image.read_bytes() == other.read_bytes()
    seal(other, identity=UUID(int=6))
    assert image.read_bytes() != other.read_bytes()


@pytest.mark.parametrize(("offset", "data"), [(HEADERS[0], b"none"), (METADATA + 10, b"\2\0")])
def test_an_incomplete_file_is_not_sealed(image: Path, offset: int, data: bytes) -> None:
    put(image, offset, data)
    with pytest.raises(HallmarkError, match="no complete VHDX"):
        seal(image, identity=UUID(int=5))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The fixed VHD of the same disk."""
    path = tmp_path / "image.vhd"
    with path.open("wb") as stream:
        stream.truncate(DISK)
        for block in (1, 6):
            stream.seek(block * MIB)
            stream.write(b"block")
    write_footer(path, timestamp=1_700_000_000, unique_id=UUID(int=1))
    return path


def test_equal_disks_are_equal(disk: Path, image: Path) -> None:
    compare(disk, image)


@pytest.mark.parametrize("offset", [0, MIB + 4, 5 * MIB, 6 * MIB + 70_000, DISK - 1])
def test_one_byte_makes_another_disk(disk: Path, image: Path, offset: int) -> None:
    put(disk, offset, b"!")
    with pytest.raises(HallmarkError, match="another disk"):
        compare(disk, image)


def test_one_byte_in_the_vhdx_makes_another_disk(disk: Path, image: Path) -> None:
    put(image, DATA + MIB - 1, b"!")
    with pytest.raises(HallmarkError, match="another disk"):
        compare(disk, image)
