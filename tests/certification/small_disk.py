"""A small disk: a real VHD with a GPT, an ESP and, where it is wanted, an ext4 root filesystem."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from uuid import UUID

from builder.image import vhd

__all__ = ["MIB", "ROOT_UUID", "make_disk", "sh"]

MIB = 1 << 20
ROOT_UUID = "6f2bb1c4-4f0e-4c8e-9a51-0d5f6f1d2a10"


def sh(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a tool of the host; its output appears only when it fails."""
    done = subprocess.run([os.fspath(a) for a in argv], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def make_disk(path: Path, *, root: Path | None, root_mib: int = 64) -> None:
    """A raw disk: GPT, ESP (FAT16, 16 MiB) with a loader, ext4 root from ``root``; then the VHD footer."""
    size = (root_mib + 20) * MIB
    with path.open("wb") as stream:
        stream.truncate(size)
    sh(
        "sgdisk",
        "-o",
        "-n",
        "1:2048:+1M",
        "-t",
        "1:ef02",
        "-n",
        "2:4096:+16M",
        "-t",
        "2:ef00",
        "-c",
        "2:EFI System",
        "-n",
        f"3:36864:+{root_mib}M",
        "-t",
        "3:8300",
        "-c",
        "3:root",
        path,
    )
    esp = path.with_suffix(".esp")
    loader = path.with_suffix(".efi")
    loader.write_bytes(b"MZ" + bytes(70_000) + b"end of loader")
    with esp.open("wb") as stream:
        stream.truncate(16 * MIB)
    sh("mkfs.vfat", "-F", "16", "-i", "CAFEF00D", "-n", "EFI", esp)
    sh("mmd", "-i", esp, "::/EFI", "::/EFI/BOOT", "::/EFI/a long directory name")
    sh("mcopy", "-i", esp, loader, "::/EFI/BOOT/BOOTX64.EFI")
    sh("mcopy", "-i", esp, loader, "::/EFI/a long directory name/grub.cfg")
    with path.open("r+b") as stream:
        stream.seek(2 * MIB)
        stream.write(esp.read_bytes())
    esp.unlink()
    loader.unlink()
    if root is not None:
        sh(
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-U",
            ROOT_UUID,
            "-d",
            root,
            "-E",
            f"offset={18 * MIB}",
            path,
            f"{root_mib}M",
        )
    vhd.write_footer(path, timestamp=1_780_000_000, unique_id=UUID("8d6c2f7e-52a5-4a3e-9d6e-3e3f6a0f7b11"))
