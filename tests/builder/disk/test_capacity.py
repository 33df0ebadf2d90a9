"""What fits: our arithmetic against mke2fs's own, and the words of the refusal."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from builder.disk import capacity
from builder.disk.contents import Contents, EspFile, Usage, scan
from builder.disk.ext4 import Ext4, features_for, make
from builder.disk.layout import MIB, compute
from builder.errors import HallmarkError
from builder.recipe.model import Identifiers, Plan
from builder.run import run


def contents(
    *, root: Usage | None = None, boot: Usage | None = None, esp: tuple[EspFile, ...] = ()
) -> Contents:
    return Contents(root or Usage(1, 1), boot or Usage(1, 1), esp, b"", b"", True)


@pytest.mark.parametrize(
    ("what", "message", "field"),
    [
        (contents(root=Usage(10, 200 * 256)), "root filesystem needs 200 MiB", "disk.size_mib"),
        (contents(boot=Usage(10, 100 * 256)), "/boot needs 100 MiB", "disk.boot_mib"),
        (contents(root=Usage(10_000_000, 10)), "has 10000000 files", "disk.size_mib"),
        (contents(esp=(EspFile("a", bytes(60 * MIB)),)), "EFI system partition needs 60 MiB", "disk.esp_mib"),
    ],
)
def test_too_much_is_refused_with_numbers(
    make_plan: Callable[..., Plan], what: Contents, message: str, field: str
) -> None:
    plan = make_plan(size_mib=256)
    layout = compute(plan.disk, plan.identifiers)
    with pytest.raises(HallmarkError) as caught:
        capacity.check(what, layout, filesystem="ext4", root_size=layout.partition("root").size)
    assert message in str(caught.value)
    assert field in str(caught.value)


def test_the_advice_is_enough(make_plan: Callable[..., Plan]) -> None:
    what = contents(root=Usage(1000, 700 * 256))
    plan = make_plan(size_mib=900, boot_mib=400)
    for filesystem in ("ext4", "xfs"):
        layout = compute(plan.disk, plan.identifiers)
        with pytest.raises(HallmarkError) as caught:
            capacity.check(what, layout, filesystem=filesystem, root_size=layout.partition("root").size)
        size = int(re.findall(r"to (\d+) or more", str(caught.value))[0])
        larger = make_plan(size_mib=size, boot_mib=400)
        layout = compute(larger.disk, larger.identifiers)
        capacity.check(what, layout, filesystem=filesystem, root_size=layout.partition("root").size)


@pytest.mark.system
@pytest.mark.parametrize("mib", [64, 512, 1024, 3481, 30_000])
def test_the_arithmetic_is_mke2fs(tmp_path: Path, identifiers: Identifiers, mib: int) -> None:
    disk, empty = tmp_path / "disk", tmp_path / "empty"
    empty.mkdir()
    with disk.open("wb") as stream:
        stream.truncate(mib * MIB)
    spec = Ext4(0, mib * MIB, identifiers.root_fs, "root", features_for(9))
    make(disk, spec, tree=empty, timestamp=0, work=tmp_path, log=tmp_path / "log")
    text = run(("dumpe2fs", "-h", disk)).stdout
    numbers = {key: int(value) for key, value in re.findall(r"^([\w ]+):\s+(\d+)$", text, re.M)}
    blocks, inodes = capacity.ext4_capacity(mib * MIB)
    free = numbers["Free blocks"] - numbers["Reserved block count"]
    assert free - 100 - free // 200 <= blocks <= free
    assert inodes == numbers["Free inodes"]


def test_scan_counts_what_ext4_stores(tmp_path: Path) -> None:
    tar = tmp_path / "rootfs.tar"
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object) -> None:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(data)
            for key, value in more.items():
                setattr(member, key, value)
            archive.addfile(member, BytesIO(data))

        add(".", kind=tarfile.DIRTYPE, pax_headers={"SCHILY.xattr.security.selinux": "root_t"})
        add("./etc", kind=tarfile.DIRTYPE)
        add("./etc/one", b"x")
        add("./etc/two", bytes(4097))
        add("./etc/link", kind=tarfile.LNKTYPE, linkname="./etc/one")
        add("./etc/short", kind=tarfile.SYMTYPE, linkname="one")
        add("./etc/long", kind=tarfile.SYMTYPE, linkname="x" * 60)
        add("./etc/attributes", pax_headers={"SCHILY.xattr.security.selinux": "x" * 120})
        add("./boot", kind=tarfile.DIRTYPE)
        add("./boot/vmlinuz", b"k" * 10000)
        add("./boot/grub2/i386-pc/core.img", b"core")
        add("./boot/efi", kind=tarfile.DIRTYPE)
        add("./boot/efi/EFI/BOOT/BOOTX64.EFI", b"efi")
    found = scan(tar)
    assert found.labelled
    assert (found.core_img, found.boot_img) == (b"core", None)
    assert found.esp == (EspFile("EFI/BOOT/BOOTX64.EFI", b"efi"),)
    # etc, one, two, short, long, attributes, boot; blocks: 1 + 2 + long link + attributes, and / and etc
    assert (found.root.inodes, found.root.total_blocks) == (7, 1 + 2 + 1 + 1 + 2)
    # vmlinuz, core.img, efi; blocks: 3 + 1, directories boot and boot/grub2/i386-pc
    assert (found.boot.inodes, found.boot.total_blocks) == (3, 4 + 2)


@pytest.mark.parametrize("cut", [0, 100, 600, 10_000])
def test_a_damaged_tar_is_named(tmp_path: Path, cut: int) -> None:
    tar = tmp_path / "rootfs.tar"
    source = tmp_path / "core.img"
    source.write_bytes(os.urandom(20_000))
    with tarfile.open(tar, "w") as archive:
        archive.add(source, "./boot/grub2/i386-pc/core.img")
    with tar.open("r+b") as stream:
        stream.truncate(cut)
    with pytest.raises(HallmarkError, match="tar"):
        scan(tar)


def test_a_missing_tar_is_named(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="no root filesystem tar"):
        scan(tmp_path / "rootfs.tar")
