"""QEMU's monitor protocol (QMP), as little of it as a guest's life needs."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from builder.errors import HallmarkError

__all__ = ["EventLog", "execute"]


def execute(
    path: Path, command: str, arguments: Mapping[str, object] | None = None, *, timeout: float = 10
) -> object:
    """Run one command over the monitor socket and return its ``return`` value.

    :raises HallmarkError: QEMU is gone, does not answer within ``timeout`` seconds, or refuses the command.
    """
    request = {"execute": command, **({"arguments": dict(arguments)} if arguments else {})}
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            with connection.makefile("rwb") as raw:
                stream = cast(BinaryIO, raw)
                stream.readline()  # the greeting
                for message in ({"execute": "qmp_capabilities"}, request):
                    stream.write(json.dumps(message).encode() + b"\n")
                    stream.flush()
                    reply = _reply(stream, path, command)
    except OSError as error:
        raise HallmarkError(f"QEMU's monitor does not answer {command!r}: {error}", where=path) from None
    return reply


class EventLog:
    """Keeps a monitor connection open, so that the reason of QEMU's end can be read after it.

    The few events of a guest's life wait in the socket; nobody has to read them while the guest runs.
    """

    def __init__(self, path: Path, process: subprocess.Popen[bytes], *, timeout: float = 30) -> None:
        """Connect to the monitor of a QEMU that was just started; without one there are no events."""
        self._socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + timeout
        while process.poll() is None and time.monotonic() < end:
            try:
                self._socket.connect(str(path))
                self._socket.sendall(b'{"execute": "qmp_capabilities"}\n')
                return
            except (FileNotFoundError, ConnectionRefusedError, BrokenPipeError):
                time.sleep(0.02)

    def end_reason(self) -> str | None:
        """Why QEMU ended, in the words of its SHUTDOWN event (``guest-reset``, ``guest-shutdown``, …)."""
        data = b""
        with suppress(OSError):
            self._socket.settimeout(5)
            while chunk := self._socket.recv(65536):
                data += chunk
        self.close()
        reason: str | None = None
        for line in data.splitlines():
            message = json.loads(line) if line.endswith(b"}") else {}
            if message.get("event") == "SHUTDOWN":
                reason = message["data"]["reason"]
        return reason

    def close(self) -> None:
        """Give the connection up."""
        self._socket.close()


def _reply(stream: BinaryIO, path: Path, command: str) -> object:
    while line := stream.readline():
        message = json.loads(line)
        if "return" in message:
            return message["return"]
        if "error" in message:
            raise HallmarkError(f"QEMU refuses {command!r}: {message['error'].get('desc')}", where=path)
    raise HallmarkError(f"QEMU ended before it answered {command!r}", where=path)
