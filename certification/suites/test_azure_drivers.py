"""Drivers that Azure's machine types need, and who signed the boot chain."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.parse import binaries

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest


def _in_kernels(guest: Guest, check: Checks, wanted: list[str]) -> None:
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")
    for kernel in guest.kernels:
        missing = [module for module in wanted if not kernel.has(module)]
        check.empty(f"modules missing in {kernel.version}", observed=missing)
    off = [
        f"{module} ({guest.disabled_modules[module]})"
        for module in wanted
        if module in guest.disabled_modules
    ]
    check.empty("modules disabled by", observed=off)


@requirement("azure.accelnet-drivers")
def test_accelerated_network(guest: Guest, facts: Facts, check: Checks) -> None:
    _in_kernels(guest, check, facts.modules("accelerated_network"))


@requirement("azure.mana-driver")
def test_mana(guest: Guest, facts: Facts, check: Checks) -> None:
    _in_kernels(guest, check, facts.modules("mana"))


@requirement("azure.kernel-modules-vfat-udf")
def test_provisioning_media(guest: Guest, facts: Facts, check: Checks) -> None:
    _in_kernels(guest, check, facts.modules("provisioning"))


def _in_ramdisks(guest: Guest, check: Checks, wanted: list[str]) -> None:
    kernels = {kernel.version: kernel for kernel in guest.kernels}
    disks = [disk for disk in guest.initramfs_files if disk.kind == "main"]
    check.true("initramfs files", observed=bool(disks), expected="at least one", otherwise="none")
    for disk in disks:
        kernel = kernels.get(disk.version)
        builtin = kernel.builtin if kernel is not None else frozenset()
        modules = guest.initramfs(disk.path).modules().get(disk.version, frozenset())
        missing = [module for module in wanted if module not in modules and module not in builtin]
        check.empty(f"drivers missing in {disk.path}", observed=missing)


@requirement("azure.nvme-initramfs")
def test_nvme(guest: Guest, facts: Facts, check: Checks) -> None:
    _in_ramdisks(guest, check, facts.modules("nvme"))
    # The next initramfs must have them too: named, or generic (then dracut takes every block driver).
    lines = "\n".join(content for _path, content in guest.dracut_configuration)
    generic = 'hostonly="no"' in lines or "hostonly=no" in lines
    check.true(
        "kept for later kernels",
        observed="nvme" in lines or generic,
        otherwise="dracut is host-only and nvme not named",
    )


@requirement("azure.kernel-builtin-or-initramfs-storage")
def test_path_to_root(guest: Guest, facts: Facts, check: Checks) -> None:
    wanted = facts.modules("storage")
    root = next((mount for mount in guest.fstab if mount.target == "/"), None)
    if check.true("fstab names the root filesystem", observed=root is not None) and root is not None:
        wanted = [*wanted, root.type]
        wanted += ["dm_mod"] if root.source.startswith("/dev/mapper/") else []
    _in_ramdisks(guest, check, wanted)


@requirement("azure.secureboot-chain-offline")
def test_signatures(guest: Guest, facts: Facts, check: Checks) -> None:
    shims = guest.glob("/boot/efi/EFI/BOOT/BOOT*64.EFI") + guest.glob("/boot/efi/EFI/*/shim*64.efi")
    check.true("shim", observed=bool(shims), expected=", ".join(shims) or "BOOTX64.EFI", otherwise="none")
    for path in shims:
        check.true(
            f"{path} is signed by Microsoft",
            observed=_signed(guest, path, ["Microsoft"]),
            otherwise=_names(guest, path),
        )
    grubs = guest.glob("/boot/efi/EFI/*/grub*64.efi")
    check.true("GRUB", observed=bool(grubs), expected=", ".join(grubs) or "grubx64.efi", otherwise="none")
    kernels = [kernel.images[0] for kernel in guest.kernels]
    check.true("kernels", observed=bool(kernels), expected=", ".join(kernels) or "vmlinuz", otherwise="none")
    signers = facts.secure_boot_signers
    for path in [*grubs, *kernels]:
        check.true(
            f"{path} is signed by {' or '.join(signers)}",
            observed=_signed(guest, path, signers),
            otherwise=_names(guest, path),
        )
    originals = {entry.sha256 for entry in guest.inventory if entry.sha256 and entry.path in guest.owners}
    copies = [
        path
        for path in [*shims, *grubs]
        if (found := guest.inventory.get(path)) and found.sha256 not in originals
    ]
    check.empty(
        "EFI programs that no package has",
        observed=[posixpath.basename(path) + f" ({path})" for path in copies],
    )


def _signers(guest: Guest, path: str) -> list[tuple[str, ...]]:
    try:
        return binaries.pe_signers(guest.fetch(path).read_bytes())
    except ValueError:
        return []


def _signed(guest: Guest, path: str, words: list[str]) -> bool:
    return any(word in name for names in _signers(guest, path) for name in names for word in words)


def _names(guest: Guest, path: str) -> str:
    return "; ".join(", ".join(names) for names in _signers(guest, path)) or "not signed"
