"""BIOS boot code: GRUB's boot.img in sector 0, its core.img in the BIOS boot partition.

The guest's own GRUB tools made both while the root filesystem was built. What ``grub-bios-setup`` would do to
them on a mounted disk is four small patches (GRUB's util/setup.c), done here on the bytes.
"""

from __future__ import annotations

import os
import struct

from builder.disk.layout import SECTOR, Layout
from builder.errors import HallmarkError

__all__ = ["BOOT_CODE_SIZE", "install", "patch_boot", "patch_core"]

#: Boot code ends where the disk signature of the (protective) MBR begins.
BOOT_CODE_SIZE = 440
_KERNEL_SECTOR = 0x5C
_DRIVE_CHECK = 0x66
_NOP_NOP = b"\x90\x90"
#: The block list's first entry lies at the end of core.img's first sector: start, length, segment.
_BLOCKLIST = struct.Struct("<QHH")
#: GRUB_BOOT_I386_PC_KERNEL_SEG + 0x20: the first sector is in memory already.
_SEGMENT = 0x820


def install(handle: int, layout: Layout, *, boot_img: bytes, core_img: bytes) -> None:
    """Write both into the open disk ``handle``; the partition table is left alone.

    :raises HallmarkError: they aren't what GRUB makes, or the core doesn't fit its partition.
    """
    partition = layout.partition("bios")
    core = patch_core(core_img, lba=partition.first_lba)
    if len(core) > partition.size:
        raise HallmarkError(
            f"GRUB's core.img has {len(core)} bytes and the BIOS boot partition {partition.size}",
            hint="embed fewer GRUB modules",
        )
    os.pwrite(handle, patch_boot(boot_img, core_lba=partition.first_lba), 0)
    os.pwrite(handle, core, partition.start)


def patch_boot(boot_img: bytes, *, core_lba: int) -> bytes:
    """The 440 bytes of boot code that load the core from sector ``core_lba``."""
    if len(boot_img) != SECTOR or boot_img[510:] != b"\x55\xaa":
        raise HallmarkError("boot.img is not GRUB's boot sector (512 bytes ending in 55 AA)")
    code = bytearray(boot_img[:BOOT_CODE_SIZE])
    struct.pack_into("<Q", code, _KERNEL_SECTOR, core_lba)
    # On a hard disk the drive number from the BIOS is taken as it is; the check is for floppies.
    code[_DRIVE_CHECK : _DRIVE_CHECK + 2] = _NOP_NOP
    return bytes(code)


def patch_core(core_img: bytes, *, lba: int) -> bytes:
    """The core, in whole sectors, that finds the rest of itself behind sector ``lba``."""
    sectors = -(-len(core_img) // SECTOR)
    if sectors < 2 or _BLOCKLIST.unpack_from(core_img, SECTOR - _BLOCKLIST.size)[2] != _SEGMENT:
        raise HallmarkError("core.img is not a GRUB core image for i386-pc")
    core = bytearray(core_img.ljust(sectors * SECTOR, b"\0"))
    _BLOCKLIST.pack_into(core, SECTOR - _BLOCKLIST.size, lba + 1, sectors - 1, _SEGMENT)
    return bytes(core)
