"""One shell in a guest for all the commands of a look.

A session for each command costs an emulated guest more than half a second (a process of sshd, a login shell,
sudo with all of PAM); a command in a shell that is already there costs a fork. A shell in which something
went wrong is given up, and the next command gets a new one.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import selectors
import shlex
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO

from builder.errors import HallmarkError
from builder.run import converse

__all__ = ["Answer", "GuestShell", "NoAnswer"]

_PIECE = 1 << 16
_SHOWN = 300
_LAST_WORDS_SECONDS = 2.0
# ssh(1): its own exit status when it failed, and not what it ran.
_SSH_FAILED = 255


class NoAnswer(HallmarkError):
    """The guest hangs, answers something else, or the connection to it broke."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left: its exit status and both outputs."""

    status: int
    stdout: bytes
    stderr: bytes


class GuestShell:
    """A POSIX shell that reads commands from its stdin; started when one is asked for.

    :param argv: the program that connects this process with the shell.
    """

    def __init__(self, argv: Sequence[str | os.PathLike[str]]) -> None:
        self._argv = tuple(argv)
        self._open = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: str, *, timeout: float, limit: int) -> Answer:
        """Run a shell command in a process of its own, without input.

        :param timeout: seconds, those included that a new shell takes to come up.
        :param limit: bytes that each of its outputs may have.
        :raises NoAnswer: no answer in time, something else than an answer, or the connection broke.
        :raises HallmarkError: it printed more than ``limit``.
        """
        end = time.monotonic() + timeout
        try:
            if self._process is None:
                self._process = self._open.enter_context(converse(self._argv))
                # What a login prints before the first command is nobody's answer.
                _Exchange(self._process, ":", limit).answer(end)
            return _Exchange(self._process, command, limit).answer(end)
        except TimeoutError:
            self.close()
            raise NoAnswer(
                f"the guest did not finish a command within {timeout:g} s", details=[command[:_SHOWN]]
            ) from None
        except BaseException:
            # Whatever comes from it later would be taken for the answer to something else.
            self.close()
            raise

    def close(self) -> None:
        """End the shell; safe to call again."""
        self._process = None
        self._open.close()


class _Output:
    """One of the two outputs, until the line that marks the end of a command."""

    def __init__(self, stream: IO[bytes] | None, nonce: str) -> None:
        assert stream is not None
        self.stream = stream
        self.data = bytearray()
        self.status: int | None = None
        self._mark = re.compile(rb"\n%s (\d{1,3})\n\Z" % nonce.encode())

    def take(self) -> bool:
        """Read what is there; False when there will never be more."""
        piece = os.read(self.stream.fileno(), _PIECE)
        self.data += piece
        found = self._mark.search(self.data, max(0, len(self.data) - 64))
        if found is not None:
            self.status = int(found[1])
            del self.data[found.start() :]
        return bool(piece)


class _Exchange:
    """One command and its answer."""

    def __init__(self, process: subprocess.Popen[bytes], command: str, limit: int) -> None:
        nonce = secrets.token_hex(16)
        self._process = process
        self._command = command
        self._limit = limit
        self._outputs = (_Output(process.stdout, nonce), _Output(process.stderr, nonce))
        # Quoted, so that no command breaks out of its line; a program of its own, so that none ends the shell
        # or eats its input.
        self._unsent = memoryview(
            (
                f"/bin/sh -c {shlex.quote(command)} </dev/null; s=$?; "
                f"printf '\\n%s %d\\n' {nonce} $s; printf '\\n%s %d\\n' {nonce} $s >&2\n"
            ).encode()
        )

    def answer(self, end: float) -> Answer:
        """Send the command and wait for the marks on both outputs.

        :param end: by ``time.monotonic()``.
        :raises TimeoutError: they didn't come in time.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(_stdin(self._process), selectors.EVENT_WRITE)
            for output in self._outputs:
                selector.register(output.stream, selectors.EVENT_READ, output)
            while any(output.status is None for output in self._outputs):
                remaining = end - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError
                for key, _ in selector.select(remaining):
                    if key.data is not None:
                        self._take(key.data)
                    elif self._sent():
                        selector.unregister(key.fileobj)
        stdout, stderr = self._outputs
        return Answer(stdout.status or 0, bytes(stdout.data), bytes(stderr.data))

    def _sent(self) -> bool:
        """Send as much as the pipe takes without waiting; whether that was the rest."""
        # The other side ended: its outputs will say so.
        with suppress(BrokenPipeError):
            sent = os.write(_stdin(self._process).fileno(), self._unsent[: select.PIPE_BUF])
            self._unsent = self._unsent[sent:]
            return not self._unsent
        return True

    def _take(self, output: _Output) -> None:
        more = output.take()
        if len(output.data) > self._limit:
            raise HallmarkError(
                f"the guest printed more than {self._limit} bytes", details=[self._command[:_SHOWN]]
            )
        if not more:
            raise self._ended()

    def _ended(self) -> NoAnswer:
        """The shell is gone; why."""
        errors = self._outputs[1]
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_SECONDS)
        # Not until its end: a process that ssh leaves in the background holds the pipe open.
        while select.select([errors.stream], [], [], 0.1)[0] and len(errors.data) < self._limit:
            if not errors.take():
                break
        said = errors.data.decode(errors="replace").strip().splitlines()[-5:]
        if self._process.poll() == _SSH_FAILED:
            return NoAnswer(
                "the connection to the guest broke",
                details=[self._command[:_SHOWN], *said],
                hint="the serial log of the guest says more",
            )
        return NoAnswer(
            "the guest doesn't answer what it is asked",
            why="there is no shell that runs commands as root",
            details=[self._command[:_SHOWN], f"status {self._process.poll()}", *said],
        )


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin
