"""Writes into the filesystems of a disk image without starting anything: debugfs for ext4, mtools for FAT.

Milliseconds for what takes half a minute through an appliance. Both tools take the offset of a partition.
Works on a copy only: nothing here protects the file that it is given.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import HallmarkError
from builder.image.sparse import copy_data, data_segments
from builder.run import run
from certification.parse import text
from certification.parse.superblock import probe
from certification.views.format import ImageBytes

__all__ = ["Disk", "Stat"]

_PIECE = 8 << 20


@dataclass(frozen=True, slots=True)
class Stat:
    """A file: ``mode`` with the type bits, its owner and group, and its SELinux label or None."""

    mode: int
    uid: int
    gid: int
    label: str | None


class _Ext4:
    """An ext4 filesystem in a partition of ``length`` bytes at ``offset``."""

    def __init__(self, image: Path, offset: int, length: int) -> None:
        self._image, self._offset, self._length = image, offset, length
        self._device = f"{image}?offset={offset}"

    def run(self, *commands: str, write: bool = True) -> str:
        """Run debugfs commands; its output without the echo of the commands."""
        done = run(
            ["debugfs", *(["-w"] if write else []), "-f", "-", self._device],
            stdin="".join(f"{command}\n" for command in commands),
            env={"DEBUGFS_PAGER": "__none__", "LC_ALL": "C"},
        )
        # debugfs reports a failed command on stderr and goes on; its version is the only other line there.
        problems = [
            line for line in done.stderr.splitlines() if line.strip() and not line.startswith("debugfs 1.")
        ]
        if problems:
            raise HallmarkError("debugfs could not change the image", details=[*commands, *problems][:20])
        return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("debugfs: "))

    def stat(self, path: str) -> Stat | None:
        try:
            output = self.run(f"stat {path}", write=False)
            if "security.selinux (" in output:  # of a long value it shows the length only
                output += self.run(f"ea_get {path} security.selinux", write=False)
        except HallmarkError as error:
            if any("File not found" in line for line in error.details):
                return None
            raise
        mode = re.search(r"Type: (\S+)\s+Mode:\s+([0-7]+)", output)
        owner = re.search(r"User:\s*(\d+)\s+Group:\s*(\d+)", output)
        if mode is None or owner is None:
            raise HallmarkError(f"debugfs describes {path} in an unknown way", details=output.splitlines())
        kinds = {"regular": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
        context = re.search(r'security\.selinux \(\d+\) = "([^"\\]*)', output)
        label = context[1] if context is not None else None
        return Stat(
            kinds.get(mode[1], 0) | int(mode[2], 8),
            int(owner[1]),
            int(owner[2]),
            label,
        )

    def read(self, path: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="hallmark-mutant-") as directory:
            target = Path(directory) / "file"
            self.run(f"dump {path} {target}", write=False)
            return target.read_bytes()

    def write(self, path: str, data: bytes, found: Stat) -> None:
        steps = [f"rm {path}"] if self.stat(path) is not None else self._directories(path, found.label)
        with tempfile.NamedTemporaryFile(prefix="hallmark-mutant-") as source:
            source.write(data)
            source.flush()
            self.run(*steps, f"write {source.name} {path}", *self._attributes(path, found))

    def link(self, path: str, target: str, label: str | None) -> None:
        steps = [f"rm {path}"] if self.stat(path) is not None else self._directories(path, label)
        self.run(*steps, f"symlink {path} {target}", *self._labelled(path, label))

    def remove(self, path: str) -> None:
        self.run(f"rm {path}")

    def change(self, path: str, found: Stat) -> None:
        self.run(*self._attributes(path, found))

    def names(self, directory: str) -> list[str]:
        rows = [line.split("/") for line in self.run(f"ls -p {directory}", write=False).splitlines()]
        return sorted(row[5] for row in rows if len(row) > 5 and row[5] not in (".", ".."))

    def shrink(self, mib: int, *, work: Path) -> None:
        # resize2fs cuts a file off behind the filesystem: it gets the partition in a file of its own.
        with tempfile.NamedTemporaryFile(prefix="partition-", dir=work) as partition:
            partition.truncate(self._length)
            with self._image.open("rb") as image:
                for begin, end in data_segments(image.fileno(), self._offset + self._length):
                    for position in range(max(begin, self._offset), end, _PIECE):
                        piece = os.pread(image.fileno(), min(_PIECE, end - position), position)
                        os.pwrite(partition.fileno(), piece, position - self._offset)
            checked = run(["e2fsck", "-fy", partition.name], check=False, timeout=300)
            if checked.returncode > 1:  # 1: faults were mended
                raise HallmarkError(
                    "e2fsck can't mend the filesystem", details=checked.stdout.splitlines()[-5:]
                )
            done = run(["resize2fs", partition.name, f"{mib}M"], timeout=300)
            if "Nothing to do" in done.stdout + done.stderr:
                raise HallmarkError(f"the filesystem has {mib} MiB already")
            with self._image.open("r+b") as image:
                copy_data(Path(partition.name), image.fileno(), offset=self._offset)

    def _attributes(self, path: str, found: Stat) -> list[str]:
        fields = (("mode", f"{found.mode:#o}".replace("0o", "0")), ("uid", found.uid), ("gid", found.gid))
        return [*(f"sif {path} {name} {value}" for name, value in fields), *self._labelled(path, found.label)]

    @staticmethod
    def _labelled(path: str, label: str | None) -> list[str]:
        return [f'ea_set {path} security.selinux "{label}\\000"'] if label is not None else []

    def _directories(self, path: str, label: str | None) -> list[str]:
        """Commands that make the directories above ``path`` that are missing."""
        parent = posixpath.dirname(path)
        if self.stat(parent) is not None:
            return []
        return [*self._directories(parent, label), f"mkdir {parent}", *self._labelled(parent, label)]


class _Fat:
    """A FAT filesystem at ``offset`` bytes in a file; it knows no owners, modes and labels."""

    def __init__(self, image: Path, offset: int) -> None:
        self._device = f"{image}@@{offset}"

    def _run(self, program: str, *arguments: str) -> str:
        argv = [program, "-i", self._device, *arguments]
        return run(argv, env={"MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}, timeout=60).stdout

    def stat(self, path: str) -> Stat | None:
        listing = self._run("mdir", "-b", "-/", "::/")
        names = {line.removeprefix("::").rstrip("/").lower() for line in listing.splitlines()}
        return Stat(stat.S_IFREG | 0o700, 0, 0, None) if path.lower() in names else None

    def read(self, path: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="hallmark-mutant-") as directory:
            target = Path(directory) / "file"
            self._run("mcopy", f"::{path}", str(target))
            return target.read_bytes()

    def write(self, path: str, data: bytes, found: Stat) -> None:
        with tempfile.NamedTemporaryFile(prefix="hallmark-mutant-") as source:
            source.write(data)
            source.flush()
            self._run("mcopy", "-o", source.name, f"::{path}")

    def link(self, path: str, target: str, label: str | None) -> None:
        raise HallmarkError(f"{path} would be a symbolic link on a FAT filesystem")

    def remove(self, path: str) -> None:
        self._run("mdel", f"::{path}")

    def change(self, path: str, found: Stat) -> None:
        raise HallmarkError(f"{path} is on a FAT filesystem, which knows no owner and mode")


class Disk:
    """The guest's files in a disk image, as its fstab puts them together. Links are not followed.

    Of an ostree host, its deployment at / with its /var, and the physical root at /sysroot.
    A ``*`` in a path stands for the first match by name.

    :raises HallmarkError: there is no ext4 filesystem with an operating system.
    """

    def __init__(self, image: Path) -> None:
        view = ImageBytes(image)
        try:
            found = []
            for part in view.partitions:
                begin, length = part.offset, part.length

                def read(offset: int, size: int, begin: int = begin, length: int = length) -> bytes:
                    return view.read(begin + offset, max(0, min(size, length - offset)))

                filesystem = probe(read)
                if filesystem is not None:
                    found.append((filesystem, part))
        finally:
            view.close()
        ext4 = [(f.uuid, _Ext4(image, part.offset, part.length)) for f, part in found if f.type == "ext4"]
        root = next((fs for _, fs in ext4 if fs.stat("/usr/lib/os-release") is not None), None)
        host = next((fs for _, fs in ext4 if fs.stat("/ostree/deploy") is not None), None)
        deployment = ""
        if root is None and host is not None:
            state = f"/ostree/deploy/{next(iter(host.names('/ostree/deploy')), '')}"
            names = host.names(f"{state}/deploy")
            deployment = next((f"{state}/deploy/{name}" for name in names if f"{name}.origin" in names), "")
        if root is None and (host is None or not deployment):
            raise HallmarkError(
                "no ext4 filesystem of the image holds an operating system",
                where=image,
                why="mutants are written with debugfs, which knows no other filesystem",
            )
        by_uuid: dict[str, _Ext4 | _Fat] = {uuid.lower(): fs for uuid, fs in ext4}
        by_uuid |= {f.uuid.lower(): _Fat(image, part.offset) for f, part in found if f.type == "vfat"}
        # Mount point, filesystem, and the directory in it that is mounted there.
        self._mounts: list[tuple[str, _Ext4 | _Fat, str]] = []
        if root is not None:
            self._mounts.append(("", root, ""))
        elif host is not None:
            state = posixpath.dirname(posixpath.dirname(deployment))
            self._mounts += [("", host, deployment), ("/var", host, f"{state}/var"), ("/sysroot", host, "")]
        for mount in text.fstab(self.read("/etc/fstab").decode()):
            filesystem_there = by_uuid.get(mount.source.removeprefix("UUID=").lower())
            if mount.target != "/" and filesystem_there is not None:
                self._mounts.append((mount.target, filesystem_there, ""))
        self._mounts.sort(key=lambda item: -len(item[0]))

    def stat(self, path: str) -> Stat | None:
        """A file's attributes; None when there is none."""
        filesystem, inner = self._place(path)
        return filesystem.stat(inner)

    def read(self, path: str) -> bytes:
        """A regular file's content.

        :raises HallmarkError: there is none.
        """
        filesystem, inner = self._place(path)
        found = filesystem.stat(inner)
        if found is None or not stat.S_ISREG(found.mode):
            raise HallmarkError(f"the image has no regular file {path}")
        return filesystem.read(inner)

    def write(self, path: str, data: bytes, *, like: Stat | None = None) -> None:
        """Give a file its content; attributes are kept, or those of ``like``."""
        filesystem, inner = self._place(path)
        attributes = like or filesystem.stat(inner)
        if attributes is None:
            raise HallmarkError(f"the image has no file {path}")
        filesystem.write(inner, data, attributes)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link, labelled as what it replaces or as its directory."""
        filesystem, inner = self._place(path)
        filesystem.link(inner, target, self.label_for(path))

    def remove(self, path: str) -> None:
        """Delete a file or a link."""
        filesystem, inner = self._place(path)
        filesystem.remove(inner)

    def change(self, path: str, attributes: Stat) -> None:
        """Set mode, owner and label."""
        filesystem, inner = self._place(path)
        filesystem.change(inner, attributes)

    def label_for(self, path: str) -> str | None:
        """The label of what is at ``path``, or of the next directory above that exists."""
        while (found := self.stat(path)) is None and path != "/":
            path = posixpath.dirname(path)
        return found.label if found is not None else None

    def existing(self, places: Sequence[str]) -> str:
        """The first of ``places`` that exists.

        :raises HallmarkError: none does.
        """
        for path in places:
            if self.stat(path) is not None:
                return path
        raise HallmarkError(f"the image has none of {', '.join(places)}")

    def shrink(self, point: str, mib: int, *, work: Path) -> None:
        """Make the filesystem mounted at ``point`` smaller, to ``mib`` MiB; ``work`` is for a copy of it."""
        filesystem, inner = self._place(point)
        if inner != "/" or not isinstance(filesystem, _Ext4):
            raise HallmarkError(f"no ext4 filesystem is mounted at {point}")
        filesystem.shrink(mib, work=work)

    def _expand(self, path: str) -> str:
        found = next(self._matches(path), None)
        if found is None:
            raise HallmarkError(f"the image has nothing like {path}")
        return found

    def _matches(self, path: str) -> Iterator[str]:
        parts = path.strip("/").split("/")
        number = next((number for number, part in enumerate(parts) if "*" in part), None)
        if number is None:
            yield "/" + "/".join(parts)
            return
        directory = "/" + "/".join(parts[:number])
        filesystem, inner = self._place(directory)
        names = filesystem.names(inner) if isinstance(filesystem, _Ext4) else []
        for name in fnmatch.filter(names, parts[number]):
            yield from self._matches("/".join([*parts[:number], name, *parts[number + 1 :]]))

    def _place(self, path: str) -> tuple[_Ext4 | _Fat, str]:
        path = self._expand(path)
        for point, filesystem, base in self._mounts:
            if path == point or path.startswith(point + "/"):
                return filesystem, base + path.removeprefix(point).rstrip("/") or "/"
        raise HallmarkError(f"{path} is no absolute path")
