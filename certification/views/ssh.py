"""The booted view: a running guest over ssh, through testinfra's ssh backend and our own ssh_config.

Every command has a deadline and an output limit, so that a hanging or babbling guest ends in an error and
never in a hang. Commands run one after the other in one shell; what is copied out of the guest gets a session
of its own. The connection is multiplexed by the ssh_config.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from testinfra.backend.base import CommandResult
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from builder.errors import CommandFailed, HallmarkError
from builder.run import run
from certification.evidence import EvidenceLog
from certification.model import Subject
from certification.views import rpmdb
from certification.views.base import booted_subject, glob_command
from certification.views.inventory import FIND_FORMAT, Inventory, pack, parse_find
from certification.views.shell import Answer, GuestShell, NoAnswer

if TYPE_CHECKING:
    from certification.views.format import ImageBytes

__all__ = ["SUBJECT", "BootedView", "RecordingSshBackend"]

#: The name of the guest in the ssh_config.
SUBJECT = "subject"
_COMMAND_SECONDS = 180.0
_OUTPUT_LIMIT = 8 << 20
_FILE_LIMIT = 512 << 20
_READ_LIMIT = 16 << 20
# The exit status that says that there is no such regular file.
_NO_FILE = 44
# Of an ostree host's physical root, what the running deployment shows or holds anyway.
_ONCE = " ".join(
    f"-path '/sysroot/ostree/{place}/*' -prune -o"
    for place in ("deploy/*/deploy/*", "deploy/*/var", "repo/objects/??")
)
# After a command that got no answer: does the guest answer anything at all?
_PROBE_SECONDS = 15.0
_T = TypeVar("_T")


class RecordingSshBackend(SshBackend):  # type: ignore[misc]  # testinfra ships no types
    """testinfra's ssh backend (as root through sudo), with deadlines, limits and a record of what was run."""

    NAME = "ssh"

    def __init__(
        self,
        *,
        ssh_config: Path,
        work: Path,
        evidence: EvidenceLog,
        sudo: bool = True,
        test_seconds: float = 120.0,
    ) -> None:
        super().__init__(SUBJECT, ssh_config=str(ssh_config), sudo=sudo)
        self._config = ssh_config
        self._connect = ("ssh", "-F", ssh_config, "-o", "ConnectTimeout=20", SUBJECT)
        self._shell = GuestShell([*self._connect, "exec sudo /bin/sh" if sudo else "exec /bin/sh"])
        self._work = work
        self._evidence = evidence
        self._encoding = "utf-8"
        self._files: dict[str, bytes | None] = {}
        self._answers: dict[str, Answer] = {}
        self._fetched: dict[str, Path | None] = {}
        self._inventory: Inventory | None = None
        self._rpmdb: Path | None = None
        self._count = 0
        self._gone = ""
        # A command ends before the test that waits for it does, so that the error names the command.
        self._seconds = min(_COMMAND_SECONDS, 0.8 * test_seconds)
        self._probe_seconds = min(_PROBE_SECONDS, 0.15 * test_seconds)

    def decode(self, data: bytes) -> str:
        return data.decode("utf-8", errors="replace")

    def run(
        self,
        command: str,
        *args: str,
        timeout: float | None = None,
        login: bool = False,
        once: bool = False,
        **kwargs: Any,
    ) -> CommandResult:
        """Run a shell command in the guest as root.

        :param timeout: seconds.
        :param once: the answer doesn't change while the guest runs: whoever asks again gets the first one.
        :param login: in a session of its own, with the environment and the pipes of a login. Services may get
            those handed over; what the shell of all the other commands has opened, SELinux may refuse them.
        :raises HallmarkError: no answer in time, too much output, or the connection broke.
        """
        command = self.quote(command, *args)
        began = time.monotonic()
        try:
            known = self._answers.get(command) if once else None
            ask = self._ask_apart if login else self._ask
            answer = known or ask(command, limit=_OUTPUT_LIMIT, timeout=timeout)
            if once:
                self._answers[command] = answer
        except HallmarkError as error:
            self._evidence.failure(command, what=error.what, seconds=time.monotonic() - began)
            raise
        result = self.result(answer.status, command.encode(), answer.stdout, answer.stderr)
        self._evidence.command(
            command,
            status=answer.status,
            stdout=result.stdout,
            stderr=result.stderr,
            seconds=time.monotonic() - began,
        )
        return result

    def read_bytes(self, path: str) -> bytes | None:
        """A file's content, links followed; None when there is no such regular file."""
        if path not in self._files:
            answer = self._ask(_reading(path), limit=_READ_LIMIT)
            _readable(path, answer.status, answer.stderr)
            self._files[path] = answer.stdout if answer.status == 0 else None
        data = self._files[path]
        self._evidence.read(path, data)
        return data

    def fetch(self, path: str) -> Path | None:
        """A copy of a guest file on this machine; None when there is no such regular file."""
        if path not in self._fetched:
            status, out, err = self._copy(_reading(path), limit=_FILE_LIMIT)
            _readable(path, status, err.read_bytes())
            err.unlink()
            self._fetched[path] = out if status == 0 else None
            self._evidence.fetched(path, self._fetched[path])
        return self._fetched[path]

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a shell pattern."""
        out = self.run(glob_command(pattern))
        return sorted(out.stdout.splitlines())

    def inventory(self) -> Inventory:
        """Every file of the guest's disk filesystems, without digests: reading all files takes minutes
        there.
        """
        if self._inventory is None:
            # findutils prints a context with %Z only where SELinux is on; labels are for the disk view.
            mounted = self.run(
                "findmnt -rn -o MAJ:MIN,TARGET -t ext4,xfs,btrfs,vfat 2>/dev/null || echo 0:0 /"
            ).stdout.splitlines()
            # A filesystem that is mounted more than once, as an ostree host's is, is listed once.
            where: dict[str, str] = {}
            for device, _, target in sorted(map(_parted, mounted), key=lambda row: len(row[2])):
                where.setdefault(device, target)
            points = list(where.values())
            status, out, _ = self._copy(
                f"find {' '.join(map(shlex.quote, points))} -xdev {_ONCE} -printf {shlex.quote(FIND_FORMAT)}",
                limit=64 << 20,
            )
            try:
                self._inventory = Inventory(parse_find(out.read_bytes()))
            except ValueError as error:
                raise HallmarkError(f"the guest's files can't be listed (status {status}): {error}") from None
            summary = f"{len(self._inventory)} files below {', '.join(points)}"
            self._evidence.whole("inventory", pack(self._inventory), summary=summary)
        return self._inventory

    def rpmdb(self) -> Path:
        """A copy of the guest's rpm database."""
        if self._rpmdb is None:
            choice = " || ".join(f"{{ test -d {place} && cd {place}; }}" for place in rpmdb.PLACES)
            status, out, _ = self._copy(f"{{ {choice} ; }} && tar -cf - .", limit=_FILE_LIMIT)
            if status:
                raise HallmarkError("the guest's rpm database can't be read")
            self._rpmdb = rpmdb.unpack(out.read_bytes(), self._work / "rpmdb")
            out.unlink()
            self._evidence.directory("rpmdb", {path.name: path for path in self._rpmdb.iterdir()})
        return self._rpmdb

    def made(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` makes for a test, recorded."""
        return self._evidence.made(name, make)

    def close(self) -> None:
        """End the shell and the multiplexed connection."""
        self._shell.close()
        with suppress(CommandFailed):
            run(["ssh", "-F", self._config, "-O", "exit", SUBJECT], check=False, timeout=10)

    def greet(self) -> None:
        """Make sure that what is there answers what it is asked, and not just anything.

        :raises HallmarkError: it doesn't.
        """
        nonce = secrets.token_hex(16)
        answer = self._ask(f"printf '<%s>' {nonce}", limit=_OUTPUT_LIMIT)
        if (answer.status, answer.stdout) != (0, f"<{nonce}>".encode()):
            raise HallmarkError(
                "the guest doesn't answer what it is asked",
                why="any of its other answers could be garbage, too",
                details=[f"asked to print <{nonce}>", f"status {answer.status}, {answer.stdout[:100]!r}"],
            )

    def _ask(self, command: str, *, limit: int, timeout: float | None = None) -> Answer:
        """The answer to a command, in memory."""
        return self._patiently(
            command, lambda seconds: self._shell.run(command, timeout=seconds, limit=limit), timeout
        )

    def _ask_apart(self, command: str, *, limit: int, timeout: float | None = None) -> Answer:
        """The answer to a command in a session of its own."""
        status, out, err = self._copy(command, limit=limit, timeout=timeout)
        answer = Answer(status, out.read_bytes(), err.read_bytes())
        out.unlink()
        err.unlink()
        return answer

    def _copy(self, command: str, *, limit: int, timeout: float | None = None) -> tuple[int, Path, Path]:
        """The status of a command in a session of its own, and its outputs in files."""
        return self._patiently(
            command, lambda seconds: self._session(command, limit=limit, timeout=seconds), timeout
        )

    def _patiently(self, command: str, ask: Callable[[float], _T], timeout: float | None) -> _T:
        if self._gone:
            # One guest that hangs must not cost a deadline for each of a hundred tests.
            raise HallmarkError(self._gone)
        try:
            return ask(timeout or self._seconds)
        except NoAnswer:
            try:
                self._shell.run("echo", timeout=self._probe_seconds, limit=1024)
            except HallmarkError:
                self._gone = f"the guest stopped answering while it was asked: {command[:120]}"
            raise

    def _session(self, command: str, *, limit: int, timeout: float) -> tuple[int, Path, Path]:
        self._count += 1
        out, err = self._work / f"out-{self._count}", self._work / f"err-{self._count}"
        remote = self.get_sudo_command(command, None) if self.sudo else command
        # prlimit: whoever writes more than the limit is killed by SIGXFSZ. The outputs go to files by a small
        # shell that gets every word as a parameter and parses none.
        script = 'out=$1 err=$2; shift 2; exec "$@" >"$out" 2>"$err" </dev/null'
        limited = ["prlimit", f"--fsize={limit}", "--", "sh", "-c", script, "sh", str(out), str(err)]
        try:
            completed = run([*limited, *self._connect, remote], check=False, timeout=timeout)
        except CommandFailed:
            raise NoAnswer(
                f"the guest did not finish a command within {timeout:g} s", details=[command[:300]]
            ) from None
        if completed.returncode < 0 or (out.exists() and out.stat().st_size >= limit):
            raise HallmarkError(f"the guest printed more than {limit} bytes", details=[command[:300]])
        if completed.returncode == 255:
            raise NoAnswer(
                "the connection to the guest broke",
                details=[command[:300], *err.read_text(errors="replace").splitlines()[-5:]],
                hint="the serial log of the guest says more",
            )
        return completed.returncode, out, err


def _reading(path: str) -> str:
    name = shlex.quote(path)
    return f"test -f {name} || exit {_NO_FILE}; exec cat -- {name}"


def _readable(path: str, status: int, errors: bytes) -> None:
    if status not in (0, _NO_FILE):
        raise HallmarkError(f"cannot read {path} in the guest: {errors.decode(errors='replace').strip()}")


class BootedView:
    """A running guest. ``image`` is None when it is a machine of which nobody has the image."""

    def __init__(
        self,
        *,
        image: Path | None,
        work: Path,
        evidence: EvidenceLog,
        ssh_config: Path | None = None,
        force_tcg: bool = False,
        test_seconds: float = 120.0,
    ) -> None:
        if ssh_config is None:
            raise HallmarkError("the booted view needs the ssh_config of a running guest")
        directory = self._work = work / "booted"
        directory.mkdir(parents=True, exist_ok=True)
        self._image_path = image
        self._evidence = evidence
        self._bytes: ImageBytes | None = None
        # Who logs in as root needs no sudo, and a small machine may have none.
        sudo = _user(ssh_config) != "root"
        self._backend = RecordingSshBackend(
            ssh_config=ssh_config,
            work=directory,
            evidence=evidence,
            sudo=sudo,
            test_seconds=test_seconds,
        )
        self._host = Host(self._backend)
        self._backend.set_host(self._host)

    @property
    def image(self) -> ImageBytes:
        from certification.views.format import ImageBytes

        if self._image_path is None:
            raise HallmarkError(
                "a running machine shows no bytes of its image", hint="certify the image itself for that"
            )
        if self._bytes is None:
            self._bytes = ImageBytes(self._image_path, evidence=self._evidence)
        return self._bytes

    @property
    def host(self) -> Any:
        return self._host

    def check(self) -> None:
        """The guest still answers what it is asked.

        :raises HallmarkError: it doesn't.
        """
        self._backend.greet()

    def subject(self) -> Subject:
        self._backend.greet()
        return booted_subject(self._host)

    def close(self) -> None:
        if self._bytes is not None:
            self._bytes.close()
        self._backend.close()
        shutil.rmtree(self._work, ignore_errors=True)  # what matters of it is in the recording


def _parted(line: str) -> tuple[str, str, str]:
    return line.strip().partition(" ")


def _user(ssh_config: Path) -> str:
    """The user whom ssh logs in as, by its own reading of the configuration."""
    done = run(["ssh", "-G", "-F", ssh_config, SUBJECT], check=False, timeout=10)
    found = (line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("user "))
    return next(found, "")
