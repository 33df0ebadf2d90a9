"""BIOS boot code: patched where GRUB's own installer patches it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from builder.disk import bootcode, gpt
from builder.disk.layout import Layout, compute
from builder.errors import HallmarkError
from builder.recipe.model import DiskSpec, Identifiers

BOOT = bytes(range(256))[:0x5C] + bytes(8) + b"\xff\xff" + b"\xeb\x05" + bytes(510 - 0x68) + b"\x55\xaa"
CORE = b"diskboot".ljust(500, b"\0") + struct.pack("<QHH", 0, 0, 0x820) + b"kernel" * 300


@pytest.fixture
def layout(identifiers: Identifiers) -> Layout:
    return compute(DiskSpec(size_mib=128, esp_mib=40, boot_mib=40), identifiers)


def test_boot_sector() -> None:
    code = bootcode.patch_boot(BOOT, core_lba=2048)
    assert len(code) == 440
    assert code[:0x5C] == BOOT[:0x5C]
    assert struct.unpack_from("<Q", code, 0x5C) == (2048,)
    assert code[0x66:0x68] == b"\x90\x90"
    assert code[0x68:] == BOOT[0x68:440]


def test_core_block_list() -> None:
    core = bootcode.patch_core(CORE, lba=2048)
    assert len(core) == 5 * 512
    assert struct.unpack_from("<QHH", core, 500) == (2049, 4, 0x820)
    assert core[512 : len(CORE)] == CORE[512:]


def test_install_keeps_the_partition_table(tmp_path: Path, layout: Layout) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as stream:
        stream.truncate(layout.size)
        gpt.write(stream.fileno(), layout)
        bootcode.install(stream.fileno(), layout, boot_img=BOOT, core_img=CORE)
    assert len(gpt.read(disk).entries) == 4
    data = disk.read_bytes()
    assert data[:440] == bootcode.patch_boot(BOOT, core_lba=2048)
    assert data[1 << 20 : (1 << 20) + 2560] == bootcode.patch_core(CORE, lba=2048)


@pytest.mark.parametrize(
    ("boot", "core", "message"),
    [
        (BOOT[:-1], CORE, "boot.img is not"),
        (BOOT[:-1] + b"\0", CORE, "boot.img is not"),
        (BOOT, CORE[:512], "core.img is not"),
        (BOOT, bytes(2048), "core.img is not"),
        (BOOT, CORE + bytes(1 << 20), "BIOS boot partition"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, layout: Layout, boot: bytes, core: bytes, message: str
) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as stream, pytest.raises(HallmarkError, match=message):
        bootcode.install(stream.fileno(), layout, boot_img=boot, core_img=core)
    assert disk.stat().st_size == 0
