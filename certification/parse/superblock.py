"""What filesystem a partition holds, from its first bytes: type, identifiers, size and free room.

Layouts: Linux fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h, mkswap's header, LVM2's label; FAT is read by
``certification.views.fat``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

__all__ = ["Filesystem", "probe"]

Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Filesystem:
    """``size`` and ``free`` are bytes, 0 when unknown; ``clean`` is False when it was not unmounted."""

    type: str
    uuid: str
    label: str
    size: int
    free: int
    clean: bool


def probe(read: Read) -> Filesystem | None:
    """Look at a partition through ``read(offset, length)``; None when nothing known is in it."""
    head = read(0, 4096 + 4096)
    for look in (_xfs, _swap, _lvm, _fat, _ext):
        found = look(head)
        if found is not None:
            return found
    return None


def _ext(head: bytes) -> Filesystem | None:
    block = head[1024:2048]
    if len(block) < 1024 or block[56:58] != b"\x53\xef":
        return None
    blocks, _reserved, free = struct.unpack_from("<III", block, 4)
    log_size = struct.unpack_from("<I", block, 24)[0]
    compat, incompat = struct.unpack_from("<II", block, 92)
    if incompat & 0x80:  # 64bit
        blocks |= struct.unpack_from("<I", block, 0x150)[0] << 32
        free |= struct.unpack_from("<I", block, 0x158)[0] << 32
    state = struct.unpack_from("<H", block, 58)[0]
    unit = 1024 << min(log_size, 6)
    kind = "ext4" if incompat & 0x40 else "ext3" if compat & 0x4 else "ext2"
    # Bit 0: cleanly unmounted, bit 1: errors. INCOMPAT_RECOVER: the journal has to be replayed.
    clean = bool(state & 1) and not state & 2 and not incompat & 0x4
    label = block[120:136].split(b"\0")[0].decode(errors="replace")
    return Filesystem(kind, str(UUID(bytes=block[104:120])), label, blocks * unit, free * unit, clean)


def _xfs(head: bytes) -> Filesystem | None:
    if head[:4] != b"XFSB":
        return None
    unit = struct.unpack_from(">I", head, 4)[0]
    blocks = struct.unpack_from(">Q", head, 8)[0]
    free = struct.unpack_from(">Q", head, 144)[0]
    in_progress = head[126]
    label = head[108:120].split(b"\0")[0].decode(errors="replace")
    return Filesystem("xfs", str(UUID(bytes=head[32:48])), label, blocks * unit, free * unit, not in_progress)


def _swap(head: bytes) -> Filesystem | None:
    if head[4086:4096] not in (b"SWAPSPACE2", b"SWAP-SPACE"):
        return None
    pages = struct.unpack_from("<I", head, 1028)[0]
    return Filesystem("swap", str(UUID(bytes=head[1036:1052])), "", pages * 4096, 0, True)


def _lvm(head: bytes) -> Filesystem | None:
    for sector in range(4):
        label = head[sector * 512 : sector * 512 + 512]
        if label[:8] == b"LABELONE" and label[24:32] == b"LVM2 001":
            return Filesystem("LVM2_member", label[32:64].decode(errors="replace"), "", 0, 0, True)
    return None


def _fat(head: bytes) -> Filesystem | None:
    if head[510:512] != b"\x55\xaa" or not (head[54:57] == b"FAT" or head[82:85] == b"FAT"):
        return None
    at = 67 if head[82:85] == b"FAT" else 39
    low, high = struct.unpack_from("<HH", head, at)
    sector = struct.unpack_from("<H", head, 11)[0]
    count = struct.unpack_from("<H", head, 19)[0] or struct.unpack_from("<I", head, 32)[0]
    label = head[at + 4 : at + 15].decode("ascii", errors="replace").strip()
    return Filesystem("vfat", f"{high:04X}-{low:04X}", label, count * sector, 0, True)
