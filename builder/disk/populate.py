"""Fill the ext4 filesystems of a disk from the root filesystem's tar. Runs as a program of its own.

It runs in its own mount namespace (``unshare --mount``) and unpacks into a tmpfs there, four times faster
than into most disk filesystems; however it ends, the kernel takes the memory back and nothing stays mounted.
Where memory is short, it unpacks into the work directory instead.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from builder import apart
from builder.disk.contents import ROOT_LABEL
from builder.disk.ext4 import Ext4, make
from builder.run import run

__all__ = ["MOUNT_POINTS", "Job", "fill", "main", "run_apart", "unpack"]

#: Directories that a running system mounts over; the tar may lack them.
MOUNT_POINTS = (
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("run", 0o755),
    ("boot", 0o755),
    ("boot/efi", 0o700),
)
_LOST_FOUND_LABEL = "system_u:object_r:lost_found_t:s0"
_SELINUX = "security.selinux"
_TAR = ("tar", "--extract", "--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*")


@dataclass(frozen=True, slots=True)
class Job:
    """What to do: fill ``disk`` from ``tar``; ``memory`` in bytes is the size of the tmpfs, 0 to use
    ``work``. ``immutable``: directories of the root filesystem in which nothing can be made or removed."""

    tar: Path
    disk: Path
    root: Ext4
    boot: Ext4
    timestamp: int
    work: Path
    log: Path
    memory: int
    immutable: tuple[str, ...] = ()

    def to_json(self) -> str:
        """For the program's standard input."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What ``to_json`` wrote."""
        data = json.loads(text)
        systems = [Ext4(**{**data[name], "uuid": UUID(data[name]["uuid"])}) for name in ("root", "boot")]
        return cls(
            tar=Path(data["tar"]),
            disk=Path(data["disk"]),
            root=systems[0],
            boot=systems[1],
            timestamp=data["timestamp"],
            work=Path(data["work"]),
            log=Path(data["log"]),
            memory=data["memory"],
            immutable=tuple(data["immutable"]),
        )


def fill(job: Job) -> None:
    """Unpack and make both filesystems.

    :raises HallmarkError: a program failed or the files don't fit.
    """
    tree = job.work / "tree"
    tree.mkdir(mode=0o755)
    apart.mount_memory(tree, job.memory)
    root, boot = unpack(job.tar, tree, timestamp=job.timestamp, log=job.log)
    for spec, source, immutable in ((job.root, root, job.immutable), (job.boot, boot, ())):
        make(
            job.disk,
            spec,
            tree=source,
            timestamp=job.timestamp,
            work=job.work,
            log=job.log,
            immutable=immutable,
        )


def unpack(tar: Path, tree: Path, *, timestamp: int, log: Path) -> tuple[Path, Path]:
    """Unpack the tar below ``tree`` and part it into what becomes / and what becomes /boot.

    The EFI system partition's files are dropped: they are read from the tar itself. ``timestamp`` is the
    modification time of the directories that are added.
    """
    root, boot = tree / "root", tree / "boot"
    root.mkdir()
    run((*_TAR, "--directory", root, "--file", tar), log_file=log)
    for name, mode in MOUNT_POINTS:
        path = root / name
        if not path.is_dir():
            with _unchanged_time(path.parent):
                _add_directory(path, mode=mode, label=ROOT_LABEL, like=root, timestamp=timestamp)
    with _unchanged_time(root / "boot/efi"):
        for item in sorted((root / "boot/efi").iterdir()):
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
    with _unchanged_time(root):
        _part(root / "boot", boot)
    for filesystem in (root, boot):
        if not (filesystem / "lost+found").is_dir():
            with _unchanged_time(filesystem):
                lost = filesystem / "lost+found"
                _add_directory(lost, mode=0o700, label=_LOST_FOUND_LABEL, like=root, timestamp=timestamp)
    return root, boot


@contextmanager
def _unchanged_time(path: Path) -> Iterator[None]:
    """What happens to the directory's entries doesn't change its modification time."""
    before = path.stat().st_mtime_ns
    yield
    os.utime(path, ns=(before, before))


def _add_directory(path: Path, *, mode: int, label: str, like: Path, timestamp: int) -> None:
    """Make a directory; it gets the SELinux label when ``like`` has one, with the same end (NUL or none)."""
    path.mkdir()
    path.chmod(mode)
    try:
        present = os.getxattr(like, _SELINUX)
    except OSError:  # no such attribute: the tree isn't labelled
        present = b""
    if present:
        os.setxattr(path, _SELINUX, label.encode() + (b"\0" if present.endswith(b"\0") else b""))
    os.utime(path, (timestamp, timestamp))


def _part(directory: Path, to: Path) -> None:
    """Move a directory away and leave an empty one that looks the same, to be mounted over."""
    directory.rename(to)
    directory.mkdir()
    status = to.stat()
    directory.chmod(status.st_mode & 0o7777)
    os.chown(directory, status.st_uid, status.st_gid)
    for name in os.listxattr(to):
        os.setxattr(directory, name, os.getxattr(to, name))
    os.utime(directory, ns=(status.st_mtime_ns, status.st_mtime_ns))


def run_apart(job: Job) -> None:
    """Do the job in a process with a mount namespace of its own.

    :raises HallmarkError: as ``fill`` raises it, in the same words.
    """
    apart.call(__name__, job.to_json(), what="filling the filesystems", log=job.log)


def main() -> int:
    """Read a job from standard input and do it."""
    return apart.serve(lambda text: fill(Job.from_json(text)))


if __name__ == "__main__":
    sys.exit(main())
