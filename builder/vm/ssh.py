"""ssh to a guest on a loopback port: one configuration file, one connection that all commands share.

Every new connection costs an emulated guest 3 to 12 s of key exchange, a command over the shared one some
0.2 s. The shared connection is a child of this process, not a daemon of ssh's own making, so that nothing
is left behind.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder import run
from builder.errors import CommandFailed, HallmarkError
from builder.run import Completed

__all__ = ["ALIAS", "Connection", "explain_refusal", "free_port", "has_banner", "was_refused", "write_config"]

ALIAS = "guest"
_LOOPBACK = "127.0.0.1"
_MASTER_START = 90.0


def free_port() -> int:
    """A TCP port on the loopback interface that nothing uses now."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def has_banner(port: int, *, timeout: float = 3.0) -> bool:
    """Whether an ssh server greets on the port: the cheap question before the dear login.

    QEMU accepts the connection itself long before the guest listens, so only the greeting counts.
    """
    try:
        with socket.create_connection((_LOOPBACK, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            return connection.recv(16).startswith(b"SSH-")
    except OSError:
        return False


def write_config(path: Path, *, port: int, user: str, identity: Path, sockets: Path) -> None:
    """Write an ssh_config(5) in which every host name means this guest.

    :param sockets: a private directory with a short path (a socket's path has at most 107 bytes).
    """
    # The file is for one guest, so `Host *` also serves tools that pass the address instead of the alias.
    path.write_text(
        f"""\
Host *
  HostName {_LOOPBACK}
  Port {port}
  User {user}
  IdentityFile {_quoted(identity)}
  IdentitiesOnly yes
  IdentityAgent none
  BatchMode yes
  PreferredAuthentications publickey
  StrictHostKeyChecking accept-new
  UserKnownHostsFile {_quoted(sockets / "known_hosts")}
  GlobalKnownHostsFile /dev/null
  UpdateHostKeys no
  ConnectTimeout 60
  ServerAliveInterval 15
  ServerAliveCountMax 8
  ControlPath {_quoted(sockets / "ssh")}
  ControlMaster auto
  ControlPersist 60
  LogLevel ERROR
"""
    )


def _quoted(path: Path) -> str:
    """A path as a value in ssh_config(5): spaces need quotes, and a percent sign would start a token."""
    return '"' + str(path).replace("%", "%%") + '"'


@dataclass(slots=True)
class Connection:
    """A guest reachable by ``config``. ``connected()`` holds the shared connection; ``run`` uses it."""

    config: Path
    control: Path
    log: Path
    _stack: ExitStack | None = None

    def connect(self, *, timeout: float = _MASTER_START) -> bool:
        """Log in and keep the connection for all later commands; False if the guest refused or did not
        answer."""
        self.disconnect()
        stack = ExitStack()
        argv: list[str | os.PathLike[str]] = ["ssh", "-F", self.config, "-o", "ControlMaster=yes"]
        argv += ["-o", "ControlPersist=no", "-N", "-T", ALIAS]
        master = stack.enter_context(run.spawn(argv, log_file=self.log, grace=2))
        deadline = time.monotonic() + timeout
        while master.poll() is None and time.monotonic() < deadline:
            if self.control.exists():
                self._stack = stack
                return True
            time.sleep(0.1)
        stack.close()
        return False

    def disconnect(self) -> None:
        """End the shared connection, if there is one."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None
        with contextlib.suppress(FileNotFoundError):
            self.control.unlink()

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """End the shared connection when the block ends."""
        try:
            yield self
        finally:
            self.disconnect()

    def run(self, command: str | Sequence[str], *, timeout: float, check: bool = False) -> Completed:
        """Run a command in the guest: a shell line, or words that reach the program unchanged.

        :raises CommandFailed: ssh itself failed (status 255) or took too long; with ``check`` any status
            but 0.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        result = run.run(["ssh", "-F", self.config, "-T", ALIAS, "--", line], timeout=timeout, check=False)
        if result.returncode == 255 or (check and result.returncode != 0):
            words = (
                "the connection to the guest failed"
                if result.returncode == 255
                else "a command in the guest failed"
            )
            tail = (result.stderr or result.stdout).rstrip().splitlines()[-15:]
            raise CommandFailed(
                f"{words}: {line}",
                argv=result.argv,
                returncode=result.returncode,
                output="\n".join(tail),
                details=tail,
            )
        return result


def was_refused(log: Path) -> bool:
    """Whether the last login ended because the guest does not know the key (or may not read it)."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return bool(lines) and "Permission denied" in lines[-1]


def explain_refusal(log: Path) -> HallmarkError:
    """The error for a guest whose ssh server answers but lets nobody in."""
    lines = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
    return HallmarkError(
        "the guest's ssh server answers but accepts no login",
        why="without it nothing inside the booted image can be checked",
        hint="cloud-init made no user, or sshd may not read its keys (SELinux labels): see the serial log",
        details=[run.redact(line) for line in lines],
    )
