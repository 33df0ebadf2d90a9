"""The partition table: byte for byte what the specification says, and every damage noticed."""

from __future__ import annotations

import zlib
from pathlib import Path
from uuid import UUID

import pytest

from builder.disk import gpt
from builder.disk.layout import MIB, Layout, compute
from builder.errors import HallmarkError
from builder.image.vhd import write_footer
from builder.recipe.model import DiskSpec, Identifiers
from builder.run import run

SEED = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
SIZE = 128 * MIB


@pytest.fixture
def layout(identifiers: Identifiers) -> Layout:
    return compute(DiskSpec(size_mib=128, esp_mib=40, boot_mib=40), identifiers)


@pytest.fixture
def disk(tmp_path: Path, layout: Layout) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate(layout.size)
        gpt.write(stream.fileno(), layout)
    return path


def test_read_back(disk: Path, layout: Layout) -> None:
    table = gpt.read(disk)
    assert table.disk_guid == layout.guid
    assert (table.first_usable, table.last_usable) == (34, SIZE // 512 - 34)
    assert table.backup_lba == SIZE // 512 - 1
    assert [(e.number, e.type, e.guid, e.first_lba, e.last_lba, e.name) for e in table.entries] == [
        (p.number, p.type, p.guid, p.first_lba, p.last_lba, p.name) for p in layout.partitions
    ]


def test_golden_bytes(disk: Path, layout: Layout) -> None:
    data = disk.read_bytes()
    assert data[:440] == bytes(440)  # boot code is another module's
    assert data[446:462] == bytes.fromhex("00000200eeffffff01000000") + (SIZE // 512 - 1).to_bytes(
        4, "little"
    )
    assert data[510:520] == b"\x55\xaaEFI PART"
    assert data[512 + 8 : 512 + 16] == bytes.fromhex("000001005c000000")
    entry = data[1024:1152]
    assert entry[:16] == bytes.fromhex("4861682149646f6e744e656564454649")  # "Hah!IdontNeedEFI"
    assert entry[32:48] == (2048).to_bytes(8, "little") + (4095).to_bytes(8, "little")
    assert entry[56:76] == "BIOS boot".encode("utf-16-le") + bytes(2)
    assert data[-512:-504] == b"EFI PART"
    assert data[-33 * 512 : -512] == data[1024 : 34 * 512]


def test_it_is_the_same_each_time(disk: Path, tmp_path: Path, layout: Layout) -> None:
    again = tmp_path / "again"
    with again.open("wb") as stream:
        stream.truncate(layout.size)
        gpt.write(stream.fileno(), layout)
    assert again.read_bytes() == disk.read_bytes()


def test_boot_code_is_left_alone(disk: Path, layout: Layout) -> None:
    with disk.open("r+b") as stream:
        stream.write(b"\xeb" * 440)
        stream.flush()
        gpt.write(stream.fileno(), layout)
    assert disk.read_bytes()[:440] == b"\xeb" * 440


def test_beyond_two_tebibytes(tmp_path: Path, identifiers: Identifiers) -> None:
    large = compute(DiskSpec(size_mib=4095 * 1024), identifiers)
    assert gpt.protective_mbr(large.size)[18:22] == b"\xff" * 4
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(large.size)
        gpt.write(stream.fileno(), large)
    assert gpt.read(path).entries[-1].last_lba == large.partition("root").last_lba


def test_of_a_vhd(disk: Path) -> None:
    write_footer(disk, timestamp=0, unique_id=SEED)
    assert len(gpt.read(disk, size=SIZE).entries) == 4
    with pytest.raises(HallmarkError, match="not in the last one"):
        gpt.read(disk)


LAST = SIZE - 512
DAMAGES = [
    (510, b"\0", "protective MBR is missing"),
    (450, b"\x83", "protective MBR is missing"),
    (512, b"X", "no primary GPT header"),
    (512 + 40, b"\1", "primary GPT header is damaged"),
    (1024 + 40, b"\1", "primary GPT's partition entries are damaged"),
    (LAST, b"X", "no backup GPT header"),
    (LAST + 56, b"\1\1\1\1", "backup GPT header is damaged"),
    (LAST - 32 * 512 + 3, b"\1", "backup GPT's partition entries are damaged"),
]


@pytest.mark.parametrize(("offset", "data", "message"), DAMAGES)
def test_damage_is_noticed(disk: Path, offset: int, data: bytes, message: str) -> None:
    with disk.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)
    with pytest.raises(HallmarkError, match=message):
        gpt.read(disk)


def test_a_grown_disk_whose_backup_stayed_behind(disk: Path) -> None:
    with disk.open("r+b") as stream:
        stream.truncate(SIZE + MIB)
    with pytest.raises(HallmarkError, match="backup partition table is at sector"):
        gpt.read(disk)


def test_differing_halves(disk: Path, layout: Layout) -> None:
    other = Layout(SIZE, SEED, layout.partitions)
    _, backup = gpt.table_bytes(other)
    with disk.open("r+b") as stream:
        stream.seek(-len(backup), 2)
        stream.write(backup)
    with pytest.raises(HallmarkError, match="differs"):
        gpt.read(disk)


def test_overlapping_partitions(disk: Path, layout: Layout) -> None:
    data = bytearray(disk.read_bytes())
    data[1024 + 128 + 32 : 1024 + 128 + 40] = (4000).to_bytes(8, "little")  # the ESP begins inside BIOS boot
    entries = bytes(data[1024 : 34 * 512])
    data[-33 * 512 : -512] = entries
    for start in (512, len(data) - 512):
        data[start + 88 : start + 92] = zlib.crc32(entries).to_bytes(4, "little")
        data[start + 16 : start + 20] = bytes(4)
        data[start + 16 : start + 20] = zlib.crc32(bytes(data[start : start + 92])).to_bytes(4, "little")
    disk.write_bytes(data)
    with pytest.raises(HallmarkError, match="partition 2 overlaps"):
        gpt.read(disk)


@pytest.mark.system
def test_other_programs_agree(disk: Path, identifiers: Identifiers) -> None:
    assert "No problems found" in run(("sgdisk", "--verify", disk)).stdout
    sfdisk = run(("sfdisk", "--json", disk)).stdout
    for guid in (identifiers.disk_guid, identifiers.root_guid):
        assert str(guid).upper() in sfdisk
