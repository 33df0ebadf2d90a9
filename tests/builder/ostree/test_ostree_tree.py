"""What a root filesystem looks like as the tree of a commit."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_system import KERNEL, small_plan, write_tree

from builder.errors import HallmarkError
from builder.ostree import tree
from builder.ostree.deploy import reads_entries


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    root = write_tree(tmp_path / "tree")
    assert tree.convert(root, rpmdb="/var/lib/rpm") == KERNEL
    return root


def test_kernel_and_initramfs_are_where_ostree_looks(converted: Path) -> None:
    modules = converted / "usr/lib/modules" / KERNEL
    assert (modules / "vmlinuz").read_text() == "kernel"
    assert (modules / "initramfs.img").read_text() == "initramfs"
    assert list((converted / "boot").iterdir()) == []
    assert (converted / "usr/lib/ostree-boot/efi/EFI/debian/grubx64.efi").read_text() == "grub"


def test_configuration_becomes_the_default_that_updates_are_merged_with(converted: Path) -> None:
    assert not (converted / "etc").exists()
    assert (converted / "usr/etc/hostname").read_text() == "small\n"
    semanage = (converted / "usr/etc/selinux/semanage.conf").read_text()
    assert semanage == "module-store = direct\nstore-root=/etc/selinux\n"
    assert (converted / "usr/etc/selinux/targeted/active/policy").read_text() == "modules"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("home", "var/home"),
        ("root", "var/roothome"),
        ("opt", "var/opt"),
        ("srv", "var/srv"),
        ("mnt", "var/mnt"),
        ("media", "run/media"),
        ("usr/local", "../var/usrlocal"),
        ("ostree", "sysroot/ostree"),
    ],
)
def test_the_machine_s_own_places_are_links(converted: Path, path: str, target: str) -> None:
    assert (converted / path).readlink() == Path(target)


def test_var_is_empty_and_made_again_by_tmpfiles(converted: Path) -> None:
    assert list((converted / "var").iterdir()) == []
    lines = (converted / "usr/lib/tmpfiles.d/ostree-var.conf").read_text().splitlines()[1:]
    made = {line.split()[1]: line for line in lines}
    assert made["/var/lib/state/map"].startswith("C /var/lib/state/map 0644 ")
    assert (converted / "usr/share/factory/var/lib/state/map").read_text() == "content"
    assert (converted / "usr/share/factory/var/opt/tool/bin").read_text() == "tool"
    assert made["/var/log/messages"].startswith("f /var/log/messages 0600 ")
    assert made["/var/run"] == "L /var/run - - - - ../run"
    assert made["/var/lib/rpm"] == "L /var/lib/rpm - - - - ../../usr/share/rpm"
    assert "/var/log" not in made  # a package makes it
    assert "/var/lib/selinux" not in made


def test_the_package_database_changes_with_the_tree(converted: Path) -> None:
    assert (converted / "usr/share/rpm/rpmdb.sqlite").read_text() == "packages"
    macros = (converted / "usr/lib/rpm/macros.d/macros.ostree").read_text()
    assert macros.splitlines()[-1] == "%_dbpath /usr/share/rpm"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bin": None, "bin/sh": "shell"}, "/bin of the root filesystem is not a link to usr/bin"),
        (
            {"usr/lib/modules/6.2/vmlinuz": "another"},
            "exactly one kernel; the root filesystem has 6.1.0-1, 6.2",
        ),
        (
            {f"usr/lib/modules/{KERNEL}/vmlinuz": None, f"boot/vmlinuz-{KERNEL}": None},
            "exactly one kernel; the root filesystem has none",
        ),
        ({f"boot/initramfs-{KERNEL}.img": None}, "has no initramfs"),
    ],
)
def test_what_could_not_boot_is_refused(
    tmp_path: Path, changes: dict[str, str | None], complaint: str
) -> None:
    root = write_tree(tmp_path / "tree", **changes)
    with pytest.raises(HallmarkError, match=complaint):
        tree.convert(root, rpmdb="/var/lib/rpm")


@pytest.mark.parametrize(
    ("system", "major", "modules", "reads"),
    [
        ('"rhel"', 9, (), True),  # aarch64: blscfg is in the signed program
        ("centos", 8, ("i386-pc",), True),
        ('"centos"', 7, ("i386-pc",), False),  # for BIOS alone
        ("small", 9, (), False),
        ("small", 9, ("x86_64-efi",), True),
        (None, 9, (), False),
    ],
)
def test_who_reads_the_entries_that_ostree_writes(
    tmp_path: Path, system: str | None, major: int, modules: tuple[str, ...], reads: bool
) -> None:
    release = None if system is None else f"NAME=X\nVERSION_ID=1\nID={system}\n"
    places = {f"usr/lib/grub/{name}/blscfg.mod": "module" for name in modules}
    root = write_tree(tmp_path / "tree", **{"usr/lib/os-release": release}, **places)
    made = small_plan()
    made = made.model_copy(update={"distribution": made.distribution.model_copy(update={"major": major})})
    assert reads_entries(root, made) is reads
