"""A libguestfs appliance with one read-only subject.

Filesystems are found by their content: the one with an os-release is the root, its fstab says what belongs
where. libguestfs's own inspection does more and takes longer than the whole inventory under emulation.
"""

from __future__ import annotations

import base64
import gzip
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import guestfs

from builder.errors import HallmarkError
from builder.run import run

__all__ = ["Appliance"]

_LABEL = "subject"
_MEMORY_MIB = 1280
_PIECE = 2 << 20
_SCRATCH = "/tmp"
#: Where the appliance has the guest's root.
_ROOT = "/sysroot"
_SUPPORTED = ("ext2", "ext3", "ext4", "xfs", "btrfs")
#: What blkid(8) calls that by which an fstab(5) may name a device.
_NAMES_OF_DEVICES = {
    "UUID": "UUID",
    "LABEL": "LABEL",
    "PARTUUID": "PART_ENTRY_UUID",
    "PARTLABEL": "PART_ENTRY_NAME",
}
#: What an image may mount; anything else in fstab (nfs, swap, tmpfs) is not part of the disk.
_DISK_FILESYSTEMS = (*_SUPPORTED, "vfat", "auto")


class Appliance:
    """A running appliance.

    :raises HallmarkError: it can't be started, or the disk in it can't be read.
    """

    def __init__(self, image: Path, *, force_tcg: bool, log_file: Path) -> None:
        self._image = image
        self._log = log_file
        self.mount_points: tuple[str, ...] = ()
        self._closed = False
        if force_tcg:
            os.environ["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
        os.environ.setdefault("LIBGUESTFS_BACKEND", "direct")
        self._guest = guestfs.GuestFS(python_return_dict=True)
        self._guest.set_event_callback(self._event, guestfs.EVENT_APPLIANCE | guestfs.EVENT_LIBRARY)
        self._guest.set_memsize(_MEMORY_MIB)
        self._guest.set_smp(2)
        self._guest.set_network(False)
        # Raw although it is a VHD: a fixed VHD is the raw disk, and the 512 bytes after it belong to no
        # partition.
        with self._explained("libguestfs can't start its appliance"):
            self._guest.add_drive(str(image), readonly=True, format="raw", label=_LABEL)
            self._guest.launch()

    def mount_guest(self) -> None:
        """Find the root filesystem and mount it and what its fstab names, read-only."""
        with self._explained("the filesystems of the image can't be mounted"):
            found = self._guest.list_filesystems()
            points = self._find_root(found)
            table = (
                self._guest.read_file("/etc/fstab").decode(errors="replace")
                if self._is_file("/etc/fstab")
                else ""
            )
            for device, point in self._fstab(table):
                if point in points or not self._guest.is_dir(point):
                    continue
                self._guest.mount_ro(device, point)
                points.append(point)
        self.mount_points = tuple(points)

    def capture(self, command: str, *, seconds: float, limit: int) -> tuple[int, bytes, bytes]:
        """Run a command in the appliance; its status, stdout and stderr (at most 64 KiB of that).

        The status is 124 or 137 when it took longer than ``seconds``, 153 when it printed more than ``limit``
        bytes.
        """
        out, err = f"{_SCRATCH}/out", f"{_SCRATCH}/err"
        # A file size limit in place of head(1): a flood ends the command instead of filling the appliance.
        # All in one call, because every call costs a tenth of a second under emulation.
        limited = f"ulimit -f {limit // 512}; exec timeout -k 5 {seconds:g} {command}"
        # The shell's own word about a killed command would be taken for the answer: hence exec.
        script = (
            f"exec 2>/dev/null; ({limited}) >{out} 2>{err} </dev/null; echo $?; "
            f"gzip -1 -c {out} | base64 -w 0; echo; head -c 65536 {err} | base64 -w 0; rm -f {out} {err}"
        )
        with self._explained("a command in the appliance could not be run"):
            answer = self._guest.debug("sh", [script])
        # The daemon takes newlines off the end, so an empty third line may be missing.
        status, packed, errors = [*answer.split("\n"), "", ""][:3]
        return int(status), gzip.decompress(base64.b64decode(packed)), base64.b64decode(errors)

    def bulk(self, command: str) -> bytes:
        """The complete stdout of a command in the appliance, however much it is.

        :raises HallmarkError: the command failed.
        """
        out = f"{_SCRATCH}/bulk"
        with self._explained(f"the appliance could not run: {command.split()[0]}"):
            self._guest.debug("sh", [f"bash -o pipefail -c {shlex.quote(command)} >{out}"])
        return self._take(out)

    def read(self, path: str) -> bytes:
        """A guest file's content."""
        with self._explained(f"{path} in the image can't be read"):
            data: bytes = self._guest.read_file(path)
        return data

    def download(self, path: str, target: Path) -> None:
        """Copy a guest file out."""
        with self._explained(f"{path} in the image can't be read"):
            self._guest.download(path, str(target))

    def tar(self, directory: str, work: Path) -> bytes:
        """A tar of a guest directory."""
        with tempfile.NamedTemporaryFile(dir=work, prefix="tar-") as target:
            with self._explained(f"{directory} in the image can't be read"):
                self._guest.tar_out(directory, target.name)
            return Path(target.name).read_bytes()

    def unpack(self, target: Path) -> None:
        """Copy the guest's files into a new directory, with owners and modes, without labels.

        What a running system fills (/dev, /proc, /run, /sys) stays empty.
        """
        target.mkdir(mode=0o700)
        left_out = [f"./{name}/*" for name in ("dev", "proc", "run", "sys")]
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix="tree-") as archive:
            with self._explained("the files of the image can't be copied out"):
                self._guest.tar_out("/", archive.name, excludes=left_out)
            run(["tar", "-x", "-p", "--numeric-owner", "-C", target, "-f", archive.name])

    def bind_system(self) -> None:
        """Give the guest's root /proc, /sys, /dev and an empty writable /tmp and /run, for commands in it."""
        steps = [
            f"test -d /sysroot/{name} && mount {how} /sysroot/{name}"
            for name, how in (
                ("proc", "-t proc proc"),
                ("sys", "-t sysfs sysfs"),
                ("dev", "--bind /dev"),
                ("tmp", "-t tmpfs tmpfs"),
                ("run", "-t tmpfs tmpfs"),
            )
        ]
        with self._explained("the guest's root can't be prepared for commands"):
            self._guest.debug("sh", ["; ".join(steps) + "; :"])

    def close(self) -> None:
        """Stop the appliance; safe to call again."""
        if not self._closed:
            self._closed = True
            with suppress(RuntimeError):
                self._guest.close()

    def _find_root(self, found: dict[str, str]) -> list[str]:
        for device, kind in sorted(found.items()):
            if kind not in _SUPPORTED:
                continue
            self._guest.mount_ro(device, "/")
            if self._is_file("/etc/os-release") or self._is_file("/usr/lib/os-release"):
                return ["/"]
            # What boots first is number 0 of its kernel's deployments (ostree(1), "Boot links").
            deployments = self._guest.glob_expand("/ostree/boot.[01]/*/*/0")
            if deployments:
                return self._enter_deployment(str(self._guest.realpath(deployments[0])))
            self._guest.umount("/")
        raise HallmarkError(
            "no filesystem of the image holds an operating system",
            where=self._image,
            details=[f"{device}: {kind}" for device, kind in sorted(found.items())]
            or ["no filesystem at all"],
            hint="an ext4, xfs or btrfs filesystem with /etc/os-release is expected",
        )

    def _enter_deployment(self, deployment: str) -> list[str]:
        """Make a deployment the root, as it is when it runs; what is mounted is returned.

        Below /sysroot are the physical root's own files. The deployments in it, /var and the objects would be
        the same files once more, so that empty directories stand there; of the objects the commits are kept.
        """
        state = deployment.split("/deploy/")[1]
        physical = f"{_SCRATCH}/physical"
        objects = f"{_ROOT}/sysroot/ostree/repo/objects"
        steps = [
            f"mkdir -p {physical} && mount --move {_ROOT} {physical}",
            f"mount --bind {physical}{shlex.quote(deployment)} {_ROOT}",
            f"mount --bind {physical}/ostree/deploy/{shlex.quote(state)}/var {_ROOT}/var",
            f"mount --bind {physical} {_ROOT}/sysroot",
            f"mount -t tmpfs tmpfs {_ROOT}/sysroot/ostree/deploy/{shlex.quote(state)}/var",
            f"for d in {_ROOT}/sysroot/ostree/deploy/*/deploy/*.[0-9]*/; do mount -t tmpfs tmpfs $d; done",
            f"mount -t tmpfs tmpfs {objects}",
            f"cd {physical}/ostree/repo/objects",
            f"find . -name '*.commit*' | cpio -pdm --quiet {objects}",
        ]
        self._guest.debug("sh", [" && ".join(steps)])
        return ["/", objects.removeprefix(_ROOT)]

    def _fstab(self, table: str) -> Iterator[tuple[str, str]]:
        rows = [
            line.split() for line in table.splitlines() if line.strip() and not line.lstrip().startswith("#")
        ]
        known = self._named_devices()
        for row in sorted((row for row in rows if len(row) >= 3), key=lambda row: row[1].count("/")):
            source, point, kind = row[:3]
            if point == "/" or not point.startswith("/") or kind not in _DISK_FILESYSTEMS:
                continue
            if source.startswith("/dev/mapper/"):
                yield source, point
                continue
            name, _, value = source.partition("=")
            device = known.get((name, value.strip('"').replace("\\040", " ").lower()))
            # Whether what isn't there may be missing, azure.fstab-persistent-ids judges: it is left out here.
            if device is not None:
                yield device, point

    def _named_devices(self) -> dict[tuple[str, str], str]:
        """The devices by what an fstab may call them: the word before ``=``, the value in lower case."""
        found: dict[tuple[str, str], str] = {}
        for device in [*self._guest.list_partitions(), *self._guest.lvs()]:
            try:
                says = self._guest.blkid(device)
            except RuntimeError:  # nothing is on it, nothing is said about it
                continue
            for name, key in _NAMES_OF_DEVICES.items():
                if says.get(key):
                    found.setdefault((name, says[key].replace("\\ ", " ").lower()), str(device))
        return found

    def _is_file(self, path: str) -> bool:
        return bool(self._guest.is_file(path, followsymlinks=True))

    def _take(self, path: str) -> bytes:
        """Bring a file of the appliance itself over, and delete it there."""
        # download() sees the guest's root only, and a mount there would hide what the image has: the file
        # comes as text, in pieces that fit into a message (4 MiB).
        packed = f"{path}.gz"
        with self._explained("a result could not be brought over from the appliance"):
            size = int(self._guest.debug("sh", [f"gzip -1 -f {path} && stat -c %s {packed}"]))
            pieces = [
                base64.b64decode(
                    self._guest.debug(
                        "sh", [f"dd if={packed} bs={_PIECE} skip={number} count=1 2>/dev/null | base64 -w 0"]
                    )
                )
                for number in range(-(-size // _PIECE))
            ]
            self._guest.debug("sh", [f"rm -f {packed}"])
        return gzip.decompress(b"".join(pieces))

    def _event(self, _event: int, _handle: int, data: str, _array: object) -> None:
        text = data if isinstance(data, str) else str(data)
        with self._log.open("a", encoding="utf-8", errors="replace") as stream:
            stream.write(text)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            tail = self._log.read_text(errors="replace").splitlines()[-10:] if self._log.exists() else []
            raise HallmarkError(
                f"{what}: {error}",
                where=self._image,
                details=tail,
                hint="`hallmark doctor` tries a launch; `libguestfs-test-tool` says more",
            ) from None
