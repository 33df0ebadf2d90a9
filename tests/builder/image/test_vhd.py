"""The fixed VHD's footer: written right, and every deviation from it named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import HallmarkError
from builder.image import vhd
from builder.image.vhd import FOOTER_SIZE, MIB, Footer, deviations, geometry, read_footer, write_footer

IDENTITY = UUID("11111111-2222-5333-8444-555555555555")
TIMESTAMP = 1_700_000_000


def make(path: Path, size: int = 64 * MIB) -> Path:
    """A VHD of zeros."""
    with path.open("wb") as stream:
        stream.truncate(size)
    write_footer(path, timestamp=TIMESTAMP, unique_id=IDENTITY)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make(tmp_path / "image.vhd")


# Microsoft's algorithm, as QEMU 7.2 writes it.
@pytest.mark.parametrize(
    ("mib", "expected"),
    [
        (3, (90, 4, 17)),
        (20, (602, 4, 17)),
        (100, (1003, 12, 17)),
        (504, (1024, 16, 63)),
        (1024, (2080, 16, 63)),
        (30 * 1024, (62415, 16, 63)),
        (64 * 1024, (32896, 16, 255)),
        (128 * 1024, (65535, 16, 255)),
        (4 * 1024 * 1024, (65535, 16, 255)),
    ],
)
def test_geometry(mib: int, expected: tuple[int, int, int]) -> None:
    assert geometry(mib * MIB) == expected


@given(st.integers(min_value=1, max_value=8 * 1024 * 1024))
def test_geometry_never_exceeds_the_disk(mib: int) -> None:
    shape = geometry(mib * MIB)
    assert shape.cylinders * shape.heads * shape.sectors * 512 <= mib * MIB
    assert shape.cylinders <= 65535 and shape.heads <= 16 and shape.sectors <= 255


def test_fields_are_where_the_format_says(image: Path) -> None:
    data = image.read_bytes()[-FOOTER_SIZE:]
    size = 64 * MIB
    expected = {
        0: b"conectix",
        8: bytes.fromhex("00000002"),
        12: bytes.fromhex("00010000"),
        16: b"\xff" * 8,
        24: struct.pack(">I", TIMESTAMP - 946_684_800),
        28: b"win ",
        36: b"Wi2k",
        40: struct.pack(">QQ", size, size),
        56: struct.pack(">HBB", 963, 8, 17),
        60: struct.pack(">I", 2),
        68: IDENTITY.bytes,
        84: bytes(428),
    }
    for offset, value in expected.items():
        assert data[offset : offset + len(value)] == value, offset
    total = sum(data) - sum(data[64:68])
    assert int.from_bytes(data[64:68], "big") == ~total & 0xFFFF_FFFF


def test_the_same_disk_gives_the_same_image(tmp_path: Path) -> None:
    assert make(tmp_path / "a").read_bytes() == make(tmp_path / "b").read_bytes()


def test_the_disk_is_not_touched_and_stays_sparse(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.write(b"data")
        stream.truncate(1024 * MIB)
    write_footer(path, timestamp=TIMESTAMP, unique_id=IDENTITY)
    assert path.stat().st_size == 1024 * MIB + FOOTER_SIZE
    assert path.stat().st_blocks * 512 < MIB
    with path.open("rb") as stream:
        assert stream.read(8) == b"data" + bytes(4)


def test_read_back(image: Path) -> None:
    footer = read_footer(image)
    assert footer.unix_timestamp == TIMESTAMP
    assert footer.unique_id == IDENTITY
    assert (footer.original_size, footer.current_size) == (64 * MIB, 64 * MIB)
    assert Footer.parse(footer.pack()) == footer
    assert deviations(image) == []


def test_larger_than_qemu_can(tmp_path: Path) -> None:
    path = make(tmp_path / "large.vhd", 4095 * 1024 * MIB)
    assert read_footer(path).current_size == 4095 * 1024 * MIB
    assert deviations(path) == []


def test_times_before_the_format_began(tmp_path: Path) -> None:
    path = tmp_path / "old.vhd"
    with path.open("wb") as stream:
        stream.truncate(MIB)
    assert write_footer(path, timestamp=0, unique_id=IDENTITY).timestamp == 0


@pytest.mark.parametrize("size", [0, 512, MIB - 1, MIB + 1, MIB + 512])
def test_odd_sizes_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate(size)
    with pytest.raises(HallmarkError, match="not a whole number of MiB"):
        write_footer(path, timestamp=TIMESTAMP, unique_id=IDENTITY)
    assert path.stat().st_size == size


def test_a_second_footer_is_refused(image: Path) -> None:
    before = image.read_bytes()
    with pytest.raises(HallmarkError, match="already"):
        write_footer(image, timestamp=TIMESTAMP, unique_id=IDENTITY)
    assert image.read_bytes() == before


def rewrite(path: Path, change: Callable[[Footer], Footer], *, sign: bool = True) -> None:
    """Change fields of the footer; ``sign`` makes the checksum right again."""
    data = change(read_footer(path)).pack()
    if sign:
        data = data[:64] + vhd.checksum(data).to_bytes(4, "big") + data[68:]
    with path.open("r+b") as stream:
        stream.seek(-FOOTER_SIZE, 2)
        stream.write(data)


# One damaged field each: (code, change, what the message must say of expected and found).
FIELDS: list[tuple[str, Callable[[Footer], Footer], str, str]] = [
    ("features", lambda f: replace(f, features=0), "0x2", "0x0"),
    ("version", lambda f: replace(f, version=0x20000), "0x10000", "0x20000"),
    ("data-offset", lambda f: replace(f, data_offset=512), "0xffffffffffffffff", "0x200"),
    ("data-offset", lambda f: replace(f, data_offset=0xFFFFFFFF), "0xffffffffffffffff", "0xffffffff"),
    ("creator", lambda f: replace(f, creator_application=b"hmrk"), "win ", "hmrk"),
    ("host-os", lambda f: replace(f, creator_host_os=b"Lnux"), "Wi2k", "Lnux"),
    ("original-size", lambda f: replace(f, original_size=65 * MIB), str(64 * MIB), str(65 * MIB)),
    ("current-size", lambda f: replace(f, current_size=63 * MIB), str(64 * MIB), str(63 * MIB)),
    ("geometry", lambda f: replace(f, geometry=vhd.Geometry(964, 8, 17)), "963/8/17", "964/8/17"),
    ("disk-type", lambda f: replace(f, disk_type=3), "2 (fixed)", "3 (dynamic)"),
    ("disk-type", lambda f: replace(f, disk_type=9), "2 (fixed)", "9 (unknown)"),
    ("unique-id", lambda f: replace(f, unique_id=UUID(int=0)), "a UUID", str(UUID(int=0))),
    ("saved-state", lambda f: replace(f, saved_state=1), "0", "1"),
    ("reserved", lambda f: replace(f, reserved=bytes(426) + b"x"), "427 zeros", "1 other bytes"),
]


@pytest.mark.parametrize(("code", "change", "expected", "found"), FIELDS)
def test_each_damaged_field_is_named(
    image: Path, code: str, change: Callable[[Footer], Footer], expected: str, found: str
) -> None:
    rewrite(image, change)
    (deviation,) = deviations(image)
    assert deviation.code == code
    assert expected in deviation.expected
    assert found in deviation.found


def test_a_wrong_checksum_is_named(image: Path) -> None:
    rewrite(image, lambda f: replace(f, checksum=f.checksum ^ 1), sign=False)
    assert [item.code for item in deviations(image)] == ["checksum"]


def test_every_flipped_byte_is_noticed(image: Path) -> None:
    good = image.read_bytes()[-FOOTER_SIZE:]
    free = {*range(24, 28), *range(32, 36), *range(68, 84)}  # any timestamp, creator version and id will do
    with image.open("r+b") as stream:
        for offset in range(FOOTER_SIZE):
            data = bytearray(good)
            data[offset] ^= 0x01
            if offset in free:
                data[64:68] = vhd.checksum(bytes(data)).to_bytes(4, "big")
            stream.seek(-FOOTER_SIZE, 2)
            stream.write(data)
            stream.flush()
            codes = [item.code for item in deviations(image)]
            assert (codes == []) if offset in free else codes, offset


def test_all_deviations_are_named_at_once(image: Path) -> None:
    rewrite(image, lambda f: replace(f, features=0, disk_type=4, current_size=1, saved_state=1), sign=False)
    codes = {item.code for item in deviations(image)}
    assert codes == {"features", "disk-type", "current-size", "saved-state", "checksum"}


def test_a_damaged_cookie_is_named_beside_the_rest(image: Path) -> None:
    rewrite(image, lambda f: replace(f, cookie=b"connectx"))
    assert [item.code for item in deviations(image)] == ["cookie"]
    rewrite_raw = image.read_bytes()[-FOOTER_SIZE:]
    assert rewrite_raw.startswith(b"connectx")
    with pytest.raises(HallmarkError, match="not a VHD"):
        read_footer(image)


def test_the_greatest_geometry_fits_every_size(image: Path) -> None:
    # QEMU with force_size=on writes it whatever the size is; readers then use the current size.
    rewrite(image, lambda f: replace(f, geometry=vhd.Geometry(65535, 16, 255), creator_application=b"xxxx"))
    assert deviations(image) == []


@pytest.mark.parametrize(
    ("cut", "code"), [(1, "truncated-footer"), (300, "truncated-footer"), (512, "cookie"), (MIB, "cookie")]
)
def test_a_truncated_image_is_named(image: Path, cut: int, code: str) -> None:
    with image.open("r+b") as stream:
        stream.truncate(64 * MIB + FOOTER_SIZE - cut)
    assert deviations(image)[0].code == code
    with pytest.raises(HallmarkError, match="not a VHD"):
        read_footer(image)


def test_sizes_that_azure_refuses_are_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.vhd"
    size = MIB + 512
    footer = vhd.make_footer(size=size, timestamp=TIMESTAMP, unique_id=IDENTITY)
    path.write_bytes(bytes(size) + footer)
    (deviation,) = deviations(path)
    assert deviation.code == "alignment"
    assert deviation.found == str(size)


@pytest.mark.parametrize(
    ("head", "tail", "codes"),
    [
        (b"\xfd7zXZ\0", b"", ["compressed", "too-short"]),
        (b"\x1f\x8b" + bytes(1022), b"", ["compressed", "cookie"]),
        (b"", b"", ["too-short"]),
        (bytes(511), b"", ["too-short"]),
        (b"vhdxfile" + bytes(1016), b"", ["vhdx", "cookie"]),
        (bytes(1000), b"", ["cookie", "length"]),
    ],
)
def test_other_files_are_told_from_a_vhd(tmp_path: Path, head: bytes, tail: bytes, codes: list[str]) -> None:
    path = tmp_path / "file"
    path.write_bytes(head + tail)
    assert [item.code for item in deviations(path)] == codes


def test_a_dynamic_vhd_is_told_from_a_fixed_one(image: Path) -> None:
    rewrite(image, lambda f: replace(f, disk_type=3, data_offset=512))
    data = image.read_bytes()[-FOOTER_SIZE:]
    with image.open("r+b") as stream:
        stream.write(data)
    assert {item.code for item in deviations(image)} == {"leading-footer", "disk-type", "data-offset"}


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="No such file"):
        deviations(tmp_path / "none")
    with pytest.raises(HallmarkError, match="No such file"):
        write_footer(tmp_path / "none", timestamp=TIMESTAMP, unique_id=IDENTITY)
