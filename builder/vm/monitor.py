"""QEMU's monitor protocol (QMP), as little of it as a guest's life needs."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

from builder.errors import HallmarkError

__all__ = ["execute"]


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


def _reply(stream: BinaryIO, path: Path, command: str) -> object:
    while line := stream.readline():
        message = json.loads(line)
        if "return" in message:
            return message["return"]
        if "error" in message:
            raise HallmarkError(f"QEMU refuses {command!r}: {message['error'].get('desc')}", where=path)
    raise HallmarkError(f"QEMU ended before it answered {command!r}", where=path)
