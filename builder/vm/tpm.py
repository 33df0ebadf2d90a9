"""The TPM 2.0 of a guest: swtpm, which QEMU talks to over a socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder import run
from builder.errors import HallmarkError

__all__ = ["Tpm", "running"]

_DEADLINE = 20.0


@dataclass(frozen=True, slots=True)
class Tpm:
    """``state`` is the directory of what it remembers over a restart, ``socket`` its control socket."""

    state: Path
    socket: Path


@contextmanager
def running(tpm: Tpm, *, log_file: Path) -> Iterator[None]:
    """Run the emulator for the length of a ``with`` block: one power cycle of the machine.

    :raises HallmarkError: swtpm is not installed or does not start.
    """
    program = run.find_program("swtpm", hint="./ci/nox installs it: package swtpm")
    tpm.state.mkdir(parents=True, exist_ok=True)
    tpm.socket.unlink(missing_ok=True)
    # swtpm refuses relative paths.
    argv = [program, "socket", "--tpm2", "--tpmstate", f"dir={tpm.state.resolve()},mode=0600"]
    argv += ["--ctrl", f"type=unixio,path={tpm.socket.absolute()}", "--flags", "startup-clear"]
    with run.spawn(argv, log_file=log_file, grace=2) as process:
        end = time.monotonic() + _DEADLINE
        while not tpm.socket.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise HallmarkError(
                    "the TPM emulator does not start",
                    where=log_file,
                    why="Trusted Launch gives every machine a TPM, so the image has to be booted with one",
                    hint="the log says why; swtpm writes its state below the work directory",
                )
            time.sleep(0.02)
        yield
