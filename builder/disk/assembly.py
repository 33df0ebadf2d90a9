"""Assemble the disk: partition table, boot code, EFI system partition, /boot and root."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from builder import apart, log
from builder.disk import appliance, bootcode, capacity, esp, gpt, lvm
from builder.disk.contents import BOOT_IMG, CORE_IMG, Contents, scan
from builder.disk.ext4 import Ext4, features_for
from builder.disk.layout import Layout, compute
from builder.disk.populate import Job, run_apart
from builder.errors import HallmarkError
from builder.recipe.model import Plan

__all__ = ["assemble"]

_EFI_PROGRAM = {"x86_64": "EFI/BOOT/BOOTX64.EFI", "aarch64": "EFI/BOOT/BOOTAA64.EFI"}
_MIB = 1 << 20


def assemble(rootfs: Path, plan: Plan, *, destination: Path, work: Path, logs: Path, force_tcg: bool) -> None:
    """Write the raw disk that ``plan.disk`` asks for, sparse, with the files of ``rootfs``.

    ext4 disks are written on the host, without a mount that the host sees, and are the same bytes for the
    same tar and plan. XFS and LVM are made in libguestfs's appliance.

    :param rootfs: ``rootfs.tar``: the whole system, /boot and /boot/efi included.
    :param destination: the disk; it appears under this name when it is complete.
    :param work: a directory for temporary files, on a filesystem with extended attributes.
    :param logs: the directory for ``disk.log``.
    :param force_tcg: don't let the appliance use KVM.
    :raises HallmarkError: the files don't fit the disk (before anything is written), boot files are missing,
        space on the host ran out, or a program failed.
    """
    layout = compute(plan.disk, plan.identifiers)
    with log.step("look at the root filesystem"):
        contents = scan(rootfs)
    _check_boot_files(contents, plan, rootfs)
    on_lvm = plan.disk.layout == "lvm"
    part = layout.partition("root")
    offset, size = (part.start, part.size) if not on_lvm else _volume_range(layout)
    capacity.check(contents, layout, filesystem=plan.disk.filesystem, root_size=size)
    if os.geteuid() != 0:
        raise HallmarkError(
            "the disk stage needs root", why="files keep their owners", hint="run it with sudo"
        )
    for directory in (work, logs, destination.parent):
        directory.mkdir(parents=True, exist_ok=True)
    _check_host_space(rootfs, contents, destination)
    log_file = logs / "disk.log"
    log_file.unlink(missing_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="disk.", dir=work))
    for stale in destination.parent.glob(f".{destination.name}.*"):
        stale.unlink()  # a killed run's; the pipeline lets one run at a time work on an image
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}")
    try:
        _write(rootfs, plan, layout, contents, temporary, scratch, log_file, (offset, size), force_tcg)
        temporary.replace(destination)
    except OSError as error:
        raise HallmarkError(
            f"cannot write the disk: {error.strerror}",
            where=error.filename or temporary,
            hint="free space on that filesystem, or use another --build-dir",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _write(
    rootfs: Path,
    plan: Plan,
    layout: Layout,
    contents: Contents,
    disk: Path,
    scratch: Path,
    log_file: Path,
    root: tuple[int, int],
    force_tcg: bool,
) -> None:
    timestamp = plan.source_date_epoch
    with disk.open("wb") as stream:
        stream.truncate(layout.size)
        gpt.write(stream.fileno(), layout)
        if 1 in plan.disk.generations and contents.boot_img and contents.core_img:
            bootcode.install(stream.fileno(), layout, boot_img=contents.boot_img, core_img=contents.core_img)
        with log.step("write the EFI system partition"):
            part = layout.partition("esp")
            serial = plan.identifiers.esp_serial
            esp.make(
                stream.fileno(),
                part,
                contents.esp,
                serial=serial,
                timestamp=timestamp,
                work=scratch,
                log=log_file,
            )
    if plan.disk.filesystem == "ext4":
        with log.step("write the ext4 filesystems"):
            _fill_ext4(rootfs, plan, layout, contents, disk, scratch, log_file, root)
        if plan.disk.layout == "plain":
            return
    tar = rootfs if plan.disk.filesystem == "xfs" else None
    with appliance.open_appliance(
        disk, tar=tar, work=scratch, log_file=log_file, force_tcg=force_tcg
    ) as guest:
        device = (
            appliance.make_volume(guest, layout, timestamp=timestamp) if plan.disk.layout == "lvm" else None
        )
        if plan.disk.filesystem == "xfs":
            appliance.make_xfs(guest, layout, plan, root_device=device, immutable=contents.deployments)


def _fill_ext4(
    rootfs: Path,
    plan: Plan,
    layout: Layout,
    contents: Contents,
    disk: Path,
    scratch: Path,
    log_file: Path,
    root: tuple[int, int],
) -> None:
    ids, boot = plan.identifiers, layout.partition("boot")
    features = features_for(plan.distribution.major)
    needed = (contents.root.total_blocks + contents.boot.total_blocks) * 4096
    job = Job(
        tar=rootfs.resolve(),
        disk=disk.resolve(),
        root=Ext4(root[0], root[1], ids.root_fs, "root", features),
        boot=Ext4(boot.start, boot.size, ids.boot_fs, "boot", features),
        timestamp=plan.source_date_epoch,
        work=scratch.resolve(),
        log=log_file.resolve(),
        memory=apart.available_memory(needed),
        immutable=contents.deployments,
    )
    run_apart(job)


def _volume_range(layout: Layout) -> tuple[int, int]:
    item = lvm.volume(layout.partition("root"))
    return item.offset, item.size


def _check_boot_files(contents: Contents, plan: Plan, rootfs: Path) -> None:
    if 1 in plan.disk.generations:
        for name, data in ((BOOT_IMG, contents.boot_img), (CORE_IMG, contents.core_img)):
            if data is None:
                raise HallmarkError(
                    f"the root filesystem has no /{name}",
                    where=rootfs,
                    why="a generation 1 virtual machine boots by it",
                    hint="install grub2-pc in the recipe, or set disk.generations to [2]",
                )
    program = _EFI_PROGRAM[plan.architecture]
    if 2 in plan.disk.generations and program.lower() not in {item.path.lower() for item in contents.esp}:
        raise HallmarkError(
            f"the root filesystem has no /boot/efi/{program}",
            where=rootfs,
            why="a generation 2 virtual machine boots by it",
            hint="install shim-x64 and grub2-efi-x64 in the recipe, or set disk.generations to [1]",
        )


def _check_host_space(rootfs: Path, contents: Contents, destination: Path) -> None:
    """The disk is sparse: it takes what the files take, and some metadata."""
    blocks = contents.root.total_blocks + contents.boot.total_blocks
    needed = blocks * 4096 + capacity.esp_bytes(contents.esp) + 64 * _MIB
    free = shutil.disk_usage(destination.parent).free
    if needed > free:
        raise HallmarkError(
            f"the disk needs {needed // _MIB} MiB and {free // _MIB} MiB are free",
            where=destination.parent,
            hint="free space there, or use another --build-dir",
            details=[f"files of {rootfs.name}: {contents.root.inodes + contents.boot.inodes}"],
        )
