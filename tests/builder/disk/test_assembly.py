"""Whole ext4 disks from a small tree: what is on them, always the same, nothing left behind on failure."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.disk import assemble, bootcode, contents, ext4, gpt, populate
from builder.disk.layout import MIB, Layout, compute
from builder.errors import HallmarkError
from builder.recipe.model import Plan
from builder.run import run

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Built:
    disk: Path
    plan: Plan
    layout: Layout

    def debugfs(self, role: str, command: str) -> str:
        offset = next(p.start for p in self.layout.partitions if p.role == role)
        return run(("debugfs", "-R", command, f"{self.disk}?offset={offset}")).stdout


def build(rootfs: Path, plan: Plan, directory: Path) -> Built:
    directory.mkdir(exist_ok=True)
    disk = directory / "disk.raw"
    assemble(rootfs, plan, destination=disk, work=directory / "work", logs=directory / "log", force_tcg=True)
    return Built(disk, plan, compute(plan.disk, plan.identifiers))


@pytest.fixture(scope="module")
def built(rootfs: Path, make_plan: Callable[..., Plan], tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(rootfs, make_plan(), tmp_path_factory.mktemp("built"))


def test_the_table_and_the_boot_code(built: Built, tree: Path) -> None:
    table = gpt.read(built.disk)
    assert [entry.guid for entry in table.entries] == [p.guid for p in built.layout.partitions]
    boot_img = (tree / contents.BOOT_IMG).read_bytes()
    with built.disk.open("rb") as stream:
        assert stream.read(440) == bootcode.patch_boot(boot_img, core_lba=2048)
        stream.seek(MIB)
        core = bootcode.patch_core((tree / contents.CORE_IMG).read_bytes(), lba=2048)
        assert stream.read(len(core)) == core


@pytest.mark.parametrize("role", ["root", "boot"])
def test_the_filesystems_are_clean_and_identified(built: Built, role: str) -> None:
    part = built.layout.partition("root" if role == "root" else "boot")
    piece = built.disk.with_name(f"{role}.img")
    sizes = (f"skip={part.start // MIB}", f"count={part.size // MIB}")
    run(("dd", f"if={built.disk}", f"of={piece}", "bs=1M", "conv=sparse", *sizes))
    assert run(("e2fsck", "-f", "-n", piece), check=False).returncode == 0
    header = run(("dumpe2fs", "-h", piece)).stdout
    wanted = built.plan.identifiers.root_fs if role == "root" else built.plan.identifiers.boot_fs
    assert f"Filesystem UUID:          {wanted}" in header
    assert f"Filesystem volume name:   {role}" in header
    assert f"Block count:              {part.size // 4096}" in header
    assert "metadata_csum" in header and "metadata_csum_seed" not in header and "orphan_file" not in header
    piece.unlink()


def test_files_keep_everything(built: Built) -> None:
    ping = built.debugfs("root", "stat /usr/bin/ping")
    assert "system_u:object_r:etc_t:s0" in ping and "security.capability (20)" in ping
    assert "Links: 2" in ping
    assert "Mode:  04755" in built.debugfs("root", "stat /usr/bin/su")
    assert "Mode:  0000" in built.debugfs("root", "stat /etc/shadow")
    owner = built.debugfs("root", "stat /var/empty").split()
    assert owner[owner.index("User:") + 1] == "74" and owner[owner.index("Group:") + 1] == "75"
    assert 'dest: "usr/bin"' in built.debugfs("root", "stat /bin")
    assert built.debugfs("root", 'cat "/usr/share/file 7 ü"') == "7\n" * 7


def test_every_time_is_derived(built: Built) -> None:
    for role, path in (
        ("root", "/usr/bin/ping"),
        ("root", "/"),
        ("root", "/lost+found"),
        ("boot", "/vmlinuz"),
    ):
        text = built.debugfs(role, f"stat {path}")
        for name in ("ctime", "atime", "crtime"):
            assert f"{name}: {hex(built.plan.source_date_epoch)}:00000000" in text, (path, name)
    assert f"mtime: {hex(1_600_000_000)}:00000000" in built.debugfs("root", "stat /usr/bin/ping")


def test_boot_is_parted_from_root(built: Built) -> None:
    below = built.debugfs("root", "ls -p /boot").split()
    assert [line.split("/")[5] for line in below] == [".", ".."]
    names = built.debugfs("boot", "ls -p /")
    assert "/vmlinuz/" in names and "/grub2/" in names and "/efi/" in names
    assert "EFI" not in built.debugfs("boot", "ls -p /efi")


def test_mount_points_are_there_and_labelled(built: Built) -> None:
    for name, mode in (("proc", "0555"), ("sys", "0555"), ("dev", "0755"), ("run", "0755")):
        text = built.debugfs("root", f"stat /{name}")
        assert f"Mode:  {mode}" in text and "root_t" in text, name
    assert "lost_found_t" in built.debugfs("root", "stat /lost+found")
    assert "Mode:  0555" in built.debugfs("root", "stat /")


def test_the_esp(built: Built, tree: Path) -> None:
    image = f"{built.disk}@@{built.layout.partition('esp').start}"
    listing = run(("mdir", "-i", image, "-/", "-b", "::"), env={"MTOOLS_SKIP_CHECK": "1"}).stdout.split()
    assert {name for name in listing if name.lower().endswith(".efi")} == {
        "::/EFI/BOOT/BOOTX64.EFI",
        "::/EFI/BOOT/grubx64.efi",
        "::/EFI/small/shimx64-small.efi",
    }
    assert "Serial Number is ABCD-1234" in run(("mdir", "-i", image)).stdout
    copied = built.disk.with_name("copy")
    run(("mcopy", "-n", "-i", image, "::/EFI/small/shimx64-small.efi", copied))
    assert copied.read_bytes() == (tree / "boot/efi/EFI/small/shimx64-small.efi").read_bytes()
    fsck = run(("dd", f"if={built.disk}", f"of={copied}", "bs=1M", "skip=2", "count=40"))
    assert fsck.returncode == 0
    run(("fsck.vfat", "-n", copied))


def test_the_disk_is_sparse(built: Built) -> None:
    assert built.disk.stat().st_size == 512 * MIB
    assert built.disk.stat().st_blocks * 512 < 32 * MIB


def test_the_same_tar_gives_the_same_disk(built: Built, rootfs: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # whatever takes its time from the clock differs now
    again = build(rootfs, built.plan, tmp_path / "again")
    assert run(("cmp", built.disk, again.disk), check=False).returncode == 0


def test_memory_and_disk_give_the_same_filesystems(
    rootfs: Path, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    """Where memory is short the tree is unpacked into the work directory."""
    plan, disks = make_plan(), []
    for memory in (0, 64 * MIB):
        work = tmp_path / f"work{memory}"
        work.mkdir()
        disk = tmp_path / f"disk{memory}"
        with disk.open("wb") as stream:
            stream.truncate(256 * MIB)
        features = ext4.features_for(9)
        root = ext4.Ext4(64 * MIB, 192 * MIB, plan.identifiers.root_fs, "root", features)
        boot = ext4.Ext4(0, 64 * MIB, plan.identifiers.boot_fs, "boot", features)
        job = populate.Job(rootfs, disk, root, boot, 1_700_000_000, work, tmp_path / "log", memory)
        populate.run_apart(job)
        assert (work / "tree/root").exists() == (memory == 0)  # the tmpfs went with its namespace
        disks.append(disk)
    assert run(("cmp", *disks), check=False).returncode == 0


@pytest.mark.parametrize(
    ("disk", "drop", "message"),
    [
        ({"size_mib": 150}, None, "disk.size_mib"),
        ({}, "./boot/grub2/i386-pc/core.img", "core.img"),
        ({}, "./boot/efi/EFI/BOOT/BOOTX64.EFI", "BOOTX64.EFI"),
    ],
)
def test_what_cannot_work_is_refused_before_writing(
    rootfs: Path,
    make_plan: Callable[..., Plan],
    tmp_path: Path,
    disk: dict[str, int],
    drop: str | None,
    message: str,
) -> None:
    tar = tmp_path / "rootfs.tar"
    shutil.copy(rootfs, tar)
    if drop:
        run(("tar", "--delete", "--file", tar, drop))
    else:
        big = tmp_path / "boot-big"
        big.write_bytes(os.urandom(60 * MIB))
        run(("tar", "--append", "--file", tar, "--transform", "s,.*,./usr/big,", big))
    out = tmp_path / "out"
    with pytest.raises(HallmarkError, match=message):
        build(tar, make_plan(**disk), out)
    assert not (out / "disk.raw").exists() and not list(out.glob(".disk*"))


@pytest.mark.parametrize(
    ("generation", "needless"), [(1, "./boot/efi/EFI/BOOT/BOOTX64.EFI"), (2, "./boot/grub2/i386-pc/core.img")]
)
def test_generations_say_which_boot_files_are_needed(
    rootfs: Path, make_plan: Callable[..., Plan], tmp_path: Path, generation: int, needless: str
) -> None:
    tar = tmp_path / "rootfs.tar"
    shutil.copy(rootfs, tar)
    run(("tar", "--delete", "--file", tar, needless))
    built = build(tar, make_plan(generations=(generation,)), tmp_path / "out")
    with built.disk.open("rb") as stream:
        assert (stream.read(440) == bytes(440)) == (generation == 2)
    with pytest.raises(HallmarkError, match=needless.rpartition("/")[2]):
        build(tar, make_plan(generations=(1, 2)), tmp_path / "both")


def test_no_space_on_the_host(rootfs: Path, make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    run(("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small))
    try:
        with pytest.raises(HallmarkError, match="8 MiB are free"):
            build(rootfs, make_plan(), small)
        assert not list(small.glob("*.raw")) and not list(small.glob(".disk*"))
    finally:
        run(("umount", small))


@pytest.mark.parametrize("size", ["200k", "2m"])  # in the ESP, in the root filesystem
def test_space_that_runs_out_on_the_way(
    rootfs: Path, make_plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    """Another program may take the space after the check; the check is told there is plenty."""
    small = tmp_path / "small"
    small.mkdir()
    run(("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", small))
    plenty = shutil.disk_usage("/")._replace(free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: plenty)
    plan = make_plan()
    try:
        with pytest.raises(HallmarkError) as caught:
            work, logs = tmp_path / "work", tmp_path / "log"
            assemble(rootfs, plan, destination=small / "disk.raw", work=work, logs=logs, force_tcg=True)
        assert "No space left on device" in str(caught.value) and "free space" in str(caught.value)
        assert list(small.iterdir()) == []
        assert list((tmp_path / "work").iterdir()) == []
    finally:
        run(("umount", small))


def test_a_kill_leaves_nothing_behind(
    rootfs: Path, built: Built, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(make_plan().to_json())
    big = tmp_path / "rootfs.tar"
    shutil.copy(rootfs, big)
    program = (
        "import sys; from pathlib import Path; from builder.disk import assemble; "
        "from builder.recipe.model import Plan; tar, plan, out = map(Path, sys.argv[1:]); "
        "assemble(tar, Plan.model_validate_json(plan.read_text()), destination=out / 'disk.raw', "
        "work=out / 'work', logs=out, force_tcg=True)"
    )
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen([sys.executable, "-c", program, big, plan, out], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (list(out.glob(".disk.raw.*")) and list((out / "work").glob("disk.*/tree"))):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 5
    while _processes_with(str(out)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _processes_with(str(out)) == []
    assert str(out) not in Path("/proc/mounts").read_text()
    assert not (out / "disk.raw").exists()
    again = build(big, make_plan(), out)
    assert list(out.glob(".disk*")) == []
    assert run(("cmp", built.disk, again.disk), check=False).returncode == 0


def _processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
        if text in words and "pytest" not in words:
            found.append(words)
    return found


def test_problems_of_the_other_process_are_told(
    rootfs: Path, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    ids = make_plan().identifiers
    disk = tmp_path / "disk"
    with disk.open("wb") as stream:
        stream.truncate(24 * MIB)
    boot = ext4.Ext4(0, 16 * MIB, ids.boot_fs, "boot", ext4.features_for(9))
    root = ext4.Ext4(16 * MIB, 2 * MIB, ids.root_fs, "root", ext4.features_for(9))
    tmp_path.joinpath("work").mkdir()
    job = populate.Job(rootfs, disk, root, boot, 0, tmp_path / "work", tmp_path / "log", 64 * MIB)
    with pytest.raises(HallmarkError, match="the files of root don't fit into 2 MiB") as caught:
        populate.run_apart(job)
    assert "disk.size_mib" in str(caught.value)


def test_a_job_survives_json(make_plan: Callable[..., Plan]) -> None:
    ids = make_plan().identifiers
    root = ext4.Ext4(1, 2, ids.root_fs, "root", "features")
    job = populate.Job(Path("/a"), Path("/b"), root, root, 3, Path("/c"), Path("/d"), 4)
    assert populate.Job.from_json(job.to_json()) == job
    assert json.loads(job.to_json())["memory"] == 4
