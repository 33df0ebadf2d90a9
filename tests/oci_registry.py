"""A container registry on the loopback: Debian's docker-registry, unpacked and not installed.

Its package would start a server of its own, on every address of the machine.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.run import run, spawn
from builder.workspace import Workspace, atomic_directory, one_at_a_time

__all__ = ["PASSWORD", "RECIPE", "Registry", "serve"]

RECIPE = "dotnet-sample-9"
PASSWORD = "opensesame-7"
#: bcrypt of that, as htpasswd writes it.
_HASH = "$2b$04$oM4xUKVCg/sKBTrHGCR5iOnRQuyT5343IjjdOdnqv2teyQWm0aUfC"


@dataclass(frozen=True)
class Registry:
    """Where it answers, and where it keeps its files."""

    host: str
    data: Path

    def destination(self, namespace: str = "team") -> str:
        """As ``--destination`` takes it."""
        return f"oci://{self.host}/{namespace}"

    def manifest(self, reference: str, namespace: str = "team") -> bytes:
        """What any client gets for a tag (``:9``) or a digest (``@sha256:…``)."""
        address = f"docker://{self.host}/{namespace}/{RECIPE}{reference}"
        return run(("skopeo", "inspect", "--raw", "--tls-verify=false", address)).stdout.encode()

    def tags(self, namespace: str = "team") -> list[str]:
        """Every tag of the recipe's repository."""
        address = f"docker://{self.host}/{namespace}/{RECIPE}"
        found = json.loads(run(("skopeo", "list-tags", "--tls-verify=false", address)).stdout)
        return sorted(found["Tags"])


def _program() -> Path:
    if shutil.which("apt-get") is None:
        pytest.skip("the registry server of these tests comes from Debian, and this is not Debian")
    unpacked = Workspace.default().cache / "docker-registry"
    with one_at_a_time(unpacked.with_suffix(".lock"), "unpack the registry server"):
        if unpacked.exists():
            return unpacked / "usr/bin/docker-registry"
        with atomic_directory(unpacked) as new, tempfile.TemporaryDirectory(dir="/var/tmp") as work:
            run(("apt-get", "--quiet=2", "update"), timeout=600)
            run(("apt-get", "--quiet=2", "download", "docker-registry"), cwd=Path(work), timeout=600)
            [package] = Path(work).glob("*.deb")
            run(("dpkg-deb", "--extract", package, new))
    return unpacked / "usr/bin/docker-registry"


@contextmanager
def serve(directory: Path, *, password: bool = False) -> Iterator[Registry]:
    """Run a registry below ``directory``; with ``password`` it lets only the user ``builder`` in."""
    program = _program()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (directory / "htpasswd").write_text(f"builder:{_HASH}\n")
    settings = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        **({"auth": {"htpasswd": {"realm": "r", "path": str(directory / "htpasswd")}}} if password else {}),
    }
    (directory / "config.json").write_text(json.dumps(settings))
    with spawn((program, "serve", directory / "config.json"), log_file=directory / "log") as process:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                time.sleep(0.05)
        yield Registry(f"127.0.0.1:{port}", directory / "data")
