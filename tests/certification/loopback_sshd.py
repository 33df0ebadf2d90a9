"""A real ssh server on the loopback interface, in the place of a machine that misbehaves in a chosen way.

For tests only. It runs as whoever runs the tests and lets nobody in but the one key made here; what a client
asks is run by a small program (ForceCommand), which may hang, babble or answer as a healthy machine does.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.run import find_program, spawn
from builder.vm.ssh import free_port, has_banner

__all__ = ["Server", "serve"]


@dataclass(frozen=True)
class Server:
    """Where it answers, as ``hallmark certify --hosts`` wants it."""

    url: str
    identity: Path
    known_hosts: Path


@contextmanager
def serve(directory: Path, *, program: str) -> Iterator[Server]:
    """Run a server whose every session is ``program`` (a shell script; the client's words are in
    SSH_ORIGINAL_COMMAND).
    """
    directory.mkdir(parents=True)
    directory.chmod(0o700)
    for name in ("host", "user"):
        key = directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    script = directory / "session"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o700)
    port = free_port()
    config = directory / "sshd_config"
    config.write_text(
        f"""\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host
PidFile none
AuthorizedKeysFile {directory}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
ForceCommand {script}
"""
    )
    # sshd wants this directory of a system that was booted; a container may lack it.
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    known = directory / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}")
    user = getpass.getuser()
    url = f"ssh://{user}@127.0.0.1:{port}?identity={directory}/user&known-hosts={known}"
    argv = [find_program("sshd"), "-D", "-e", "-f", config]
    with spawn(argv, log_file=directory / "sshd.log", grace=2) as process:
        end = time.monotonic() + 30
        while not has_banner(port):
            assert process.poll() is None and time.monotonic() < end, (directory / "sshd.log").read_text()
            time.sleep(0.05)
        yield Server(url, directory / "user", known)
