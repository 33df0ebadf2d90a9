"""Small images and a real Azurite for the tests of publishing."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from azure.storage.blob import ContainerClient

from builder.image.vhd import write_footer
from builder.publish import azurite
from builder.publish.storage import connect_azurite, open_container
from builder.workspace import Workspace

MIB = 1 << 20


def _make_vhd(path: Path, *, mib: int = 24, seed: int = 1) -> Path:
    """A sparse fixed VHD: a few runs of random bytes at odd places, written zeros, and holes."""
    source = random.Random(seed)
    with path.open("wb") as stream:
        stream.truncate(mib * MIB)
        os.pwrite(stream.fileno(), source.randbytes(512), 0)
        os.pwrite(stream.fileno(), bytes(2 * MIB), 1 * MIB)  # stored, but zero
        os.pwrite(stream.fileno(), source.randbytes(5 * MIB + 4096), 3 * MIB + 512)  # more than one request
        if mib >= 64:
            os.pwrite(stream.fileno(), source.randbytes(33 * MIB), 20 * MIB)
        os.pwrite(stream.fileno(), source.randbytes(1024), 12 * MIB + 7 * 512)
        os.pwrite(stream.fileno(), source.randbytes(3 * 512), mib * MIB - 5 * 512)  # next to the footer
    write_footer(path, timestamp=1_790_000_000, unique_id=UUID(int=seed))
    return path


@pytest.fixture
def make_vhd() -> Callable[..., Path]:
    return _make_vhd


@pytest.fixture
def vhd(tmp_path: Path) -> Path:
    return _make_vhd(tmp_path / "image.vhd")


@pytest.fixture(scope="session")
def azurite_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("azurite")


@pytest.fixture(scope="session")
def server(workspace: Workspace, azurite_directory: Path) -> Iterator[azurite.Azurite]:
    """One Azurite for the session; each test gets its own container."""
    log_file = azurite_directory / "server.log"
    with azurite.serve(location=azurite_directory, cache=workspace.cache, log_file=log_file) as running:
        yield running


@pytest.fixture
def container(server: azurite.Azurite, request: pytest.FixtureRequest) -> Iterator[ContainerClient]:
    name = f"t{abs(hash(request.node.nodeid)):x}"
    with connect_azurite(server) as service:
        yield open_container(service, name, public=False)
