"""XFS and LVM disks, made in libguestfs's appliance and looked at on the host without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.disk import assemble, lvm
from builder.disk.appliance import open_appliance
from builder.disk.layout import MIB, Layout, compute
from builder.errors import HallmarkError
from builder.recipe.model import Plan
from builder.run import run

pytestmark = pytest.mark.system


def carve(disk: Path, offset: int, size: int, to: Path) -> Path:
    """A sparse copy of a part of the disk."""
    sizes = (f"skip={offset // MIB}", f"count={size // MIB}")
    run(("dd", f"if={disk}", f"of={to}", "bs=1M", "conv=sparse", *sizes))
    with to.open("r+b") as stream:
        stream.truncate(size)
    return to


def build(rootfs: Path, plan: Plan, directory: Path) -> tuple[Path, Layout]:
    disk = directory / "disk.raw"
    work, logs = directory / "work", directory / "log"
    assemble(rootfs, plan, destination=disk, work=work, logs=logs, force_tcg=True)
    assert list(work.iterdir()) == []
    return disk, compute(plan.disk, plan.identifiers)


def lvm_metadata(disk: Path, layout: Layout) -> str:
    """The volume group's text as it is on the disk (it lies between the label and the first extent)."""
    with disk.open("rb") as stream:
        stream.seek(layout.partition("root").start)
        area = stream.read(MIB)
    assert area[512:520] == b"LABELONE" and area[536:544] == b"LVM2 001"
    start = area.rindex(f"{lvm.GROUP} {{".encode())
    return area[start : area.index(b"\0", start)].decode()


def test_xfs_on_a_logical_volume(
    rootfs: Path, make_plan: Callable[..., Plan], deployment: str, tmp_path: Path
) -> None:
    plan = make_plan(filesystem="xfs", layout="lvm", size_mib=1400, boot_mib=400)
    disk, layout = build(rootfs, plan, tmp_path)
    volume = lvm.volume(layout.partition("root"))
    text = lvm_metadata(disk, layout)
    assert volume.physical_uuid in text and f"extent_count = {volume.extents}" in text
    boot = layout.partition("boot")
    for name, offset, size, uuid in (
        ("root", volume.offset, volume.size, plan.identifiers.root_fs),
        ("boot", boot.start, boot.size, plan.identifiers.boot_fs),
    ):
        piece = carve(disk, offset, size, tmp_path / name)
        assert run(("xfs_repair", "-n", piece), check=False).returncode == 0, name
        shown = run(("xfs_db", "-r", "-c", "sb 0", "-c", "p uuid fname", "-c", "version", piece)).stdout
        assert f"uuid = {uuid}" in shown and f'fname = "{name}' in shown
        assert "NREXT64" not in shown and "BIGTIME" in shown
    root = tmp_path / "root"
    ping = run(("xfs_db", "-r", "-c", "path /usr/bin/ping", "-c", "p", root)).stdout
    assert "core.nlinkv2 = 2" in ping and "core.size = 20000" in ping
    assert "selinux" in ping and "capability" in ping  # both fit the inode
    assert "system_u:object_r:etc_t:s0" in ping
    for path, label in (("/proc", "root_t"), ("/boot", "boot_t"), ("/run", "root_t")):
        assert label in run(("xfs_db", "-r", "-c", f"path {path}", "-c", "p", root)).stdout, path
    for path, flag in ((f"/{deployment}", 1), ("/ostree/deploy", 0)):
        shown = run(("xfs_db", "-r", "-c", f"path {path}", "-c", "p core.immutable", root)).stdout
        assert f"core.immutable = {flag}" in shown, path
    shown = run(("xfs_db", "-r", "-c", "path /efi", "-c", "p core.size", tmp_path / "boot")).stdout
    assert "core.size = 6" in shown  # an empty directory


def test_ext4_on_a_logical_volume(rootfs: Path, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    plan = make_plan(layout="lvm")
    disk, layout = build(rootfs, plan, tmp_path)
    volume = lvm.volume(layout.partition("root"))
    assert lvm.VOLUME in lvm_metadata(disk, layout)
    piece = carve(disk, volume.offset, volume.size, tmp_path / "root.img")
    assert run(("e2fsck", "-f", "-n", piece), check=False).returncode == 0
    assert str(plan.identifiers.root_fs) in run(("dumpe2fs", "-h", piece)).stdout
    assert "security.capability" in run(("debugfs", "-R", "stat /usr/bin/ping", piece)).stdout


def test_problems_in_the_appliance_are_told(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as stream:
        stream.truncate(64 * MIB)
    log_file = tmp_path / "log"
    with open_appliance(disk, tar=None, work=tmp_path, log_file=log_file, force_tcg=True) as guest:
        assert guest.run("echo", "two words", "$HOME") == "two words $HOME\n"
        with pytest.raises(HallmarkError, match="program in the libguestfs appliance failed") as caught:
            guest.script("echo to be told; exit 3")
        assert "to be told" in str(caught.value)
        with pytest.raises(HallmarkError, match="don't fit"):
            guest.script("echo 'x: No space left on device' >&2; false")
        with pytest.raises(RuntimeError):
            guest.handle.mount("/dev/nonsense", "/")
    with (
        pytest.raises(HallmarkError, match="libguestfs"),
        open_appliance(tmp_path / "none", tar=None, work=tmp_path, log_file=log_file, force_tcg=True),
    ):
        pass


def test_the_names_of_lvm_are_derived(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(layout="lvm")
    part = compute(plan.disk, plan.identifiers).partition("root")
    volume = lvm.volume(part)
    assert volume == lvm.volume(part)
    assert [len(piece) for piece in volume.physical_uuid.split("-")] == [6, 4, 4, 4, 4, 4, 6]
    assert volume.offset + volume.size <= part.end < volume.offset + volume.size + lvm.EXTENT + MIB
    text = lvm.metadata(volume, timestamp=1_700_000_000)
    assert text == lvm.metadata(volume, timestamp=1_700_000_000) and "creation_time = 1700000000" in text
