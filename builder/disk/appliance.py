"""What needs a kernel: XFS and LVM, in libguestfs's appliance, in one launch.

Drives are addressed by label (/dev/disk/guestfs/LABEL): inside the appliance /dev/sda may be its own root.
The tar itself is a drive, so that the appliance's tar reads it at disk speed instead of through the control
channel.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import log
from builder.disk import lvm
from builder.disk.contents import ROOT_LABEL
from builder.disk.layout import Layout
from builder.disk.populate import MOUNT_POINTS
from builder.errors import HallmarkError
from builder.recipe.model import Plan

__all__ = ["Appliance", "make_volume", "make_xfs", "open_appliance"]

_DISK, _TAR = "/dev/disk/guestfs/disk", "/dev/disk/guestfs/rootfs"
_MEMORY_MIB = 2048
#: What a release's kernel and GRUB can read of XFS's later features (bigtime and inobtcount came with EL 9).
_XFS_FEATURES = {
    7: ("bigtime=0,inobtcount=0,reflink=0", "nrext64=0,sparse=0"),
    8: ("bigtime=0,inobtcount=0,reflink=1", "nrext64=0"),
    9: ("bigtime=1,inobtcount=1,reflink=1", "nrext64=0"),
}


@dataclass(frozen=True, slots=True)
class Appliance:
    """A launched appliance; ``handle`` is libguestfs's own (untyped) one."""

    handle: Any
    log: Path

    def run(self, *argv: str) -> str:
        """Run a program inside; returns what it printed.

        :raises HallmarkError: its status isn't 0.
        """
        return self.script(shlex.join(argv))

    def script(self, text: str) -> str:
        """Run a shell script inside (its text is built from constants and quoted words only)."""
        status_mark = "hallmark-status="
        # The script's own status is printed, because the call's error would hold the first line of output
        # only.
        output: str = self.handle.debug("sh", [f"( {text} ) 2>&1; echo {status_mark}$?"])
        body, _, status = output.rpartition(status_mark)
        if status.strip() != "0":
            lines = body.strip().splitlines()[-20:]
            full = any("No space left on device" in line for line in lines)
            raise HallmarkError(
                "the files don't fit the disk" if full else "a program in the libguestfs appliance failed",
                where=self.log,
                details=[*lines, f"command: {text}"],
                hint="raise disk.size_mib (or disk.boot_mib) in the recipe" if full else None,
            )
        return body


@contextmanager
def open_appliance(
    disk: Path, *, tar: Path | None, work: Path, log_file: Path, force_tcg: bool
) -> Iterator[Appliance]:
    """Launch the appliance on ``disk`` (writable, label ``disk``) and ``tar`` (read-only, label ``rootfs``).

    :raises HallmarkError: libguestfs is missing, doesn't launch, or a call failed in the ``with`` block.
    """
    try:
        import guestfs  # here: a host that builds ext4 only needs no libguestfs
    except ImportError as error:
        raise HallmarkError(
            f"Python cannot load libguestfs: {error}",
            why="XFS and LVM disks are made in its appliance",
            hint="run ./ci/nox: it makes an environment that sees the system's binding",
        ) from None
    handle = guestfs.GuestFS(python_return_dict=True, close_on_exit=True)
    with log_file.open("ab") as sink:

        def keep(_event: int, _id: int, text: bytes | str, _array: object) -> None:
            sink.write(text if isinstance(text, bytes) else text.encode(errors="replace"))

        handle.set_event_callback(
            keep, guestfs.EVENT_APPLIANCE | guestfs.EVENT_LIBRARY | guestfs.EVENT_WARNING
        )
        try:
            if force_tcg:
                handle.set_backend_settings(["force_tcg"])
            handle.set_tmpdir(str(work.resolve()))
            handle.set_smp(min(4, os.cpu_count() or 1))
            handle.set_memsize(_MEMORY_MIB)
            # unsafe: the host may cache at will; after a crash the file is thrown away anyhow
            handle.add_drive_opts(str(disk), format="raw", label="disk", cachemode="unsafe")
            if tar is not None:
                handle.add_drive_opts(str(tar), format="raw", label="rootfs", readonly=True)
            with log.step("launch the libguestfs appliance"):
                handle.launch()
            yield Appliance(handle, log_file)
            handle.shutdown()
        except RuntimeError as error:  # every libguestfs error is one
            raise HallmarkError(
                f"libguestfs: {error}", where=log_file, hint="`hallmark doctor` checks libguestfs"
            ) from None
        finally:
            handle.close()


def make_volume(appliance: Appliance, layout: Layout, *, timestamp: int) -> str:
    """Make the LVM volume on the root partition and activate it; what lies in it already stays. Returns its
    device."""
    item = lvm.volume(layout.partition("root"))
    device = f"{_DISK}{item.partition.number}"
    text = shlex.quote(lvm.metadata(item, timestamp=timestamp))
    backup = "/tmp/rootvg.vg"
    with log.step(f"make the volume group {lvm.GROUP}"):
        appliance.script(
            f"set -e; printf %s {text} > {backup}; "
            f"lvm pvcreate --yes --force --uuid {item.physical_uuid} --restorefile {backup} {device}; "
            f"lvm vgcfgrestore --force --file {backup} {lvm.GROUP}; "
            f"lvm vgchange --activate y {lvm.GROUP}; udevadm settle; test -b {item.device}"
        )
    return item.device


def make_xfs(
    appliance: Appliance,
    layout: Layout,
    plan: Plan,
    *,
    root_device: str | None,
    immutable: Sequence[str] = (),
) -> None:
    """Make XFS on root and /boot and unpack the tar into them.

    :param root_device: the logical volume; None for the root partition.
    :param immutable: directories of the root filesystem in which nothing can be made or removed.
    """
    ids = plan.identifiers
    root = root_device or f"{_DISK}{layout.partition('root').number}"
    boot = f"{_DISK}{layout.partition('boot').number}"
    release = max(key for key in _XFS_FEATURES if key <= max(plan.distribution.major, min(_XFS_FEATURES)))
    metadata, inodes = _XFS_FEATURES[release]
    with log.step("make the XFS filesystems"):
        for device, uuid, label in ((root, ids.root_fs, "root"), (boot, ids.boot_fs, "boot")):
            options = ("-m", f"crc=1,finobt=1,{metadata},uuid={uuid}", "-i", inodes, "-L", label)
            appliance.run("mkfs.xfs", "-q", "-f", *options, device)
    sysroot = "/sysroot"
    appliance.handle.mount(root, "/")
    appliance.run("mkdir", "-m", "0755", f"{sysroot}/boot")
    appliance.handle.mount(boot, "/boot")
    with log.step("unpack the root filesystem in the appliance"):
        appliance.run(
            *(
                "tar",
                "--extract",
                "--preserve-permissions",
                "--numeric-owner",
                "--xattrs",
                "--xattrs-include=*",
            ),
            *("--exclude=./boot/efi/*", "--exclude=boot/efi/*", "--directory", sysroot, "--file", _TAR),
        )
    with log.step("finish the filesystems"):
        appliance.script(_finish(sysroot, plan.source_date_epoch))
        appliance.handle.umount("/boot")
        # The directory below the mount point looks like what is mounted there.
        below = _like_root(sysroot, f"{sysroot}/boot", ROOT_LABEL.replace("root_t", "boot_t"))
        appliance.script(f"set -e; {below}; touch -d @{plan.source_date_epoch} {sysroot}/boot {sysroot}")
        if immutable:
            appliance.run("chattr", "+i", *(f"{sysroot}/{path}" for path in immutable))
        appliance.handle.umount_all()


def _finish(sysroot: str, timestamp: int) -> str:
    """Add the mount points that the tar lacks, labelled when the root directory is."""
    lines = ["set -e"]
    for name, mode in MOUNT_POINTS:
        path = f"{sysroot}/{name}"
        labelled = _like_root(sysroot, path, ROOT_LABEL)
        made = f"mkdir -m {mode:o} {path}; {labelled}; touch -d @{timestamp} {path}"
        lines.append(f"if ! test -d {path}; then {made}; fi")
    return "; ".join(lines)


def _like_root(sysroot: str, path: str, label: str) -> str:
    """Shell text that gives ``path`` an SELinux label if the root directory has one."""
    name = "security.selinux"
    label = shlex.quote(label)
    return f"if getfattr -n {name} {sysroot} >/dev/null 2>&1; then setfattr -n {name} -v {label} {path}; fi"
