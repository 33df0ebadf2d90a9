"""Whether the files fit, answered before the disk is written."""

from __future__ import annotations

from collections.abc import Sequence

from builder.disk.contents import BLOCK, Contents, EspFile, Usage
from builder.disk.ext4 import INODE_RATIO, RESERVED_PERCENT
from builder.disk.layout import MIB, Layout
from builder.errors import HallmarkError
from builder.recipe.model import Filesystem

__all__ = ["check", "esp_bytes", "ext4_capacity", "xfs_capacity"]

_INODE = 256
_BLOCKS_PER_GROUP = 32768
_DESCRIPTOR = 64
_FAT_CLUSTER = 4096


def check(contents: Contents, layout: Layout, *, filesystem: Filesystem, root_size: int) -> None:
    """Compare what the files need with what the partitions hold.

    :param root_size: bytes of the block device that the root filesystem gets (less than its partition under
        LVM).
    :raises HallmarkError: something doesn't fit; says how many MiB are needed, how many there are, and which
        field of the recipe to change.
    """
    boot = layout.partition("boot").size
    esp = layout.partition("esp").size
    rows = (
        ("the root filesystem", "disk.size_mib", layout.size, contents.root, root_size),
        ("/boot", "disk.boot_mib", boot, contents.boot, boot),
    )
    capacity = ext4_capacity if filesystem == "ext4" else xfs_capacity
    for what, field, value, usage, size in rows:
        needed = _needed(usage, filesystem)
        blocks, inodes = capacity(size)
        if needed <= blocks and usage.inodes <= inodes:
            continue
        more = 0
        while needed > capacity(size + more)[0] or usage.inodes > capacity(size + more)[1]:
            more += max(16 * MIB, more // 50 // MIB * MIB)
        if needed > blocks:
            _refuse(what, field, value, value + more, needed * BLOCK, blocks * BLOCK)
        raise HallmarkError(
            f"{what} has {usage.inodes} files; a filesystem of this size holds {inodes}",
            hint=_advice(field, value, value + more),
        )
    needed = esp_bytes(contents.esp)
    if needed > esp - MIB:
        _refuse("the EFI system partition", "disk.esp_mib", esp, needed + 2 * MIB, needed, esp - MIB)


def ext4_capacity(size: int) -> tuple[int, int]:
    """Free blocks (without those reserved for root) and inodes of a new ext4 filesystem of ``size`` bytes.

    The arithmetic of mke2fs: inode tables, bitmaps, group descriptors with room to grow, journal.
    """
    blocks = size // BLOCK
    groups = -(-blocks // _BLOCKS_PER_GROUP)
    # Each group's part of the inode table fills whole blocks.
    per_block = BLOCK // _INODE
    inodes = -(-(size // INODE_RATIO) // (groups * per_block)) * per_block * groups
    table = -(-inodes * _INODE // BLOCK)
    descriptors = -(-groups * _DESCRIPTOR // BLOCK)
    largest = min(blocks * 1024, 0xFFFF_FFFF)
    largest_groups = -(-largest // _BLOCKS_PER_GROUP)
    grown = -(-largest_groups // (BLOCK // _DESCRIPTOR))
    reserved = min(max(0, grown - descriptors), BLOCK // 4)
    copies = sum(1 for group in range(groups) if _has_superblock(group))
    overhead = copies * (1 + descriptors + reserved) + 2 * groups + table + _journal_blocks(blocks) + 32
    return max(0, blocks - overhead - blocks * RESERVED_PERCENT // 100), inodes - 11


def xfs_capacity(size: int) -> tuple[int, int]:
    """Free blocks and inodes of a new XFS: its log (64 MiB or more), and 2 % for trees and reserves."""
    log = max(64 * MIB, size // 2048)
    free = max(0, size - log - size // 50) // BLOCK
    return free, free * BLOCK // 4 // 512  # inodes are made as needed, of at most a quarter of the space


def esp_bytes(files: Sequence[EspFile]) -> int:
    """What files take on a FAT with clusters of at most 4 KiB, their directories included."""
    directories = {path[:index] for path in (item.path for item in files) for index in _slashes(path)}
    return (
        sum(-(-len(item.data) // _FAT_CLUSTER) * _FAT_CLUSTER for item in files)
        + len(directories) * _FAT_CLUSTER
    )


def _needed(usage: Usage, filesystem: Filesystem) -> int:
    """Blocks, with XFS's inodes, which come out of the same space."""
    extra = usage.inodes * 512 // BLOCK if filesystem == "xfs" else 0
    return usage.total_blocks + extra


def _refuse(what: str, field: str, value: int, enough: int, needed: int, available: int) -> None:
    raise HallmarkError(
        f"{what} needs {-(-needed // MIB)} MiB and {available // MIB} MiB are available on it",
        why="the disk would be full before its first boot",
        hint=_advice(field, value, enough),
    )


def _advice(field: str, value: int, enough: int) -> str:
    return f"raise {field} in the recipe from {value // MIB} to {-(-enough // MIB)} or more, or install less"


def _has_superblock(group: int) -> bool:
    """sparse_super: groups 0, 1 and the powers of 3, 5 and 7."""
    if group <= 1:
        return True
    for base in (3, 5, 7):
        power = base
        while power < group:
            power *= base
        if power == group:
            return True
    return False


def _journal_blocks(blocks: int) -> int:
    """ext2fs_default_journal_size() of e2fsprogs, in blocks of 4 KiB."""
    for limit, size in (
        (2048, 0),
        (32768, 1024),
        (262144, 4096),
        (524288, 8192),
        (4194304, 16384),
        (8388608, 32768),
    ):
        if blocks < limit:
            return size
    return 65536 if blocks < 16777216 else 131072 if blocks < 33554432 else 262144


def _slashes(path: str) -> list[int]:
    return [index for index, letter in enumerate(path) if letter == "/"]
