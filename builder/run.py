"""The one place that starts other programs.

Commands are argument tuples, never shell strings. A failure names the command to paste, the last lines of
its output and a hint; a killed Hallmark takes its children with it.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import log
from builder.errors import CommandFailed, HallmarkError
from builder.redaction import pump, redact, register_secret

__all__ = [
    "Completed",
    "Programs",
    "attach",
    "converse",
    "die_with_parent",
    "find_program",
    "may_go_on",
    "redact",
    "register_secret",
    "run",
    "spawn",
]

Arg = str | os.PathLike[str]

_TAIL_LINES = 25
_PR_SET_PDEATHSIG = 1
_LOG_SECONDS = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program left: ``argv``, ``returncode``, and its decoded ``stdout`` and ``stderr``."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG).

    Runs between fork and exec; a ``kill -9`` of Hallmark then leaves no build and no guest behind.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Programs:
    """The programs of one undertaking, which can be ended together (``within``, ``stop``)."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @contextmanager
    def within(self) -> Iterator[None]:
        """What is started within, in this context, belongs to the undertaking."""
        token = _programs.set(self)
        try:
            yield
        finally:
            _programs.reset(token)

    def stop(self) -> None:
        """Kill the programs that run, with their children, and start no more.

        A thread that waits for one, or wants to start one, gets a KeyboardInterrupt.
        """
        with self._starting:
            self._stopped = True
            for process in self._running:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)

    def check(self) -> None:
        """Asked by a thread before it calls its work done.

        :raises KeyboardInterrupt: programs were, or may have been, ended under it.
        """
        if self._stopped:
            raise KeyboardInterrupt

    @contextmanager
    def start(self, words: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Start a program in a session of its own; it belongs to the undertaking while the block lasts."""
        with self._starting:  # none slips in while the others are killed
            self.check()
            # die_with_parent is one C call: no Python state is touched between fork and exec.
            process = subprocess.Popen(words, start_new_session=True, preexec_fn=die_with_parent, **how)
            self._running.add(process)
        try:
            yield process
        finally:
            with self._starting:
                self._running.discard(process)


_everything = Programs()
_programs: ContextVar[Programs] = ContextVar("programs", default=_everything)


def may_go_on() -> None:
    """Asked before work is called done; see ``Programs.check``."""
    _programs.get().check()


def find_program(name: str, *, hint: str | None = None) -> str:
    """The absolute path of a program, the sbin directories included.

    :raises HallmarkError: the program is not installed.
    """
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        raise HallmarkError(
            f"the program {name!r} is not installed",
            why="Hallmark calls it for this step",
            hint=hint or "run ./ci/nox once: it installs what is missing; `hallmark doctor` lists each miss",
        )
    return found


def run(
    argv: Sequence[Arg],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    check: bool = True,
    log_file: Path | None = None,
    timeout: float | None = None,
    hint: str | None = None,
) -> Completed:
    """Run a program to its end.

    :param env: variables added to the inherited environment.
    :param log_file: append stdout and stderr here, redacted, instead of keeping them; the result then holds
        no output.
    :param timeout: seconds until the program and its children are killed.
    :raises CommandFailed: with ``check``, the status was not 0; always, the deadline passed.
    :raises HallmarkError: the program is not installed.
    """
    words = _words(argv)
    words[0] = find_program(words[0]) if "/" not in words[0] else words[0]
    shown = tuple(redact(word) for word in words)
    log.debug(f"$ {shlex.join(shown)}")
    data = stdin.encode() if isinstance(stdin, str) else stdin
    with ExitStack() as stack:
        sink = stack.enter_context(_log(log_file)) if log_file else None
        if sink is not None:
            os.write(sink, f"$ {shlex.join(shown)}\n".encode())
        try:
            process = stack.enter_context(
                _programs.get().start(
                    words,
                    cwd=cwd,
                    env={**os.environ, **env} if env else None,
                    stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if sink is None else sink,
                    stderr=subprocess.PIPE if sink is None else subprocess.STDOUT,
                )
            )
        except FileNotFoundError as error:
            raise HallmarkError(f"cannot run {words[0]}: {error.strerror}", where=error.filename) from None
        try:
            out, err = process.communicate(data, timeout=timeout)
        except BaseException as error:
            _kill_group(process)
            if isinstance(error, subprocess.TimeoutExpired):
                late = f"took longer than {timeout:g} s"
                stack.close()
                raise _failure(shown, -signal.SIGKILL, "", log_file, late, hint) from None
            raise
        may_go_on()
    stdout = redact((out or b"").decode(errors="replace"))
    stderr = redact((err or b"").decode(errors="replace"))
    if check and process.returncode != 0:
        raise _failure(shown, process.returncode, stderr or stdout, log_file, None, hint)
    return Completed(shown, process.returncode, stdout, stderr)


def attach(argv: Sequence[Arg]) -> int:
    """Hand the terminal to a program (a shell for a person) until it ends; returns its status.

    :raises HallmarkError: the program is not installed.
    """
    words = _words(argv)
    words[0] = find_program(words[0]) if "/" not in words[0] else words[0]
    # Same process group and terminal: the program, not Hallmark, gets what the person types.
    process = subprocess.Popen(words, preexec_fn=die_with_parent)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


@contextmanager
def spawn(
    argv: Sequence[Arg],
    *,
    log_file: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    grace: float = 10.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the background for the length of a ``with`` block.

    It is ended by its own process group: SIGTERM, after ``grace`` seconds SIGKILL. Its output goes to
    ``log_file``.
    """
    words = _words(argv)
    words[0] = find_program(words[0]) if "/" not in words[0] else words[0]
    log.debug(f"$ {redact(shlex.join(words))} &")
    with (
        _log(log_file) as sink,
        _programs.get().start(
            words,
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(grace)
            _kill_group(process)


@contextmanager
def converse(argv: Sequence[Arg]) -> Iterator[subprocess.Popen[bytes]]:
    """Talk with a program for the length of a ``with`` block: its stdin, stdout and stderr are unbuffered
    pipes. It and its children are killed at the end.

    :raises HallmarkError: the program is not installed.
    """
    words = _words(argv)
    words[0] = find_program(words[0]) if "/" not in words[0] else words[0]
    log.debug(f"$ {redact(shlex.join(words))} <>")
    pipe = subprocess.PIPE
    with _programs.get().start(words, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            _kill_group(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@contextmanager
def _log(path: Path) -> Iterator[int]:
    """A file descriptor for a program to print to; what it prints is appended to ``path``, redacted."""
    source, sink = os.pipe()
    copier = threading.Thread(
        target=pump, args=(source, path.open("ab")), name=f"log {path.name}", daemon=True
    )
    copier.start()
    try:
        yield sink
    finally:
        os.close(sink)
        # It ends when nobody holds the pipe any more; a process that left its group may hold it for long.
        copier.join(_LOG_SECONDS)


def _words(argv: Sequence[Arg]) -> list[str]:
    if not argv:
        raise ValueError("empty command")
    return [os.fspath(word) for word in argv]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _failure(
    argv: tuple[str, ...], status: int, output: str, log_file: Path | None, what: str | None, hint: str | None
) -> CommandFailed:
    if log_file is not None and log_file.exists():
        with log_file.open("rb") as stream:
            stream.seek(max(0, log_file.stat().st_size - 65536))
            output = redact(stream.read().decode(errors="replace"))
    if what is None:
        what = (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        )
    tail = output.rstrip().splitlines()[-_TAIL_LINES:]
    if "No space left on device" in output:
        hint = (
            "the disk is full: free space (build/, the package cache) or point --build-dir at a larger disk"
        )
    return CommandFailed(
        f"{Path(argv[0]).name} {what}",
        where=log_file,
        argv=argv,
        returncode=status,
        output="\n".join(tail),
        details=[*tail, f"command: {shlex.join(argv)}"],
        hint=hint,
    )
