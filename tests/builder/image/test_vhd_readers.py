"""Other programs agree with our VHDs, and our reader with theirs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pyvhdi

from builder.image import vhd
from builder.image.vhd import FOOTER_SIZE, MIB, deviations, read_footer, write_footer
from builder.run import run

pytestmark = pytest.mark.system

IDENTITY = UUID("11111111-2222-5333-8444-555555555555")
SIZES_MIB = (3, 20, 100, 504, 1024, 4096, 65536)


def raw(path: Path, mib: int) -> Path:
    with path.open("wb") as stream:
        stream.write(b"begin")
        stream.seek(mib * MIB - 3)
        stream.write(b"end")
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = raw(tmp_path / "image.vhd", 64)
    write_footer(path, timestamp=1_700_000_000, unique_id=IDENTITY)
    return path


@pytest.mark.parametrize("mib", SIZES_MIB)
def test_qemu_sees_the_same_disk(tmp_path: Path, mib: int) -> None:
    disk, path = raw(tmp_path / "disk.raw", mib), raw(tmp_path / "image.vhd", mib)
    write_footer(path, timestamp=1_700_000_000, unique_id=IDENTITY)
    info = json.loads(run(("qemu-img", "info", "-f", "vpc", "--output", "json", path)).stdout)
    assert info["virtual-size"] == mib * MIB
    run(("qemu-img", "compare", "-f", "vpc", "-F", "raw", path, disk))


@pytest.mark.parametrize("mib", SIZES_MIB)
def test_qemu_writes_what_we_take(tmp_path: Path, mib: int) -> None:
    disk, path = raw(tmp_path / "disk.raw", mib), tmp_path / "qemu.vhd"
    run(("qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size=on", disk, path))
    assert deviations(path) == []
    assert read_footer(path).current_size == mib * MIB


def test_geometry_is_qemus(tmp_path: Path) -> None:
    # Without force_size QEMU writes the computed geometry, and the size that follows from it.
    for mib in SIZES_MIB:
        path = tmp_path / f"{mib}.vhd"
        run(("qemu-img", "create", "-f", "vpc", "-o", "subformat=fixed", path, f"{mib}M"))
        footer = read_footer(path)
        assert footer.geometry == vhd.geometry(footer.current_size), mib


def test_qemus_rounded_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rounded.vhd"
    run(("qemu-img", "create", "-f", "vpc", "-o", "subformat=fixed", path, "1G"))
    assert [item.code for item in deviations(path)] == ["alignment"]


def test_qemus_dynamic_vhd_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.vhd"
    run(("qemu-img", "create", "-f", "vpc", "-o", "subformat=dynamic,force_size=on", path, "64M"))
    assert {"leading-footer", "disk-type", "data-offset"} <= {item.code for item in deviations(path)}


def test_seven_zip_takes_it(image: Path) -> None:
    output = run(("7z", "t", "-tVHD", image)).stdout
    assert "Everything is Ok" in output
    listing = run(("7z", "l", "-slt", "-tVHD", image)).stdout
    assert f"Size = {64 * MIB}" in listing


def test_libvhdi_takes_it(image: Path) -> None:
    handle = pyvhdi.file()
    handle.open(str(image))
    try:
        assert handle.get_media_size() == 64 * MIB
        assert handle.get_identifier() == str(IDENTITY)
        assert handle.read_buffer_at_offset(5, 0) == b"begin"
        assert handle.read_buffer_at_offset(3, 64 * MIB - 3) == b"end"
    finally:
        handle.close()


def corrupt(path: Path, offset: int, data: bytes, *, sign: bool = True) -> None:
    with path.open("r+b") as stream:
        stream.seek(-FOOTER_SIZE, 2)
        footer = bytearray(stream.read(FOOTER_SIZE))
        footer[offset : offset + len(data)] = data
        if sign:
            footer[64:68] = vhd.checksum(bytes(footer)).to_bytes(4, "big")
        stream.seek(-FOOTER_SIZE, 2)
        stream.write(footer)


def accepted_by(path: Path) -> set[str]:
    """Which of the other programs take the file."""
    names = set()
    if run(("qemu-img", "info", "-f", "vpc", path), check=False).returncode == 0:
        names.add("qemu")
    if run(("7z", "t", "-tVHD", path), check=False).returncode == 0:
        names.add("7z")
    handle = pyvhdi.file()
    try:
        handle.open(str(path))
        handle.read_buffer_at_offset(512, 0)
        handle.close()
        names.add("libvhdi")
    except OSError:
        pass
    return names


# What each of the others lets through, we name. (code, offset, bytes, right checksum, who is fooled)
CORRUPTED = [
    ("checksum", 64, b"\0\0\0\0", False, {"libvhdi"}),
    ("cookie", 0, b"conectiX", True, set()),
    ("current-size", 48, (65 * MIB).to_bytes(8, "big"), True, {"qemu", "libvhdi"}),
    ("original-size", 40, (65 * MIB).to_bytes(8, "big"), True, {"qemu", "7z", "libvhdi"}),
    ("version", 12, b"\0\2\0\0", True, {"qemu", "7z"}),
    ("data-offset", 16, bytes(8), True, {"qemu", "7z"}),
    ("geometry", 56, b"\1\1\1\1", True, {"qemu", "7z", "libvhdi"}),
    ("unique-id", 68, bytes(16), True, {"qemu", "7z", "libvhdi"}),
]


@pytest.mark.parametrize(("code", "offset", "data", "sign", "fooled"), CORRUPTED)
def test_we_are_stricter_than_the_others(
    image: Path, code: str, offset: int, data: bytes, sign: bool, fooled: set[str]
) -> None:
    assert accepted_by(image) == {"qemu", "7z", "libvhdi"}
    corrupt(image, offset, data, sign=sign)
    assert accepted_by(image) == fooled
    assert [item.code for item in deviations(image)] == [code]


def test_a_disk_beyond_qemus_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.vhd"
    with path.open("wb") as stream:
        stream.truncate(2048 * 1024 * MIB)
    write_footer(path, timestamp=1_700_000_000, unique_id=uuid4())
    assert deviations(path) == []
    refused = run(("qemu-img", "create", "-f", "vpc", tmp_path / "no.vhd", "2048G"), check=False)
    assert refused.returncode != 0  # the reason why the writer is ours
    handle = pyvhdi.file()
    handle.open(str(path))
    assert handle.get_media_size() == 2048 * 1024 * MIB
    handle.close()
    assert subprocess.run(["7z", "l", "-tVHD", path], capture_output=True, check=False).returncode == 0
