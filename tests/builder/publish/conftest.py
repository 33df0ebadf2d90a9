"""Small images and a real Azurite for the tests of publishing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import publish_support
import pytest
from azure.storage.blob import ContainerClient
from gallery_support import client, fake, go, made, make, storage
from publish_support import NOW, Act

from builder.publish import azurite
from builder.publish.states import Actor
from builder.publish.storage import connect_azurite, open_container
from builder.recipe import Plan, find, load
from builder.recipe import plan as make_plan
from builder.workspace import Artefacts, Workspace
from certification import keys

__all__ = ["client", "fake", "go", "made", "make", "storage"]  # fixtures


@pytest.fixture
def make_vhd() -> Callable[..., Path]:
    return publish_support.make_vhd


@pytest.fixture
def vhd(tmp_path: Path) -> Path:
    return publish_support.make_vhd(tmp_path / "image.vhd")


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


@pytest.fixture(scope="session")
def sample_plan() -> Plan:
    return make_plan(load(find("sample-9")), version="9.20261122.0", source_date_epoch=1_790_000_000)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> keys.KeyPair:
    return keys.ensure(tmp_path_factory.mktemp("signer"))


@pytest.fixture
def space(workspace: Workspace, tmp_path: Path) -> Workspace:
    return Workspace.default(build=tmp_path / "build", cache=workspace.cache)


@pytest.fixture
def built(space: Workspace, sample_plan: Plan, pair: keys.KeyPair) -> Artefacts:
    """What building and certifying leave: an image, its plan, its certificate."""
    return publish_support.build(space, sample_plan, pair)


@pytest.fixture
def act(pair: keys.KeyPair) -> Act:
    """Each call is an hour later than the one before."""
    clock = iter(range(1, 1000))

    def actor(why: str = "tested by hand", *, now: datetime | None = None) -> Actor:
        moment = now or NOW + timedelta(hours=next(clock))
        return Actor.of(why=why, public_key=pair.public, who="anna", now=moment)

    return actor
