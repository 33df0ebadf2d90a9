"""Tell the user how far diskimage-builder is, from the log that it writes."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Event

from builder import log

__all__ = ["follow"]

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


def _report(line: str) -> None:
    if step := _STEP.search(line):
        # The shell's trace prints the command that prints the line, too.
        if "echo" not in line:
            log.info(step.group(1))
    elif package := _PACKAGE.search(line):
        log.progress("installing packages", int(package.group(1)), int(package.group(2)))
