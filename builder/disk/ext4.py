"""An ext4 filesystem inside the disk file, filled from a directory: no mount, the same bytes every time.

``mke2fs -d`` copies data, owners, modes, modification times and extended attributes. Left over are each
inode's change and access times, which it takes from the directory and so from the clock; debugfs sets them
afterwards, in one run for all inodes (0.2 s for 17 000). e2fsprogs before 1.47.1 knows no SOURCE_DATE_EPOCH;
E2FSPROGS_FAKE_TIME sets every time that the programs take from the clock themselves.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

from builder.disk.contents import BLOCK
from builder.errors import CommandFailed, HallmarkError
from builder.run import run

__all__ = ["INODE_RATIO", "RESERVED_PERCENT", "Ext4", "features_for", "make", "used_inodes"]

#: Bytes of filesystem for each inode (mke2fs.conf of Enterprise Linux).
INODE_RATIO = 16384
#: What ext4 keeps for root; an image that needs it is full at its first boot.
RESERVED_PERCENT = 5
_SUPERBLOCK = 1024
#: Flags of an inode (linux/fs/ext4/ext4.h): a new directory has the first only.
_EXTENTS, _IMMUTABLE = 0x80000, 0x10
#: What Enterprise Linux's mke2fs switches on, by its major release; the host's own defaults don't matter
#: then.
_FEATURES = {
    7: "has_journal,extent,huge_file,flex_bg,uninit_bg,dir_nlink,extra_isize,64bit",
    8: "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize",
}
_CONFIG = """[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
blocksize = {block}
inode_size = 256
inode_ratio = {ratio}
[fs_types]
ext4 = {{
  features = {features}
}}
"""


@dataclass(frozen=True, slots=True)
class Ext4:
    """A filesystem to make: where (``offset`` and ``size`` in bytes), its identity and its features."""

    offset: int
    size: int
    uuid: UUID
    label: str
    features: str


def features_for(major: int) -> str:
    """The feature set that release ``major`` of Enterprise Linux, its kernel and its GRUB know."""
    return _FEATURES[max(release for release in _FEATURES if release <= max(major, min(_FEATURES)))]


def make(
    disk: Path,
    spec: Ext4,
    *,
    tree: Path,
    timestamp: int,
    work: Path,
    log: Path,
    immutable: Sequence[str] = (),
) -> None:
    """Make the filesystem in the file ``disk`` and fill it with the directory ``tree``.

    :param timestamp: seconds since 1970: creation, change and access time of everything.
    :param work: a directory for the configuration file.
    :param immutable: directories of the tree that get the immutable attribute (chattr(1), ``+i``).
    :raises HallmarkError: the files don't fit, or a program failed.
    """
    config = work / "mke2fs.conf"
    config.write_text(_CONFIG.format(block=BLOCK, ratio=INODE_RATIO, features=spec.features))
    # Sorted directories need the C locale; mke2fs reads the clock where this variable is not set.
    env = {"E2FSPROGS_FAKE_TIME": str(timestamp), "MKE2FS_CONFIG": str(config), "LC_ALL": "C", "TZ": "UTC"}
    seed = uuid5(spec.uuid, "directory hash seed")
    # The guest zeroes a lazily made inode table at its first boot: 1.5 % of a cloud disk for nothing.
    # The journal may stay unwritten: a hole reads as zeros.
    eager = "lazy_itable_init=0,lazy_journal_init=1"
    options = f"offset={spec.offset},hash_seed={seed},root_owner=0:0,{eager}"
    identity = ("-U", str(spec.uuid), "-L", spec.label, "-m", str(RESERVED_PERCENT))
    command = ("mke2fs", "-q", "-F", "-t", "ext4", *identity, "-E", options, "-d", tree, disk)
    try:
        run((*command, f"{spec.size // 1024}k"), env=env, log_file=log)
    except CommandFailed as error:
        if "Could not allocate" in error.output:
            raise HallmarkError(
                f"the files of {spec.label} don't fit into {spec.size >> 20} MiB",
                where=log,
                hint="raise disk.size_mib (or disk.boot_mib for /boot) in the recipe",
                details=error.details,
            ) from None
        if "No space left on device" in error.output:
            raise HallmarkError(
                "No space left on device",
                where=disk.parent,
                why=f"the filesystem {spec.label} is being written there",
                hint="free space there, or use another --build-dir",
            ) from None
        raise
    _settle(disk, spec, tree=tree, timestamp=timestamp, immutable=immutable, env=env)


def used_inodes(disk: Path, offset: int) -> Iterator[int]:
    """The inode numbers in use, from 11 (the first that isn't reserved) on.

    In a filesystem that mke2fs just filled, each group's inodes are in use from its first one on without a
    gap.
    """
    with disk.open("rb") as stream:
        superblock = os.pread(stream.fileno(), 1024, offset + _SUPERBLOCK)
        (total,) = struct.unpack_from("<I", superblock, 0)
        (per_group,) = struct.unpack_from("<I", superblock, 40)
        (size,) = struct.unpack_from("<H", superblock, 254)
        size = size or 32
        groups = total // per_group
        table = os.pread(stream.fileno(), groups * size, offset + BLOCK)
    for group in range(groups):
        base = group * size
        (free,) = struct.unpack_from("<H", table, base + 14)
        if size >= 64:
            free |= struct.unpack_from("<H", table, base + 46)[0] << 16
        first = group * per_group + 1
        yield from range(max(11, first), first + per_group - free)


def _settle(
    disk: Path, spec: Ext4, *, tree: Path, timestamp: int, immutable: Sequence[str], env: dict[str, str]
) -> None:
    status = tree.lstat()
    lines = [
        # mke2fs gives the root directory 0755 whatever the source's mode is.
        f"sif <2> mode 0{status.st_mode:o}",
        f"sif <2> uid {status.st_uid}",
        f"sif <2> gid {status.st_gid}",
    ]
    for inode in used_inodes(disk, spec.offset):
        lines += (f"sif <{inode}> ctime @{timestamp}", f"sif <{inode}> atime @{timestamp}")
    lines += [f'sif "/{path}" flags {_EXTENTS | _IMMUTABLE:#x}' for path in immutable]
    script = "\n".join(lines) + "\n"
    result = run(("debugfs", "-w", "-f", "/dev/stdin", f"{disk}?offset={spec.offset}"), env=env, stdin=script)
    # debugfs ends with status 0 whatever happens; what it complains about goes to stderr, behind its version.
    complaints = [line for line in result.stderr.splitlines() if not line.startswith("debugfs ")]
    if complaints:
        raise HallmarkError("debugfs cannot set the files' times", where=disk, details=complaints[:10])
