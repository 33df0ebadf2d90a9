"""The command line in a process of its own, as a person runs it; and what is left when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.run import die_with_parent
from builder.workspace import PROJECT, Workspace

__all__ = ["hallmark", "kill_in", "left_behind"]


def hallmark(space: Workspace, *words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line on a workspace; fail the test when it ends with another status."""
    argv = [sys.executable, "-m", "builder.cli", *words, "--build-dir", str(space.build)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=PROJECT)
    if status is not None and done.returncode != status:
        pytest.fail(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def kill_in(space: Workspace, verb: str, *, step: str, after: float) -> None:
    """Run a verb on sample-9 and kill it (-9), ``after`` seconds into a step."""
    words = [verb, "sample-9", "--json", "--build-dir", str(space.build)]
    argv = [sys.executable, "-m", "builder.cli", *words]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    assert process.stdout is not None
    for line in process.stdout:
        record = json.loads(line)
        if record["event"] == "step-start" and record["title"] == step:
            break
    else:
        pytest.fail(f"{verb} ended before {step!r} began")
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()


def left_behind(space: Workspace) -> list[str]:
    """What still belongs to a build directory after a moment: libguestfs's watchman looks every 2 s."""
    deadline = time.monotonic() + 15
    while (found := _remains(space)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def _remains(space: Workspace) -> list[str]:
    """Mounts, loop devices and processes that belong to a build directory."""
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(space.build) in line]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        if str(space.build) in backing.read_text():
            found.append(f"{backing}: {backing.read_text().strip()}")
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(space.build) in words and command.parent.name != str(os.getpid()):
            found.append(words)
    return found
