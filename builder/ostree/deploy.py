"""A commit becomes the files of a disk: a tar in the form of a root filesystem's, with /boot and /boot/efi.

``ostree admin deploy`` writes into a plain directory, in namespaces of its own (``builder.apart``): no mount
that the host sees, no boot of the system, and the disk stage makes of the tar what it makes of any other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from builder import apart, log
from builder.errors import HallmarkError
from builder.ostree import repository
from builder.ostree.repository import Commit, ostree
from builder.ostree.tree import BOOT_DIRECTORY, LABEL, copy_label
from builder.recipe.model import Plan
from builder.rootfs import bootfiles
from builder.run import run

__all__ = ["SYSROOT", "deploy", "reads_entries"]

#: What the deploy stage leaves.
SYSROOT = "sysroot.tar"
#: Where trees keep the boot loader for UEFI: ostree's own place, and bootupd's.
_EFI_PLACES = (f"{BOOT_DIRECTORY}/efi/EFI", "usr/lib/bootupd/updates/EFI")
_TAR = ("tar", "--format=posix", "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*")
_PAX = "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"
#: SELinux types of what is outside every deployment, by the beginning of the path; the longest counts.
_TYPES = {
    "": "usr_t",
    "boot": "boot_t",
    "ostree/deploy/*/var": "var_t",
    "ostree/deploy/*/var/lib": "var_lib_t",
    "ostree/deploy/*/var/log": "var_log_t",
    "ostree/deploy/*/var/tmp": "tmp_t",
}


@dataclass(frozen=True, slots=True)
class _Job:
    archive: str
    commit: str
    plan: str
    key: str | None
    destination: str
    work: str
    log: str
    memory: int


def deploy(
    archive: Path, plan: Plan, *, commit: Commit, key: str | None, destination: Path, work: Path, logs: Path
) -> None:
    """Write ``sysroot.tar`` into the directory ``destination``.

    :param archive: the repository that holds the commit, as a tar.
    :param key: the public key that must have signed it, armoured; machines verify updates with it. None:
        nobody signs, its checksum says that it is the right one, and machines take what they are served.
    :param work: a directory for temporary files, on a filesystem with extended attributes.
    :param logs: receives ``deploy.log``.
    :raises HallmarkError: the signature isn't good, the tree has no boot loader for a firmware that the plan
        asks for, or a program failed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    log_file = logs / "deploy.log"
    log_file.write_bytes(b"")
    job = _Job(
        archive=str(archive.resolve()),
        commit=commit.model_dump_json(),
        plan=plan.model_dump_json(),
        key=key,
        destination=str(destination.resolve()),
        work=str(work.resolve()),
        log=str(log_file.resolve()),
        # The archive, and what is compressed in it.
        memory=apart.available_memory(5 * archive.stat().st_size),
    )
    with log.step("deploy the commit"):
        apart.call(__name__, json.dumps(asdict(job)), what="deploying the commit", log=log_file)


def _deploy(job: _Job) -> None:
    plan, commit, log_file = (
        Plan.model_validate_json(job.plan),
        Commit.model_validate_json(job.commit),
        Path(job.log),
    )
    system = plan.ostree
    assert system is not None and system.remote and system.url
    base = Path(job.work) / "deploy"
    base.mkdir()
    apart.mount_memory(base, job.memory)
    source = repository.unpack(Path(job.archive), base / "archive")
    sysroot = base / "sysroot"
    sysroot.mkdir()
    repo = sysroot / "ostree/repo"
    ostree("admin", "init-fs", "--modern", sysroot, log=log_file)
    ostree("config", "set", "core.fsync", "false", repo=repo)
    # Deployed here without a boot loader: what there is to write, _boot_loader writes.
    ostree("config", "set", "sysroot.bootloader", "none", repo=repo)
    ostree("admin", "os-init", f"--sysroot={sysroot}", system.stateroot, log=log_file)
    repository.add_remote(repo, system.remote, url=system.url, ref=commit.ref, key=job.key)
    verify = ("--gpg-verify",) if job.key is not None else ()
    ostree("pull-local", f"--remote={system.remote}", *verify, source, commit.ref, repo=repo, log=log_file)
    refspec = f"{system.remote}:{commit.ref}"
    found = ostree("rev-parse", refspec, repo=repo).strip()
    if found != commit.checksum:
        raise HallmarkError(
            f"the archive has commit {found[:12]} of {commit.ref}, not {commit.checksum[:12]}"
        )
    shutil.rmtree(base / "archive")
    arguments = (f"root=UUID={plan.identifiers.root_fs}", "rw", *plan.kernel.arguments)
    words = (
        f"--sysroot={sysroot}",
        f"--os={system.stateroot}",
        *(f"--karg-append={item}" for item in arguments),
    )
    ostree("admin", "deploy", *words, refspec, log=log_file)
    deployment = sysroot / f"ostree/deploy/{system.stateroot}/deploy/{commit.checksum}.0"
    # Nothing can be made in the root of a deployment, not even here.
    run(("chattr", "-i", deployment), check=False)
    # Where SELinux doesn't run, ostree copies the labels of regular files only.
    defaults = deployment / "usr/etc"
    for path in (defaults, *defaults.rglob("*")):
        copy_label(path, deployment / path.relative_to(deployment / "usr"))
    table = deployment / "etc/fstab"
    table.write_text(bootfiles.fstab(plan))
    copy_label(deployment / "etc", table)
    _unlink_from_tree(sysroot / "boot/ostree")
    _boot_loader(sysroot, deployment, plan, log_file)
    ostree("config", "unset", "core.fsync", repo=repo)
    for name in ("tmp", "state"):
        for path in sorted((repo / name).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    (repo / ".lock").unlink(missing_ok=True)
    _label(sysroot, deployment)
    timestamp = f"--mtime=@{plan.source_date_epoch}"
    target = Path(job.destination) / SYSROOT
    run((*_TAR, _PAX, "--clamp-mtime", timestamp, "--create", "--file", target, "--directory", sysroot, "."))


def _unlink_from_tree(boot: Path) -> None:
    """Kernel and initramfs of /boot as files of their own: it becomes another filesystem than the tree's."""
    for path in sorted(boot.rglob("*")):
        if path.is_file():
            copy = path.with_name(f".{path.name}")
            shutil.copyfile(path, copy)
            copy.replace(path)


def _boot_loader(sysroot: Path, deployment: Path, plan: Plan, log_file: Path) -> None:
    """GRUB in /boot for every firmware, made with the tree's own tools, for this disk."""
    boot = sysroot / "boot"
    grub = boot / "grub2"
    modules = deployment / "usr/lib/grub/i386-pc"
    grub.mkdir(mode=0o700)
    (grub / "grubenv").write_text(bootfiles.grubenv())
    if 1 in plan.disk.generations:
        _bios(grub / "i386-pc", modules, deployment, plan, log_file)
    if 2 in plan.disk.generations:
        _efi(boot / "efi/EFI", deployment, plan)
    head = bootfiles.grub_head(plan)
    if reads_entries(deployment, plan):
        # Its GRUB reads the boot loader entries that ostree writes: its configuration never changes.
        configuration = grub / "grub.cfg"
        configuration.write_text(f"{head}insmod blscfg\nblscfg\n")
    else:
        # ostree makes a new configuration with the entries, and this link is how it knows that it has to.
        configuration = boot / "loader/grub.cfg"
        configuration.write_text(head + "".join(_entry(path.read_text()) for path in _entries(boot)))
        (grub / "grub.cfg").symlink_to("../loader/grub.cfg")
        ostree("config", "unset", "sysroot.bootloader", repo=sysroot / "ostree/repo")
    configuration.chmod(0o600)


def reads_entries(deployment: Path, plan: Plan) -> bool:
    """Whether the GRUB of a tree reads boot loader entries.

    Red Hat's does from 8 on: its program for UEFI has blscfg inside, and there need not be a file that tells.
    That of 7 has it for BIOS only, and both firmwares share one menu. Others show by their modules. The hook
    ``60-hallmark-boot`` decides alike about a root filesystem.
    """
    file = deployment / "usr/lib/os-release"
    system = re.search(r"^ID=[\"']?([\w.-]+)", file.read_text() if file.exists() else "", re.M)
    if system and system[1] in ("rhel", "centos"):
        return plan.distribution.major >= 8
    places = (deployment / "usr/lib/grub" / name for name in ("i386-pc", "x86_64-efi"))
    return any((place / "blscfg.mod").exists() for place in places)


def _entries(boot: Path) -> list[Path]:
    return sorted((boot / "loader/entries").glob("*.conf"), reverse=True)


def _entry(text: str) -> str:
    """A boot loader entry in GRUB's own language."""
    fields = dict(re.findall(r"^(\w+) +(.+)$", text, re.M))
    return (
        f'menuentry "{fields["title"]}" --unrestricted {{\n'
        f"  linux {fields['linux']} {fields['options']}\n"
        f"  initrd {fields['initrd']}\n"
        "}\n"
    )


def _bios(target: Path, modules: Path, deployment: Path, plan: Plan, log_file: Path) -> None:
    programs = [
        name for name in ("grub2-mkimage", "grub-mkimage") if (deployment / "usr/bin" / name).exists()
    ]
    if not (modules / "boot.img").exists() or not programs:
        raise HallmarkError(
            "the commit has no GRUB for BIOS",
            where=modules.relative_to(deployment),
            why="a generation 1 virtual machine boots by it",
            hint="take a commit with grub2-pc and grub2-tools, or set disk.generations to [2]",
        )
    target.mkdir()
    for path in (*modules.glob("*.mod"), *modules.glob("*.lst"), modules / "boot.img"):
        shutil.copyfile(path, target / path.name)
    # The tree's own program, in the tree; /var is the place where something may be put for a moment.
    scratch = deployment / "var"
    apart.mount_memory(scratch, 16 << 20)
    (scratch / "early.cfg").write_text(bootfiles.early_cfg(plan))
    wanted = [name for name in bootfiles.BIOS_MODULES if (modules / f"{name}.mod").exists()]
    words = ("-O", "i386-pc", "-d", "/usr/lib/grub/i386-pc", "-p", "/grub2", "-c", "/var/early.cfg")
    run(
        ("chroot", deployment, f"/usr/bin/{programs[0]}", *words, "-o", "/var/core.img", *wanted),
        log_file=log_file,
    )
    shutil.copyfile(scratch / "core.img", target / "core.img")
    run(("umount", scratch))


def _efi(target: Path, deployment: Path, plan: Plan) -> None:
    source = next((deployment / place for place in _EFI_PLACES if (deployment / place).is_dir()), None)
    if source is None:
        raise HallmarkError(
            "the commit has no boot loader for UEFI",
            where=" or ".join(f"/{place}" for place in _EFI_PLACES),
            why="a generation 2 virtual machine boots by it",
            hint="take a commit with shim-x64 and grub2-efi-x64, or set disk.generations to [1]",
        )
    # FAT knows neither owners nor labels, and no commit's times: what is copied is data.
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    if not (target / plan.bootloader.vendor).is_dir():
        raise HallmarkError(
            f"the commit has no directory EFI/{plan.bootloader.vendor}",
            where=source.relative_to(deployment),
            why="the signed loader reads its configuration there",
            hint=f"set bootloader.vendor to one of {', '.join(sorted(p.name for p in target.iterdir()))}",
        )
    for directory in sorted(target.iterdir()):
        if list(directory.glob("grub*.efi")):
            (directory / "grub.cfg").write_text(bootfiles.esp_cfg(plan))


def _label(sysroot: Path, deployment: Path) -> None:
    """SELinux labels of what no commit has: without one a confined program may not even look."""
    like = deployment / "usr"
    try:
        end = b"\0" if os.getxattr(like, LABEL).endswith(b"\0") else b""
    except OSError:  # no such attribute: the tree isn't labelled
        return
    os.setxattr(sysroot, LABEL, b"system_u:object_r:root_t:s0" + end)
    for directory, names, files in os.walk(sysroot):
        inside = Path(directory)
        if inside == deployment:
            names.clear()
            continue
        for name in (*names, *files):
            path = inside / name
            if LABEL in os.listxattr(path, follow_symlinks=False):
                continue
            parts = path.relative_to(sysroot).parts
            if parts[:2] == ("ostree", "deploy") and len(parts) > 2:
                parts = (*parts[:2], "*", *parts[3:])
            places = ("/".join(parts[:length]) for length in range(len(parts), -1, -1))
            kind = next(_TYPES[place] for place in places if place in _TYPES)
            os.setxattr(path, LABEL, f"system_u:object_r:{kind}:s0".encode() + end, follow_symlinks=False)


def _main(text: str) -> None:
    _deploy(_Job(**json.loads(text)))


if __name__ == "__main__":
    sys.exit(apart.serve(_main))
