"""Subprocesses: output, failures, secrets, deadlines, and children that die with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder import run as runner
from builder.errors import CommandFailed, HallmarkError
from builder.run import run, spawn


def test_output_is_kept_apart() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 0)


def test_a_failure_names_the_command_the_status_and_the_last_lines() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo the reason >&2; exit 7"])
    assert caught.value.returncode == 7
    text = str(caught.value)
    assert "status 7" in text
    assert "the reason" in text
    assert "sh -c 'echo the reason >&2; exit 7'" in text


def test_a_missing_program_is_explained() -> None:
    with pytest.raises(HallmarkError, match="not installed"):
        run(["no-such-program-anywhere"])


def test_no_space_is_recognised() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo 'write: No space left on device' >&2; exit 1"])
    assert caught.value.hint is not None
    assert "disk is full" in caught.value.hint


def test_a_deadline_kills_grandchildren(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    with pytest.raises(CommandFailed, match="longer than"):
        run(["sh", "-c", f"sleep 60 & echo $! > {marker}; wait"], timeout=0.5)
    assert _ends(int(marker.read_text()))


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "_secrets", set())
    runner.register_secret("sv=2025&sig=abcdef")
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo 'failed: sv=2025&sig=abcdef'; exit 1"])
    assert "sig=abcdef" not in str(caught.value) + caught.value.output
    assert "***" in str(caught.value)
    journal = tmp_path / "log"
    run(["echo", "sv=2025&sig=abcdef"], log_file=journal)
    assert "$ " in journal.read_text()
    assert "sig=abcdef" not in journal.read_text().splitlines()[0]


def test_a_background_program_ends_with_its_block(tmp_path: Path) -> None:
    with spawn(["sleep", "60"], log_file=tmp_path / "log") as process:
        assert _alive(process.pid)
    assert not _alive(process.pid)


def test_children_die_when_hallmark_is_killed(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = f"from builder.run import run; run(['sh', '-c', 'echo $$ > {marker}; exec sleep 60'])"
    parent = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 10
    while not (marker.exists() and marker.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    child = int(marker.read_text())
    assert _alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _ends(child)


def _ends(pid: int) -> bool:
    """Whether a process that was killed is gone; on a busy machine that takes the kernel a moment."""
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().split(")")[-1].split()[0] != "Z"
