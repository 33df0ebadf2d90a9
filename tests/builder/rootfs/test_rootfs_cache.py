"""One dnf at a time has the package cache, whatever process numbers its own locks hold."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from builder.rootfs.isolation import SHIMS

_SHIM = str(SHIMS / "with-cache")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache in which a dnf was killed that was number 1 in its namespace, as every init is."""
    path = tmp_path / "cache"
    path.mkdir()
    for name in ("metadata_lock.pid", "download_lock.pid"):
        (path / name).write_text("1")
    (path / "packages.solv").write_text("kept")
    return path


def test_locks_of_a_killed_dnf_are_gone_before_the_next(cache: Path) -> None:
    done = subprocess.run([_SHIM, cache, "ls", cache], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["hallmark.lock", "packages.solv"]


def test_the_status_is_the_command_s(cache: Path) -> None:
    assert subprocess.run([_SHIM, cache, "sh", "-c", "exit 7"], check=False, timeout=30).returncode == 7


def test_the_second_waits_and_leaves_the_lock_of_the_first(cache: Path) -> None:
    argv: list[str | Path] = [_SHIM, cache, sys.executable, "-c", "print('mine')"]
    with (cache / "hallmark.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert "hallmark-step: waiting for another run of dnf" in second.stdout.readline()
            assert (cache / "metadata_lock.pid").exists()
            assert second.poll() is None
            fcntl.flock(held, fcntl.LOCK_UN)
            assert second.communicate(timeout=30)[0] == "mine\n"
    assert not (cache / "metadata_lock.pid").exists()


def test_what_a_command_leaves_running_does_not_keep_the_cache(cache: Path) -> None:
    """A package's script may start an agent that outlives dnf."""
    argv: list[str | Path] = [_SHIM, cache, "sh", "-c", "sleep 60 >&- 2>&- & echo $!"]
    agent = int(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout)
    try:
        with (cache / "hallmark.lock").open("a") as free:
            fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        subprocess.run(["kill", str(agent)], check=True)
