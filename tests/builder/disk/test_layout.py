"""The partition layout: pure, aligned, and clear about what doesn't fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.disk import layout as partitions
from builder.disk.layout import MIB, compute
from builder.errors import HallmarkError
from builder.recipe.model import DiskSpec, Identifiers


def test_the_four_partitions(identifiers: Identifiers) -> None:
    plan = compute(DiskSpec(size_mib=4096, esp_mib=100, boot_mib=512), identifiers)
    assert plan.size == 4096 * MIB
    assert plan.guid == identifiers.disk_guid
    rows = [(p.number, p.role, p.start // MIB, p.size // MIB, p.type) for p in plan.partitions]
    assert rows == [
        (1, "bios", 1, 1, partitions.BIOS_BOOT),
        (2, "esp", 2, 100, partitions.EFI_SYSTEM),
        (3, "boot", 102, 512, partitions.LINUX),
        (4, "root", 614, 3481, partitions.LINUX),
    ]
    guids = [p.guid for p in plan.partitions]
    assert guids == [
        identifiers.bios_guid,
        identifiers.esp_guid,
        identifiers.boot_guid,
        identifiers.root_guid,
    ]


def test_lvm_changes_the_type_only(identifiers: Identifiers) -> None:
    plain = compute(DiskSpec(size_mib=4096), identifiers)
    lvm = compute(DiskSpec(size_mib=4096, layout="lvm"), identifiers)
    assert lvm.partition("root").type == partitions.LINUX_LVM
    assert [(p.start, p.size) for p in lvm.partitions] == [(p.start, p.size) for p in plain.partitions]


@given(size=st.integers(2048, 1 << 22), esp=st.integers(34, 900), boot=st.integers(300, 900))
def test_partitions_touch_and_leave_the_edges(
    identifiers: Identifiers, size: int, esp: int, boot: int
) -> None:
    plan = compute(DiskSpec(size_mib=size + 2000, esp_mib=esp, boot_mib=boot, filesystem="xfs"), identifiers)
    end = MIB
    for partition in plan.partitions:
        assert partition.start == end and partition.size > 0 and partition.start % MIB == 0
        assert partition.last_lba - partition.first_lba + 1 == partition.size // 512
        end = partition.end
    assert plan.size - end == MIB


@pytest.mark.parametrize(
    ("disk", "field", "needed"),
    [
        (DiskSpec(size_mib=1600, filesystem="xfs"), "disk.size_mib", "1827"),
        (DiskSpec(size_mib=100), "disk.size_mib", "1559"),
        (DiskSpec(size_mib=4096, esp_mib=10), "disk.esp_mib", "34"),
        (DiskSpec(size_mib=4096, boot_mib=10), "disk.boot_mib", "32"),
        (DiskSpec(size_mib=4096, boot_mib=200, filesystem="xfs"), "disk.boot_mib", "300"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(
    identifiers: Identifiers, disk: DiskSpec, field: str, needed: str
) -> None:
    with pytest.raises(HallmarkError) as caught:
        compute(disk, identifiers)
    assert field in str(caught.value)
    assert needed in str(caught.value)
