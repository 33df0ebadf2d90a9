"""Subprocesses: output, failures, secrets, deadlines, and children that die with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder import redaction
from builder.errors import CommandFailed, HallmarkError
from builder.run import converse, register_secret, run, spawn


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
    monkeypatch.setattr(redaction, "_secrets", set())
    register_secret("sv=2025&sig=abcdef")
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo 'failed: sv=2025&sig=abcdef'; exit 1"])
    assert "sig=abcdef" not in str(caught.value) + caught.value.output
    assert "***" in str(caught.value)
    journal = tmp_path / "log"
    run(["echo", "sv=2025&sig=abcdef"], log_file=journal)
    assert "$ " in journal.read_text()
    assert "sig=abcdef" not in journal.read_text()
    assert "***" in journal.read_text().splitlines()[1]


def test_a_secret_of_several_lines_is_hidden_line_by_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(redaction, "_secrets", set())
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQE\n-----END PRIVATE KEY-----\n"
    register_secret(key)
    journal = tmp_path / "log"
    program = "import sys; sys.stdout.write(sys.stdin.read().replace('\\n', '\\nnoise: ', 3)); sys.exit(3)"
    with pytest.raises(CommandFailed) as caught:
        run([sys.executable, "-c", program], stdin=key, log_file=journal)
    shown = journal.read_text() + str(caught.value)
    assert "MIIEvQIBADANBg" not in shown
    assert "kqhkiG9w0BAQE" not in shown
    assert "-----BEGIN PRIVATE KEY-----" in shown, "the frame of a key is no secret and explains the rest"


def test_a_line_without_end_hides_its_secrets_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(redaction, "_secrets", set())
    register_secret("correct horse battery staple")
    program = "import sys\nfor _ in range(9000): sys.stdout.write('x' * 11 + 'correct horse battery staple')"
    run([sys.executable, "-c", program], log_file=tmp_path / "log")
    text = (tmp_path / "log").read_text().splitlines()[-1]
    assert text == ("x" * 11 + "***") * 9000


def test_the_log_of_a_background_program_hides_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(redaction, "_secrets", set())
    with spawn(["sh", "-c", "sleep 0.2; echo token=s3cr3t-value"], log_file=tmp_path / "log") as process:
        register_secret("s3cr3t-value")  # known only after the start
        process.wait(10)
    assert (tmp_path / "log").read_text() == "token=***\n"


@pytest.mark.parametrize("call", ["fail()", "t = threading.Thread(target=fail); t.start(); t.join()"])
def test_a_traceback_hides_secrets(call: str) -> None:
    program = (
        "import threading\n"
        "from builder.redaction import install_excepthook, register_secret\n"
        "install_excepthook()\n"
        "register_secret('s3cr3t-value')\n"
        "def fail(): raise RuntimeError('login with ' + 's3cr3t' + '-value failed')\n"
    )
    argv = [sys.executable, "-c", program + call]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "RuntimeError: login with *** failed" in done.stderr
    assert "s3cr3t-value" not in done.stderr


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


def test_a_conversation_ends_with_its_block() -> None:
    with converse(["sh", "-c", "sleep 600 & cat; echo never >&2"]) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"hello\n")
        assert process.stdout.read(6) == b"hello\n"
        group = process.pid
    assert process.returncode == -9 and process.stdout.closed
    end = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:  # until somebody has collected the child that was left
            os.killpg(group, 0)
            time.sleep(0.05)
    with pytest.raises(HallmarkError, match="is not installed"), converse(["no-such-program"]):
        pass
