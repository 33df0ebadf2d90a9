"""What the root filesystem's tar holds, as far as the disk needs to know before anything is written.

One pass over the tar's headers: how much each filesystem will take, the files of the EFI system partition,
and the two pieces of BIOS boot code.
"""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import HallmarkError

__all__ = ["BLOCK", "BOOT_IMG", "CORE_IMG", "ROOT_LABEL", "Contents", "EspFile", "Usage", "scan"]

BLOCK = 4096
BOOT_IMG = "boot/grub2/i386-pc/boot.img"
CORE_IMG = "boot/grub2/i386-pc/core.img"
#: The SELinux label of /, and so of a mount point that the tar doesn't hold.
ROOT_LABEL = "system_u:object_r:root_t:s0"
_ESP = "boot/efi"
_DEPLOYMENT = re.compile(r"ostree/deploy/[^/]+/deploy/[0-9a-f]{64}\.\d+")
_SELINUX = "SCHILY.xattr.security.selinux"
_XATTR = "SCHILY.xattr."
#: Bytes for attributes in a 256-byte ext4 inode, behind 160 bytes of fields and a 4-byte magic number.
_INODE_ATTRIBUTES = 92
#: An ext4 inode maps four extents of 128 MiB itself; a larger file needs a block for its extent tree.
_EXTENTS_IN_INODE = 4 * (128 << 20)


@dataclass(slots=True)
class Usage:
    """What a tree of files takes on a filesystem with 4 KiB blocks: ``inodes``, and ``blocks`` for data,
    directories and attributes."""

    inodes: int = 0
    blocks: int = 0
    directories: dict[str, int] = field(default_factory=dict)

    def add(self, member: tarfile.TarInfo, parent: str, name: str) -> None:
        """Count one member of the tar."""
        # A directory entry is 8 bytes and the name, in units of 4.
        self.directories[parent] = self.directories.get(parent, 24) + 8 + -(-len(name.encode()) // 4) * 4
        if member.islnk():
            return
        self.inodes += 1
        if member.isreg():
            self.blocks += -(-member.size // BLOCK) + (member.size > _EXTENTS_IN_INODE)
        elif member.issym():
            self.blocks += len(member.linkname.encode()) > 59
        if _attribute_bytes(member) > _INODE_ATTRIBUTES:
            self.blocks += 1

    @property
    def total_blocks(self) -> int:
        """Blocks for everything, each directory's own included."""
        return self.blocks + sum(-(-size // BLOCK) for size in self.directories.values())


@dataclass(frozen=True, slots=True)
class EspFile:
    """A file of the EFI system partition; ``path`` is relative to it, with slashes."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """The tar in numbers. ``labelled``: the root directory carries an SELinux label, so every file has to.

    ``deployments`` are the roots of ostree deployments.
    """

    root: Usage
    boot: Usage
    esp: tuple[EspFile, ...]
    boot_img: bytes | None
    core_img: bytes | None
    labelled: bool
    deployments: tuple[str, ...] = ()


def scan(tar: Path) -> Contents:
    """Read the headers of ``rootfs.tar``.

    :raises HallmarkError: the file is missing, no tar, or cut short.
    """
    root, boot = Usage(), Usage()
    esp: list[EspFile] = []
    code: dict[str, bytes] = {}
    deployments: list[str] = []
    labelled = False
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                path = member.name.removeprefix("./").strip("/")
                if path in ("", "."):
                    labelled = _SELINUX in member.pax_headers
                    continue
                if path.startswith(_ESP + "/"):
                    if member.isreg():
                        esp.append(EspFile(path.removeprefix(_ESP + "/"), _read(archive, member)))
                    continue
                if path in (BOOT_IMG, CORE_IMG):
                    code[path] = _read(archive, member)
                if member.isdir() and _DEPLOYMENT.fullmatch(path):
                    deployments.append(path)
                parent, _, name = path.rpartition("/")
                (boot if path.startswith("boot/") else root).add(member, parent, name)
    except FileNotFoundError:
        raise HallmarkError(
            "there is no root filesystem tar", where=tar, hint="run the rootfs stage first"
        ) from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise HallmarkError(
            f"cannot read the root filesystem's tar: {error}", where=tar, hint="delete it and build again"
        ) from None
    if not root.inodes:
        raise HallmarkError("the root filesystem's tar is empty", where=tar, hint="delete it and build again")
    esp.sort(key=lambda item: item.path)
    code_files = code.get(BOOT_IMG), code.get(CORE_IMG)
    return Contents(root, boot, tuple(esp), *code_files, labelled, tuple(deployments))


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise tarfile.TarError(f"{member.name} is not a file")
    data = stream.read()
    if len(data) != member.size:
        raise tarfile.ReadError(f"unexpected end of data in {member.name}")
    return data


def _attribute_bytes(member: tarfile.TarInfo) -> int:
    """How much room a member's extended attributes take in an inode: 16 bytes each, name and value in units
    of 4."""
    total = 0
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR):
            name = key.removeprefix(_XATTR).partition(".")[2]
            total += 16 + -(-len(name) // 4) * 4 + -(-len(value.encode("utf-8", "surrogateescape")) // 4) * 4
    return total
