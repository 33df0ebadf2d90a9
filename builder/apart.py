"""Work in a process with mount and PID namespaces of its own, so that the host sees nothing it mounts.

However the process ends, the kernel ends what it started and takes its mounts and memory back. It is a module
that is run as a program: it reads its job from standard input and tells a problem on standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from builder import memory
from builder.errors import HallmarkError
from builder.run import run

__all__ = ["available_memory", "call", "mount_memory", "serve"]

_MIB = 1 << 20


def call(module: str, job: str, *, what: str, log: Path) -> str:
    """Run a module apart from the host and return what it printed.

    :param job: goes to its standard input; it may hold a secret.
    :param what: what it does ("filling the filesystems"), for a failure without words.
    :raises HallmarkError: as the module raised it, in the same words.
    """
    apart = (
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    )
    done = run((*apart, sys.executable, "-m", module), stdin=job, check=False)
    if done.returncode == 0:
        return done.stdout
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise HallmarkError(
            f"{what} ended with status {done.returncode}",
            where=log,
            details=done.stderr.splitlines()[-20:],
        ) from None
    raise HallmarkError(
        told["what"], where=told["where"], why=told["why"], hint=told["hint"], details=told["details"]
    )


def serve(work: Callable[[str], str | None]) -> int:
    """The module's side: hand the job to ``work``, print what it returns; returns the exit status."""
    try:
        answer = work(sys.stdin.read())
    except HallmarkError as error:
        return _tell(error)
    except OSError as error:
        problem = HallmarkError(
            f"a file could not be made: {error.strerror}",
            where=error.filename,
            hint="free space or memory, or use another --build-dir",
        )
        return _tell(problem)
    if answer is not None:
        print(answer)
    return 0


def _tell(error: HallmarkError) -> int:
    where = None if error.where is None else str(error.where)
    fields = {"what": error.what, "where": where, "why": error.why, "hint": error.hint}
    print(json.dumps({**fields, "details": list(error.details)}))
    return error.exit_code


def available_memory(needed: int) -> int:
    """The size in bytes of a filesystem in memory for ``needed`` bytes of files, or 0 when that would take
    over half of the free memory."""
    size = needed + needed // 4 + 64 * _MIB
    return size if size < memory.available() // 2 else 0


def mount_memory(directory: Path, size: int) -> None:
    """Mount a filesystem in memory of ``size`` bytes on a directory; 0 leaves the directory as it is."""
    if size:
        run(("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", directory))
