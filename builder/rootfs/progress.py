"""Tell the user how far diskimage-builder or dnf is, from the log that it writes."""

from __future__ import annotations

import contextvars
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from builder import log

__all__ = ["follow", "shown"]

_STEP = re.compile(r"hallmark-step: (.+)$")
_PACKAGE = re.compile(r"(?:Installing|Downloading) +: .* (\d+)/(\d+) *$")
_POLL = 0.25


def follow(log_file: Path, stop: Event) -> None:
    """Report steps and packages until ``stop`` is set; returns after the last line that was there by then."""
    with log_file.open(encoding="utf-8", errors="replace") as stream:
        rest = ""
        while True:
            ended = stop.wait(_POLL)
            *lines, rest = (rest + stream.read()).split("\n")
            for line in lines:
                _report(line)
            if ended:
                return


@contextmanager
def shown(log_file: Path) -> Iterator[None]:
    """Report from an existing log as ``follow`` does, beside what is done within."""
    stop = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="progress") as pool:
        pool.submit(contextvars.copy_context().run, follow, log_file, stop)
        try:
            yield
        finally:
            stop.set()


def _report(line: str) -> None:
    if step := _STEP.search(line):
        # The shell's trace prints the command that prints the line, too.
        if "echo" not in line:
            log.info(step.group(1))
    elif package := _PACKAGE.search(line):
        log.progress("installing packages", int(package.group(1)), int(package.group(2)))
