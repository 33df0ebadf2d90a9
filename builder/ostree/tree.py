"""A root filesystem becomes the tree of an ostree commit: the same files in the places where a system that is
replaced as a whole needs them.

Sources: ostree's documentation ("Adapting existing mainstream distributions", "Deployments") and what
rpm-ostree does to a tree (its book, "Treefile reference" and "postprocess").
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from builder.errors import HallmarkError

__all__ = ["BOOT_DIRECTORY", "LABEL", "RPMDB", "convert", "copy_label", "tmpfiles_for"]

LABEL = "security.selinux"
#: Where a tree keeps what belongs to /boot: a deployment has none of its own.
BOOT_DIRECTORY = "usr/lib/ostree-boot"
#: The package database is part of the tree: it changes with it.
RPMDB = "usr/share/rpm"
_MERGED = ("bin", "sbin", "lib", "lib64")
#: Directories of / whose content is the machine's own, and what becomes of them below /var (rpm-ostree).
_STATE = {
    "home": "var/home",
    "root": "var/roothome",
    "opt": "var/opt",
    "srv": "var/srv",
    "mnt": "var/mnt",
    "usr/local": "var/usrlocal",
}
_LINKS = {"media": "run/media", "ostree": "sysroot/ostree"}
_API = {"sysroot": 0o755, "boot": 0o755, "var": 0o755, "tmp": 0o1777}
_FACTORY = "usr/share/factory"
_POLICY_STORE = "var/lib/selinux"
_TMPFILES = "usr/lib/tmpfiles.d/ostree-var.conf"


def convert(root: Path, *, rpmdb: str) -> str:
    """Change the tree below ``root`` in place; returns the version of its kernel.

    Owners, modes, SELinux labels and other attributes stay; what moves takes the label of the place it moves
    to.

    :param rpmdb: the path of the package database in the tree as it comes.
    :raises HallmarkError: /usr isn't merged, there is not exactly one kernel, or it has no initramfs.
    """
    _check_merged(root)
    kernel = _settle_kernel(root)
    _settle_boot(root)
    _settle_policy(root)
    (root / "etc").rename(root / "usr/etc")
    _settle_packages(root, rpmdb.lstrip("/"))
    for name, state in _STATE.items():
        _move_state(root, name, state)
    for name, target in _LINKS.items():
        _replace_by_link(root / name, target)
    _settle_var(root)
    for name, mode in _API.items():
        path = root / name
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    _label_rest(root)
    return kernel


def tmpfiles_for(root: Path, *, known: frozenset[str]) -> Iterator[str]:
    """Lines of tmpfiles.d(5) that make what the tree has below /var, parents first.

    Files with content are expected in the factory directory, see ``convert``.

    :param known: paths that other files of tmpfiles.d make.
    """
    var = root / "var"
    for directory, names, files in os.walk(var):
        names.sort()
        for name in sorted([*names, *files]):
            path = Path(directory, name)
            place = f"/{path.relative_to(root).as_posix()}"
            if place in known:
                continue
            status = path.lstat()
            owner = f"{stat.S_IMODE(status.st_mode):04o} {status.st_uid} {status.st_gid}"
            if path.is_symlink():
                yield f"L {place} - - - - {path.readlink()}"
            elif path.is_dir():
                yield f"d {place} {owner} -"
            elif path.is_file() and status.st_size:
                yield f"C {place} {owner} - /{_FACTORY}{place}"
            elif path.is_file():
                yield f"f {place} {owner} -"


def copy_label(source: Path, target: Path) -> None:
    """Give ``target`` the SELinux label of ``source``; without one nothing happens."""
    label = _label(source)
    if label:
        os.setxattr(target, LABEL, label, follow_symlinks=False)


def _label(path: Path) -> bytes:
    try:
        return os.getxattr(path, LABEL, follow_symlinks=False)
    except OSError:  # no such attribute: the tree isn't labelled
        return b""


def _label_factory(root: Path) -> None:
    """The policy may have a type of its own for the factory directory."""
    factory = root / _FACTORY
    end = b"\0" if _label(factory).endswith(b"\0") else b""
    for contexts in (root / "usr/etc/selinux").glob("*/contexts/files/file_contexts"):
        rule = re.search(rf"^/{_FACTORY}\(/\.\*\)\?\s+(\S+)$", contexts.read_text(), re.M)
        if rule and _label(factory):
            for path in (factory, *factory.rglob("*")):
                os.setxattr(path, LABEL, rule[1].encode() + end, follow_symlinks=False)


def _label_rest(root: Path) -> None:
    """What was made here takes the label of its directory."""
    if not _label(root):
        return
    for directory, names, files in os.walk(root):
        label = _label(Path(directory))
        for name in (*names, *files):
            path = Path(directory, name)
            if not _label(path):
                os.setxattr(path, LABEL, label, follow_symlinks=False)


def _relabel(tree: Path, like: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        copy_label(like, path)


def _check_merged(root: Path) -> None:
    for name in _MERGED:
        path = root / name
        if path.is_symlink() and path.readlink().as_posix().lstrip("/") == f"usr/{name}":
            continue
        if path.exists() or name != "lib64":
            raise HallmarkError(
                f"/{name} of the root filesystem is not a link to usr/{name}",
                where=root,
                why="an ostree commit has programs and libraries below /usr only, which is what it replaces",
                hint="compose from a distribution with a merged /usr (Enterprise Linux 7 or later)",
            )


def _settle_kernel(root: Path) -> str:
    """Kernel and initramfs into /usr/lib/modules, where ostree looks for them."""
    place = root / "usr/lib/modules"
    found = [
        path
        for path in sorted(place.iterdir() if place.is_dir() else ())
        if (path / "vmlinuz").exists() or (root / "boot" / f"vmlinuz-{path.name}").exists()
    ]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise HallmarkError(
            f"an ostree commit needs exactly one kernel; the root filesystem has {names}",
            where=place,
            why="a deployment boots the one below /usr/lib/modules",
            hint="install the package kernel once, and no other kernel",
        )
    (modules,) = found
    version = modules.name
    if not (modules / "vmlinuz").exists():
        (root / "boot" / f"vmlinuz-{version}").rename(modules / "vmlinuz")
    initramfs = root / "boot" / f"initramfs-{version}.img"
    if not initramfs.is_file():
        raise HallmarkError(
            f"the kernel {version} has no initramfs", where=root / "boot", hint="install dracut in the recipe"
        )
    initramfs.rename(modules / "initramfs.img")
    copy_label(modules / "vmlinuz", modules / "initramfs.img")
    return version


def _settle_boot(root: Path) -> None:
    """Keep the boot loader for UEFI with the tree; everything else in /boot is made where it is deployed."""
    boot = root / "boot"
    efi = boot / "efi/EFI"
    if efi.is_dir():
        kept = root / BOOT_DIRECTORY / "efi"
        kept.mkdir(parents=True)
        efi.rename(kept / "EFI")
        _relabel(root / BOOT_DIRECTORY, root / "usr/lib")
    for path in sorted(boot.iterdir()):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _settle_policy(root: Path) -> None:
    """The store of SELinux's modules goes to /etc/selinux, as in rpm-ostree's trees: /etc is merged at an
    update, /var isn't touched."""
    store = root / _POLICY_STORE
    configuration = root / "etc/selinux/semanage.conf"
    if not configuration.is_file():
        return
    for policy in sorted(store.iterdir() if store.is_dir() else ()):
        target = root / "etc/selinux" / policy.name
        for path in sorted(policy.iterdir()) if policy.is_dir() else ():
            _relabel(path.rename(target / path.name), target)
    shutil.rmtree(store, ignore_errors=True)
    lines = [
        line
        for line in configuration.read_text().splitlines()
        if line.partition("=")[0].strip() != "store-root"
    ]
    configuration.write_text("\n".join([*lines, "store-root=/etc/selinux"]) + "\n")


def _settle_packages(root: Path, rpmdb: str) -> None:
    source, target = root / rpmdb, root / RPMDB
    if source == target or not source.is_dir():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    _relabel(target, root / "usr/share")
    source.symlink_to(posixpath.relpath(f"/{RPMDB}", f"/{posixpath.dirname(rpmdb)}"))
    macros = root / "usr/lib/rpm/macros.d"
    if macros.is_dir():
        text = f"# The package database is part of the tree.\n%_dbpath /{RPMDB}\n"
        (macros / "macros.ostree").write_text(text)


def _move_state(root: Path, name: str, state: str) -> None:
    source, target = root / name, root / state
    if source.is_symlink():
        return
    if source.is_dir():
        if target.is_dir():
            target.rmdir()  # the base packages' empty one
        source.rename(target)
    else:
        target.mkdir(parents=True, exist_ok=True)
    depth = name.count("/")
    _replace_by_link(source, "../" * depth + state)
    if name == "home":
        copy_label(target, source)  # policies have one type for it, whatever it is


def _replace_by_link(path: Path, target: str) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        path.rmdir()
    path.symlink_to(target)


def _settle_var(root: Path) -> None:
    """Empty /var: ostree leaves a machine's /var alone, so what is needed there is made at every boot."""
    var = root / "var"
    rules = [*(root / "usr/lib/tmpfiles.d").glob("*.conf"), *(root / "usr/etc/tmpfiles.d").glob("*.conf")]
    known = frozenset(
        fields[1].rstrip("/")
        for rule in rules
        for line in rule.read_text(errors="replace").splitlines()
        if len(fields := line.split()) > 1
        and not line.startswith("#")
        and "%" not in fields[1]
        # These empty or remove something, they make nothing.
        and fields[0][0] in "fFdDvqQLpcbC"
    )
    lines = list(tmpfiles_for(root, known=known))
    for line in lines:
        if line.startswith("C "):
            path = line.split()[1]
            target = root / f"{_FACTORY}{path}"
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / path.lstrip("/")).rename(target)
    factory = root / _FACTORY
    if factory.is_dir():
        _relabel(factory, root / "usr/share")
        _label_factory(root)
    if lines:
        file = root / _TMPFILES
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# What the packages of this tree have below /var.\n" + "\n".join(lines) + "\n")
    label = _label(var)
    shutil.rmtree(var)
    var.mkdir()
    if label:
        os.setxattr(var, LABEL, label)
