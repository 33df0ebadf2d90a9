"""A container in a registry: docker-registry itself on the loopback, and skopeo as every consumer has it."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from publish_support import NOW, build_container

from builder import catalog, log
from builder.cli import main
from builder.errors import HallmarkError
from builder.image import container
from builder.publish.publish import publish
from builder.publish.registry import CREDENTIALS, SBOM_TYPE
from builder.publish.release import Release
from builder.publish.states import Actor, change, rollback
from builder.recipe import Plan, find, load, plan
from builder.run import run
from builder.workspace import Artefacts, Workspace
from certification import keys
from tests.oci_registry import PASSWORD, RECIPE, Registry, serve

pytestmark = pytest.mark.system

VERSIONS = ("9.20261121.0", "9.20261122.0")
_COPY = ("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serve(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    recipe = load(find(RECIPE))
    return [plan(recipe, version=version, source_date_epoch=1_795_305_600) for version in VERSIONS]


@pytest.fixture
def send(pair: keys.KeyPair, space: Workspace) -> Callable[[Artefacts, str], Release]:
    def call(made: Artefacts, destination: str) -> Release:
        return publish(made, destination=destination, public_key=pair.public, workspace=space, now=NOW)

    return call


Send = Callable[[Artefacts, str], Release]


@pytest.fixture
def made(space: Workspace, plans: list[Plan], pair: keys.KeyPair, tmp_path: Path) -> list[Artefacts]:
    """Two versions, oldest first."""
    return [build_container(space, item, pair, tmp_path, text=item.version.encode() * 1000) for item in plans]


def test_consumers_pull_what_was_certified_with_its_bill_of_materials(
    made: list[Artefacts], send: Send, registry: Registry, space: Workspace, tmp_path: Path
) -> None:
    release = send(made[0], registry.destination())
    digest = release.image.digest
    [place] = release.locations
    assert place.url == f"docker://{registry.host}/team/{RECIPE}@sha256:{digest}"
    assert place.upload.sent == made[0].output("oci").stat().st_size
    assert registry.tags() == [VERSIONS[0], f"sha256-{digest}.sbom"]
    run((*_COPY, place.url, f"oci-archive:{tmp_path}/p"))
    assert container.read(tmp_path / "p").digest == digest
    assert registry.manifest(f":{VERSIONS[0]}") == registry.manifest(f"@sha256:{digest}")
    bill = json.loads(registry.manifest(f":sha256-{digest}.sbom"))
    assert (bill["artifactType"], bill["subject"]["digest"]) == (SBOM_TYPE, f"sha256:{digest}")
    [layer] = bill["layers"]
    address = f"docker://{registry.host}/team/{RECIPE}:sha256-{digest}.sbom"
    run((*_COPY, address, f"dir:{tmp_path}/bill"))
    held = tmp_path / "bill" / layer["digest"].removeprefix("sha256:")
    assert held.read_bytes() == made[0].sbom.read_bytes()

    page = catalog.write(space)
    listed = json.loads((page.parent / "catalog.json").read_text())["releases"]
    assert listed[0]["release"]["locations"][0]["url"] == place.url
    assert f"podman run --rm -v ./publish:/opt/app-root/app:ro,Z {place.url}" in page.read_text()
    again = send(made[0], registry.destination())
    assert again == release, "nothing is sent twice, and the record says the same"
    assert not list(space.work.glob("*-registry"))


def test_a_version_never_becomes_another_image(
    made: list[Artefacts],
    send: Send,
    registry: Registry,
    plans: list[Plan],
    pair: keys.KeyPair,
    tmp_path: Path,
) -> None:
    first = send(made[0], registry.destination("still"))
    other = Workspace.default(build=tmp_path / "other", cache=tmp_path)
    rebuilt = build_container(other, plans[0], pair, tmp_path, text=b"something else")
    with pytest.raises(HallmarkError, match="published already, as another image") as caught:
        publish(
            rebuilt,
            destination=registry.destination("still"),
            public_key=pair.public,
            workspace=other,
            now=NOW,
        )
    assert f"sha256:{first.image.digest}" in str(caught.value)
    assert not rebuilt.release.exists()
    assert len(registry.tags("still")) == 2

    made[0].sbom.write_text("another")
    with pytest.raises(HallmarkError, match="another bill of materials is attached"):
        send(made[0], registry.destination("still"))


def test_a_registry_that_gives_back_other_bytes_is_found_out(
    made: list[Artefacts], send: Send, tmp_path: Path
) -> None:
    with serve(tmp_path) as own:
        release = send(made[0], own.destination())
        layer = json.loads(own.manifest(f"@sha256:{release.image.digest}"))["layers"][0]["digest"]
        name = layer.removeprefix("sha256:")
        data = own.data / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"
        broken = bytearray(data.read_bytes())
        broken[40] ^= 1
        data.write_bytes(broken)
        made[0].release.unlink()
        with pytest.raises(HallmarkError, match="registry"):
            send(made[0], own.destination())
        assert not made[0].release.exists()


def test_the_tag_of_the_major_release_follows_the_channel(
    made: list[Artefacts], send: Send, registry: Registry, space: Workspace, pair: keys.KeyPair
) -> None:
    clock = iter(range(1, 100))

    def actor() -> Actor:
        when = NOW + timedelta(hours=next(clock))
        return Actor.of(why="tested", public_key=pair.public, who="anna", now=when)

    def current() -> str | None:
        tags = registry.tags("channel")
        return next((item for item in VERSIONS if "9" in tags and is_(item)), None)

    def is_(version: str) -> bool:
        return registry.manifest(":9", "channel") == registry.manifest(f":{version}", "channel")

    for item in made:
        send(item, registry.destination("channel"))
    assert current() is None, "nothing is released yet"
    change(space, RECIPE, "released", version=VERSIONS[1], actor=actor())
    assert current() == VERSIONS[1]
    change(space, RECIPE, "released", version=VERSIONS[0], actor=actor())
    assert current() == VERSIONS[1], "an older one that is released later is not newer"
    rollback(space, RECIPE, to=VERSIONS[0], actor=actor())
    assert current() == VERSIONS[0]
    assert VERSIONS[1] in registry.tags("channel"), "what somebody pins stays"


def test_credentials_are_used_and_never_shown(
    made: list[Artefacts],
    send: Send,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    log.configure(verbose=True)
    with serve(tmp_path, password=True) as own:
        with pytest.raises(HallmarkError, match="the registry refuses") as caught:
            send(made[0], own.destination())
        assert "skopeo login" in str(caught.value) and CREDENTIALS in str(caught.value)
        for value, complaint in (
            ("builder:wrongsesame", "the registry refuses"),
            (PASSWORD, "not USER:PASSWORD"),
        ):
            monkeypatch.setenv("SITE_REGISTRY", value)
            monkeypatch.setenv(CREDENTIALS, "env:SITE_REGISTRY")
            with pytest.raises(HallmarkError, match=complaint):
                send(made[0], own.destination())
        monkeypatch.setenv(CREDENTIALS, f"builder:{PASSWORD}")
        with pytest.raises(HallmarkError, match="doesn't say where the credentials are"):
            send(made[0], own.destination())
        assert not made[0].release.exists()

        (tmp_path / "secret").write_text(f"builder:{PASSWORD}\n")
        monkeypatch.setenv(CREDENTIALS, f"file:{tmp_path / 'secret'}")
        send(made[0], own.destination())
        monkeypatch.delenv(CREDENTIALS)
        encoded = base64.b64encode(f"builder:{PASSWORD}".encode()).decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {own.host: {"auth": encoded}}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        send(made[1], own.destination())
    said = "".join(capfd.readouterr())
    assert "skopeo" in said, "the programs that run are shown"
    for secret in (PASSWORD, "wrongsesame", encoded):
        assert secret not in said
        kept = (path for path in made[0].root.parent.rglob("*") if path.is_file())
        assert not [path for path in kept if secret.encode() in path.read_bytes()]


def test_a_registry_that_is_down_is_told(
    made: list[Artefacts], send: Send, space: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nowhere = f"oci://127.0.0.1:{probe.getsockname()[1]}/team"
    with pytest.raises(HallmarkError, match="the registry can't be used") as caught:
        send(made[0], nowhere)
    assert "connection refused" in str(caught.value) and not made[0].release.exists()
    assert main(["gc", "--destination", nowhere, "--build-dir", str(space.build)]) == 1
    assert "a registry isn't cleared" in capfd.readouterr().err
