"""The disk view: an unbooted image through libguestfs, behind a testinfra backend.

One appliance for all tests. The subject is added read-only (libguestfs puts an overlay over it) and its
filesystems are mounted read-only. Under emulation a call costs 20 to 200 ms, so nearly everything is answered
from four bulk results: a listing of all files, their extended attributes, their SHA-256, and a tar of /etc.
Commands run in the guest's root with the guest's own programs, for the few questions that need them.
"""

from __future__ import annotations

import io
import shlex
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testinfra.backend import BACKENDS
from testinfra.backend.base import CommandResult

from builder import log
from builder.errors import HallmarkError
from certification.evidence import EvidenceLog
from certification.model import Subject
from certification.views import openscap
from certification.views.appliance import Appliance
from certification.views.base import disk_subject
from certification.views.inventory import (
    FIND_FORMAT,
    Inventory,
    parse_digests,
    parse_find,
    parse_xattrs,
)
from certification.views.tree import TreeBackend, tree_host

if TYPE_CHECKING:
    from certification.views.format import ImageBytes

__all__ = ["DiskView", "GuestfsBackend"]

_COMMAND_SECONDS = 60
_OUTPUT_LIMIT = 2 << 20
_ENVIRONMENT = "PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root SYSTEMD_OFFLINE=1"
_XFSZ = 128 + 25


class GuestfsBackend(TreeBackend):
    """testinfra's way into an unbooted disk (``certification.views.base.GuestAccess``).

    :param appliance: a launched appliance with the guest's filesystems mounted.
    """

    NAME = "guestfs"

    def __init__(self, hostspec: str, *, appliance: Appliance, work: Path, evidence: EvidenceLog) -> None:
        super().__init__(hostspec, reader=appliance, work=work, evidence=evidence)
        self._appliance = appliance
        self._chroot_ready = False

    def decode(self, data: bytes) -> str:
        # A guest's output may be anything; a verdict must come out all the same.
        return data.decode("utf-8", errors="replace")

    def run(
        self, command: str, *args: str, timeout: float = _COMMAND_SECONDS, **kwargs: Any
    ) -> CommandResult:
        """Run a shell command in the guest's root, with nothing of the guest running.

        :param timeout: seconds.
        :raises HallmarkError: it took longer, or printed too much.
        """
        command = self.get_command(command, *args)
        began = time.monotonic()
        self._prepare_chroot()
        status, stdout, stderr = self._appliance.capture(
            f"chroot /sysroot /usr/bin/env -i {_ENVIRONMENT} /bin/sh -c {shlex.quote(command)}",
            seconds=timeout,
            limit=_OUTPUT_LIMIT,
        )
        failed = {
            124: f"took longer than {timeout:g} s",
            137: f"took longer than {timeout:g} s",
            _XFSZ: f"printed more than {_OUTPUT_LIMIT} bytes",
        }.get(status)
        if failed is not None:
            what = f"a command in the guest's root {failed}: {command}"
            self._evidence.failure(command, what=what, seconds=time.monotonic() - began)
            raise HallmarkError(what)
        result = self.result(status, command.encode(), stdout, stderr)
        self._evidence.command(
            command,
            status=status,
            stdout=result.stdout,
            stderr=result.stderr,
            seconds=time.monotonic() - began,
        )
        return result

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """A copy of all files of the guest in a directory on this machine, whose links stay in it."""
        with tempfile.TemporaryDirectory(dir=self._work, prefix="tree-") as work:
            tree = Path(work) / "root"
            self._appliance.unpack(tree)
            openscap.contain(tree)
            yield tree

    def _gather(self) -> Inventory:
        appliance = self._appliance
        began = time.monotonic()
        points = " ".join(shlex.quote(f"/sysroot{point}".rstrip("/")) for point in appliance.mount_points)
        found = parse_find(
            appliance.bulk(f"find {points} -xdev -printf {shlex.quote(FIND_FORMAT)}"), root="/sysroot"
        )
        listed = time.monotonic()
        attributes = parse_xattrs(
            appliance.bulk(
                f"getfattr -R -h -P -d -m ^security -e hex --absolute-names {points} 2>/dev/null || :"
            ),
            root="/sysroot",
        )
        labelled = time.monotonic()
        # A file of an ostree host has three paths (store, deployment, running tree): it is read once.
        once = f"find {points} -xdev -type f -printf '%D:%i %p\\0' | sort -zut' ' -k1,1 | cut -zd' ' -f2-"
        read = parse_digests(appliance.bulk(f"{once} | xargs -0 -r -n 200 -P 2 sha256sum"), root="/sysroot")
        files = [entry for entry in found.values() if entry.type == "f"]
        known = {(e.device, e.inode): read[e.path] for e in files if e.path in read}
        digests = {e.path: known[e.device, e.inode] for e in files if (e.device, e.inode) in known}
        hashed = time.monotonic()
        self._prefetch_etc()
        log.info(
            f"{len(found)} files listed in {listed - began:.1f} s, attributes in {labelled - listed:.1f} s, "
            f"digests in {hashed - labelled:.1f} s, /etc in {time.monotonic() - hashed:.1f} s"
        )
        missing = len(files) - len(digests)
        if missing:
            raise HallmarkError(f"{missing} files of the guest could not be read; is a filesystem damaged?")
        self._evidence.fact("inventory", f"{len(found)} files, {len(digests)} digests, mounted {points}")
        return Inventory(found).with_details(
            labels={
                path: bytes.fromhex(values["security.selinux"]).rstrip(b"\0").decode(errors="replace")
                for path, values in attributes.items()
                if "security.selinux" in values
            },
            capabilities={
                path: values["security.capability"]
                for path, values in attributes.items()
                if "security.capability" in values
            },
            digests=digests,
        )

    def _prefetch_etc(self) -> None:
        with tarfile.open(fileobj=io.BytesIO(self._appliance.tar("/etc", self._work))) as archive:
            for member in archive:
                source = archive.extractfile(member) if member.isreg() else None
                if source is not None:
                    self._files["/etc/" + member.name.removeprefix("./")] = source.read()

    def _prepare_chroot(self) -> None:
        # Late, because mounts would cover what the image itself has in these directories.
        if not self._chroot_ready:
            self.inventory()
            self._appliance.bind_system()
            self._chroot_ready = True


class DiskView:
    """An image opened in an appliance. Opening takes about 25 s under emulation."""

    def __init__(
        self,
        *,
        image: Path,
        work: Path,
        evidence: EvidenceLog,
        ssh_config: Path | None = None,
        force_tcg: bool = False,
        test_seconds: float = 120.0,
    ) -> None:
        self._image_path = image
        self._evidence = evidence
        self._bytes: ImageBytes | None = None
        self._work = work / "disk"
        self._work.mkdir(parents=True, exist_ok=True)
        self._appliance = Appliance(image, force_tcg=force_tcg, log_file=work / "libguestfs.log")
        try:
            self._appliance.mount_guest()
        except HallmarkError:
            self._appliance.close()
            raise
        BACKENDS.setdefault("guestfs", f"{__name__}.GuestfsBackend")
        self._backend = GuestfsBackend(
            image.name, appliance=self._appliance, work=self._work, evidence=evidence
        )
        self._host = tree_host(self._backend)

    @property
    def image(self) -> ImageBytes:
        from certification.views.format import ImageBytes

        if self._bytes is None:
            self._bytes = ImageBytes(self._image_path, evidence=self._evidence)
        return self._bytes

    @property
    def host(self) -> Any:
        return self._host

    def subject(self) -> Subject:
        return disk_subject(self._backend)

    def check(self) -> None:
        """What is on a disk stays there."""

    def close(self) -> None:
        if self._bytes is not None:
            self._bytes.close()
        self._appliance.close()
        shutil.rmtree(self._work, ignore_errors=True)  # what matters of it is in the recording
