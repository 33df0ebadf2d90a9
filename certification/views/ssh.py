"""The booted view: a running guest over ssh, through testinfra's ssh backend and our own ssh_config.

Every command has a deadline and an output limit, so that a hanging or babbling guest ends in an error and
never in a hang. The connection is multiplexed by the ssh_config.
"""

from __future__ import annotations

import shlex
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testinfra.backend.base import CommandResult
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from builder.errors import CommandFailed, HallmarkError
from builder.run import run
from certification.evidence import EvidenceLog
from certification.model import Subject
from certification.views import rpmdb
from certification.views.base import parse_os_release
from certification.views.inventory import FIND_FORMAT, Inventory, parse_find

if TYPE_CHECKING:
    from certification.views.format import ImageBytes

__all__ = ["SUBJECT", "BootedView", "RecordingSshBackend"]

#: The name of the guest in the ssh_config.
SUBJECT = "subject"
_COMMAND_SECONDS = 180.0
_OUTPUT_LIMIT = 8 << 20
_FILE_LIMIT = 512 << 20


class RecordingSshBackend(SshBackend):  # type: ignore[misc]  # testinfra ships no types
    """testinfra's ssh backend (as root through sudo), with deadlines, limits and a record of what was run."""

    NAME = "ssh"

    def __init__(self, *, ssh_config: Path, work: Path, evidence: EvidenceLog) -> None:
        super().__init__(SUBJECT, ssh_config=str(ssh_config), sudo=True)
        self._config = ssh_config
        self._work = work
        self._evidence = evidence
        self._encoding = "utf-8"
        self._files: dict[str, bytes | None] = {}
        self._fetched: dict[str, Path | None] = {}
        self._inventory: Inventory | None = None
        self._rpmdb: Path | None = None
        self._count = 0

    def decode(self, data: bytes) -> str:
        return data.decode("utf-8", errors="replace")

    def run(
        self, command: str, *args: str, timeout: float = _COMMAND_SECONDS, **kwargs: Any
    ) -> CommandResult:
        """Run a shell command in the guest as root.

        :param timeout: seconds.
        :raises HallmarkError: no answer in time, too much output, or the connection broke.
        """
        command = self.quote(command, *args)
        began = time.monotonic()
        status, out, err = self._ssh(command, limit=_OUTPUT_LIMIT, timeout=timeout)
        result = self.result(status, command.encode(), out.read_bytes(), err.read_bytes())
        out.unlink()
        err.unlink()
        self._evidence.command(
            command,
            status=status,
            stdout=result.stdout,
            stderr=result.stderr,
            seconds=time.monotonic() - began,
        )
        return result

    def read_bytes(self, path: str) -> bytes | None:
        """A file's content, links followed; None when there is no such regular file."""
        if path not in self._files:
            fetched = self.fetch(path, limit=16 << 20)
            self._files[path] = fetched.read_bytes() if fetched is not None else None
        data = self._files[path]
        self._evidence.read(path, data)
        return data

    def fetch(self, path: str, *, limit: int = _FILE_LIMIT) -> Path | None:
        """A copy of a guest file on this machine; None when there is no such regular file."""
        if path not in self._fetched:
            name = shlex.quote(path)
            status, out, err = self._ssh(f"test -f {name} || exit 44; exec cat -- {name}", limit=limit)
            if status not in (0, 44):
                raise HallmarkError(
                    f"cannot read {path} in the guest: {err.read_text(errors='replace').strip()}"
                )
            err.unlink()
            self._fetched[path] = out if status == 0 else None
        return self._fetched[path]

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a shell pattern."""
        out = self.run(
            f'for f in {pattern}; do if [ -e "$f" ] || [ -L "$f" ]; then printf "%s\\n" "$f"; fi; done'
        )
        return sorted(out.stdout.splitlines())

    def inventory(self) -> Inventory:
        """Every file of the guest's disk filesystems, without digests: reading all files takes minutes
        there.
        """
        if self._inventory is None:
            # findutils prints a context with %Z only where SELinux is on; labels are for the disk view.
            points = self.run(
                "findmnt -rn -o TARGET -t ext4,xfs,btrfs,vfat 2>/dev/null || echo /"
            ).stdout.split()
            status, out, _ = self._ssh(
                f"find {' '.join(map(shlex.quote, points))} -xdev -printf {shlex.quote(FIND_FORMAT)}",
                limit=64 << 20,
            )
            try:
                self._inventory = Inventory(parse_find(out.read_bytes()))
            except ValueError as error:
                raise HallmarkError(f"the guest's files can't be listed (status {status}): {error}") from None
            self._evidence.fact("inventory", f"{len(self._inventory)} files below {', '.join(points)}")
        return self._inventory

    def rpmdb(self) -> Path:
        """A copy of the guest's rpm database."""
        if self._rpmdb is None:
            choice = " || ".join(f"{{ test -d {place} && cd {place}; }}" for place in rpmdb.PLACES)
            status, out, _ = self._ssh(f"{{ {choice} ; }} && tar -cf - .", limit=_FILE_LIMIT)
            if status:
                raise HallmarkError("the guest's rpm database can't be read")
            self._rpmdb = rpmdb.unpack(out.read_bytes(), self._work / "rpmdb")
            out.unlink()
        return self._rpmdb

    def close(self) -> None:
        """End the multiplexed connection."""
        with suppress(CommandFailed):
            run(["ssh", "-F", self._config, "-O", "exit", SUBJECT], check=False, timeout=10)

    def _ssh(self, command: str, *, limit: int, timeout: float = _COMMAND_SECONDS) -> tuple[int, Path, Path]:
        self._count += 1
        out, err = self._work / f"out-{self._count}", self._work / f"err-{self._count}"
        remote = self.get_sudo_command(command, None)
        # prlimit: whoever writes more than the limit is killed by SIGXFSZ. The outputs go to files by a small
        # shell that gets every word as a parameter and parses none.
        script = 'out=$1 err=$2; shift 2; exec "$@" >"$out" 2>"$err" </dev/null'
        limited = ["prlimit", f"--fsize={limit}", "--", "sh", "-c", script, "sh", str(out), str(err)]
        try:
            completed = run(
                [*limited, "ssh", "-F", self._config, "-o", "ConnectTimeout=20", SUBJECT, remote],
                check=False,
                timeout=timeout,
            )
        except CommandFailed:
            raise HallmarkError(
                f"the guest did not finish a command within {timeout:g} s", details=[command[:300]]
            ) from None
        if completed.returncode < 0 or (out.exists() and out.stat().st_size >= limit):
            raise HallmarkError(f"the guest printed more than {limit} bytes", details=[command[:300]])
        if completed.returncode == 255:
            raise HallmarkError(
                "the connection to the guest broke",
                details=[command[:300], *err.read_text(errors="replace").splitlines()[-5:]],
                hint="the serial log of the guest says more",
            )
        return completed.returncode, out, err


class BootedView:
    """A running guest."""

    def __init__(
        self,
        *,
        image: Path,
        work: Path,
        evidence: EvidenceLog,
        ssh_config: Path | None = None,
        force_tcg: bool = False,
    ) -> None:
        if ssh_config is None:
            raise HallmarkError("the booted view needs the ssh_config of a running guest")
        directory = work / "booted"
        directory.mkdir(parents=True, exist_ok=True)
        self._image_path = image
        self._evidence = evidence
        self._bytes: ImageBytes | None = None
        self._backend = RecordingSshBackend(ssh_config=ssh_config, work=directory, evidence=evidence)
        self._host = Host(self._backend)
        self._backend.set_host(self._host)

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
        result = self._backend.run("cat /etc/os-release; test -e /run/ostree-booted && echo OSTREE=1; :")
        fields = parse_os_release(result.stdout)
        return Subject.from_os_release(fields, ostree="OSTREE" in fields)

    def close(self) -> None:
        if self._bytes is not None:
            self._bytes.close()
        self._backend.close()
