"""Where everything lies on the disk: a pure function of the plan.

Every image has the same four partitions, so that partition numbers mean the same everywhere and one image can
boot both Hyper-V generations: 1 BIOS boot, 2 EFI system partition, 3 /boot, 4 root (plain, or an LVM physical
volume). Partitions begin on whole MiB; the root partition ends a MiB before the disk's end, which holds the
backup GPT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from builder.errors import HallmarkError
from builder.recipe.model import DiskSpec, Identifiers

__all__ = ["BIOS_BOOT", "EFI_SYSTEM", "LINUX", "LINUX_LVM", "MIB", "SECTOR", "Layout", "Partition", "compute"]

MIB = 1 << 20
SECTOR = 512

# Partition type GUIDs: UEFI specification (EFI system), GNU GRUB manual (BIOS boot), Discoverable Partitions
# Specification (the others). Linux filesystem data rather than the root type: what root is, fstab says.
BIOS_BOOT = UUID("21686148-6449-6e6f-744e-656564454649")
EFI_SYSTEM = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
LINUX_LVM = UUID("e6d6d379-f507-44c2-a23c-238f2a3df928")

_BIOS_MIB = 1
#: The MiB before the first partition (primary GPT) and after the last one (backup GPT).
_EDGE_MIB = 1
#: Below this mkfs.vfat cannot make FAT32 with 512-byte clusters, and XFS refuses filesystems below 300 MB.
_MINIMUM_MIB = {"ext4": 32, "xfs": 300}
_MINIMUM_ESP_MIB = 34

Role = Literal["bios", "esp", "boot", "root"]


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition; ``start`` and ``size`` in bytes, both whole MiB. ``number`` counts from 1."""

    number: int
    role: Role
    name: str
    type: UUID
    guid: UUID
    start: int
    size: int

    @property
    def end(self) -> int:
        """The first byte after the partition."""
        return self.start + self.size

    @property
    def first_lba(self) -> int:
        return self.start // SECTOR

    @property
    def last_lba(self) -> int:
        """The last sector that belongs to the partition (GPT counts inclusively)."""
        return self.end // SECTOR - 1


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole disk; ``size`` in bytes, a whole number of MiB."""

    size: int
    guid: UUID
    partitions: tuple[Partition, ...]

    def partition(self, role: Role) -> Partition:
        """The partition with this role."""
        return next(partition for partition in self.partitions if partition.role == role)


def compute(disk: DiskSpec, identifiers: Identifiers) -> Layout:
    """The layout that a plan's disk asks for.

    :raises HallmarkError: the sizes don't fit into the disk; the message names the field of the recipe.
    """
    minimum = _MINIMUM_MIB[disk.filesystem]
    for field, value, least in (
        ("disk.esp_mib", disk.esp_mib, _MINIMUM_ESP_MIB),
        ("disk.boot_mib", disk.boot_mib, minimum),
    ):
        if value < least:
            raise HallmarkError(
                f"{field} is {value} MiB; this filesystem needs at least {least} MiB",
                hint=f"raise {field} in the recipe to {least} or more",
            )
    fixed = 2 * _EDGE_MIB + _BIOS_MIB + disk.esp_mib + disk.boot_mib
    root = disk.size_mib - fixed
    if root < minimum:
        raise HallmarkError(
            f"disk.size_mib is {disk.size_mib}; the other partitions leave {max(0, root)} MiB for the root",
            why=f"BIOS boot, ESP ({disk.esp_mib} MiB), /boot ({disk.boot_mib} MiB) and the partition tables "
            f"take {fixed} MiB, and a {disk.filesystem} root needs at least {minimum} MiB",
            hint=f"raise disk.size_mib in the recipe to {fixed + minimum} or more, "
            "or lower disk.esp_mib or disk.boot_mib",
        )
    parts: list[Partition] = []
    start = _EDGE_MIB * MIB
    rows: tuple[tuple[Role, str, UUID, UUID, int], ...] = (
        ("bios", "BIOS boot", BIOS_BOOT, identifiers.bios_guid, _BIOS_MIB),
        ("esp", "EFI System Partition", EFI_SYSTEM, identifiers.esp_guid, disk.esp_mib),
        ("boot", "boot", LINUX, identifiers.boot_guid, disk.boot_mib),
        ("root", "root", LINUX_LVM if disk.layout == "lvm" else LINUX, identifiers.root_guid, root),
    )
    for number, (role, name, kind, guid, mib) in enumerate(rows, start=1):
        parts.append(Partition(number, role, name, kind, guid, start, mib * MIB))
        start += mib * MIB
    return Layout(disk.size_mib * MIB, identifiers.disk_guid, tuple(parts))
