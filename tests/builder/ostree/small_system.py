"""A root filesystem that is small and still has all that an ostree commit is made of, and a plan for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from builder.recipe import find, load, plan
from builder.recipe.model import Plan
from builder.run import run
from builder.workspace import PROJECT

__all__ = ["KERNEL", "SECRET_KEY", "rootfs", "small_plan", "write_tree"]

KERNEL = "6.1.0-1"
SECRET_KEY = (PROJECT / "images/sample-distribution/keys/test-secret-key.asc").read_text()
#: Every file by its path: its text, or "->target" for a link; a path ending in / is a directory.
_FILES = {
    "boot/efi/EFI/BOOT/BOOTX64.EFI": "shim",
    "boot/efi/EFI/debian/grubx64.efi": "grub",
    f"boot/initramfs-{KERNEL}.img": "initramfs",
    f"boot/vmlinuz-{KERNEL}": "kernel",
    "bin": "->usr/bin",
    "dev/": "",
    "etc/hostname": "small\n",
    "etc/selinux/semanage.conf": "module-store = direct\nstore-root = /var/lib/selinux\n",
    "etc/selinux/targeted/seusers": "root:root\n",
    "home/": "",
    "lib": "->usr/lib",
    "lib64": "->usr/lib64",
    "opt/tool/bin": "tool",
    "proc/": "",
    "root/.bashrc": "alias ll='ls -l'\n",
    "run/": "",
    "sbin": "->usr/sbin",
    "sys/": "",
    "tmp/": "",
    "usr/bin/true": "#!/bin/sh\n",
    f"usr/lib/modules/{KERNEL}/vmlinuz": "kernel",
    "usr/lib/os-release": 'ID=small\nVERSION_ID="9"\nPRETTY_NAME="Small 9"\n',
    "usr/lib/rpm/macros.d/macros.dbpath": "%_dbpath /var/lib/rpm\n",
    "usr/lib/tmpfiles.d/base.conf": "d /var/log 0755 root root -\n",
    "usr/lib64/": "",
    "usr/local/bin/": "",
    "usr/sbin/": "",
    "var/lib/rpm/rpmdb.sqlite": "packages",
    "var/lib/selinux/targeted/active/policy": "modules",
    "var/lib/state/map": "content",
    "var/log/messages": "",
    "var/run": "->../run",
}


def write_tree(root: Path, **changes: str | None) -> Path:
    """The files below ``root``; ``changes`` replaces their content, or leaves them out."""
    root.mkdir()
    for name, content in {**_FILES, **changes}.items():
        path = root / name
        if content is None:
            continue
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_text(content)
    (root / "var/log/messages").chmod(0o600)
    return root


def rootfs(directory: Path, **changes: str | None) -> Path:
    """The same as a tar, owned by root, labelled as SELinux's targeted policy would."""
    tree = write_tree(directory / "tree", **changes)
    for path in (tree, *tree.rglob("*")):
        kind = "root_t" if path == tree else f"{path.relative_to(tree).parts[0]}_t"
        os.setxattr(
            path, "security.selinux", f"system_u:object_r:{kind}:s0\0".encode(), follow_symlinks=False
        )
    tar = directory / "rootfs.tar"
    run(("tar", "-C", tree, "--xattrs", "--xattrs-include=*", "--sort=name", "--mtime=@0", "-cf", tar, "."))
    shutil.rmtree(tree)
    return tar


def small_plan(**changes: object) -> Plan:
    """The sample's plan for generation 2, whose boot loader needs no program of the tree."""
    made = plan(load(find("sample-atomic-9")), version="9.20261122.0", source_date_epoch=1_795_305_600)
    assert made.ostree is not None
    return made.model_copy(
        update={
            "disk": made.disk.model_copy(update={"generations": (2,)}),
            "ostree": made.ostree.model_copy(update=changes),
        }
    )
