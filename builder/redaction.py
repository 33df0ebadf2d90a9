"""What must never be shown: the one list of secrets, and how text is freed of them.

Everything that Hallmark prints or writes for people goes through ``redact``: progress, events, errors,
tracebacks, and the logs of the programs that it runs.
"""

from __future__ import annotations

import re
import sys
import threading
import traceback
from types import TracebackType
from typing import BinaryIO

__all__ = ["install_excepthook", "pump", "redact", "register_secret"]

_SHORTEST = 6
_FRAME = re.compile(r"-----[A-Z0-9 ]+-----")
_HELD_BACK = 1 << 16
_secrets: set[str] = set()


def register_secret(value: str) -> None:
    """Make sure that ``value`` is never shown: not in a command line, an output, a log or an error.

    Of a value of several lines (a key in PEM) each line counts by itself, because programs quote files line
    by line; the lines that only frame such a block are no secret. What is shorter than 6 characters can't be
    told from ordinary text and is left alone.
    """
    for text in (value.strip(), *(line.strip() for line in value.splitlines())):
        if len(text) >= _SHORTEST and not _FRAME.fullmatch(text):
            _secrets.add(text)


def redact(text: str) -> str:
    """``text`` with every registered secret replaced by ``***``."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def pump(source: int, sink: BinaryIO) -> None:
    """Copy what a program prints from the file descriptor ``source`` to ``sink``, redacted, until it ends.

    Both are closed then. Whole lines are written as soon as they are there, so that others can follow the
    file; of a line that never ends, all but as much as the longest secret has.
    """
    held = b""
    with open(source, "rb", buffering=0) as stream, sink:
        while chunk := stream.read(1 << 16):
            held += chunk
            cut = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
            if not cut and len(held) > _HELD_BACK:
                held = _redacted(held)
                cut = max(0, len(held) - max((len(secret.encode()) for secret in _secrets), default=0))
            if cut:
                sink.write(_redacted(held[:cut]))
                sink.flush()
                held = held[cut:]
        sink.write(_redacted(held))


def install_excepthook() -> None:
    """Redact the traceback of an exception that nobody expected, too, in whichever thread it happens."""
    sys.excepthook = _show_traceback
    threading.excepthook = _show_thread


def _show_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _show_traceback(args.exc_type, args.exc_value, args.exc_traceback)


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def _redacted(data: bytes) -> bytes:
    for secret in sorted(_secrets, key=len, reverse=True):
        data = data.replace(secret.encode(), b"***")
    return data
