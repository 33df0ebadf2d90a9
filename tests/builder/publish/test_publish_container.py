"""Publishing a container image: the same gate, to a directory, and nowhere that is made for disks."""

from __future__ import annotations

from pathlib import Path

import pytest
from publish_support import NOW, build, build_container

from builder import catalog
from builder.errors import HallmarkError
from builder.image import container
from builder.publish.publish import publish
from builder.recipe import Plan, find, load, plan
from builder.workspace import Artefacts, Workspace, digest_file
from certification import keys


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(load(find("dotnet-sample-9")), version="9.20261122.0", source_date_epoch=1_795_305_600)


@pytest.fixture
def made(space: Workspace, planned: Plan, pair: keys.KeyPair, tmp_path: Path) -> Artefacts:
    return build_container(space, planned, pair, tmp_path)


def test_it_goes_to_a_directory_and_into_the_catalog(
    made: Artefacts, space: Workspace, pair: keys.KeyPair, tmp_path: Path
) -> None:
    release = publish(
        made, destination=f"file://{tmp_path}/library", public_key=pair.public, workspace=space, now=NOW
    )
    [copy] = (tmp_path / "library").iterdir()
    assert copy.name == release.image.name == "dotnet-sample-9-9-20261122-0.oci.tar"
    assert digest_file(copy) == digest_file(made.output("oci")) == release.image.sha256
    assert (release.image.format, release.generations) == ("oci", ())
    assert release.image.digest == container.read(copy).digest
    page = catalog.write(space)
    text = page.read_text()
    assert f"sha256:{release.image.digest}" in text and "skopeo copy" in text and "Convert-VHD" not in text
    listed = catalog.Catalog.model_validate_json((page.parent / "catalog.json").read_bytes())
    assert listed.releases[0].release == release and "sbom" in listed.releases[0].files


def test_without_a_destination_it_stays_here(made: Artefacts, space: Workspace, pair: keys.KeyPair) -> None:
    release = publish(made, public_key=pair.public, workspace=space, now=NOW)
    assert release.locations[0].url.startswith((space.build / "containers").as_uri())


@pytest.mark.parametrize("destination", ["azurite", "azure://account/images"])
def test_it_goes_nowhere_that_is_made_for_disks(
    destination: str, made: Artefacts, space: Workspace, pair: keys.KeyPair
) -> None:
    with pytest.raises(HallmarkError, match="is a container image: it doesn't go to"):
        publish(made, destination=destination, public_key=pair.public, workspace=space, now=NOW)


def test_a_registry_takes_no_disk(
    sample_plan: Plan, space: Workspace, pair: keys.KeyPair, tmp_path: Path
) -> None:
    disk = build(space, sample_plan, pair)
    with pytest.raises(HallmarkError, match="is a disk: it doesn't go to oci:"):
        publish(disk, destination="oci://127.0.0.1:9", public_key=pair.public, workspace=space, now=NOW)


def test_the_gate_is_the_same(made: Artefacts, space: Workspace, pair: keys.KeyPair, tmp_path: Path) -> None:
    where = f"file://{tmp_path}/library"
    image = made.output("oci")
    data = bytearray(image.read_bytes())
    data[-1] ^= 1  # beyond the end of the tar: every reader takes the same image from it
    image.write_bytes(data)
    with pytest.raises(HallmarkError, match="another image"):
        publish(made, destination=where, public_key=pair.public, workspace=space, now=NOW)
    data[data.index(b"\x1f\x8b\x08") + 30] ^= 1
    image.write_bytes(data)
    with pytest.raises(HallmarkError, match="is damaged"):
        publish(made, destination=where, public_key=pair.public, workspace=space, now=NOW)
    made.certificate.unlink()
    with pytest.raises(HallmarkError, match="there is no certificate"):
        publish(made, destination=where, public_key=pair.public, workspace=space, now=NOW)
    assert not (tmp_path / "library").exists()
