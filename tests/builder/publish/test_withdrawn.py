"""What was withdrawn, in a real Azurite: it can be taken back in an emergency, and comes back by no way."""

from __future__ import annotations

import pytest
from publish_support import NOW, Act, add_vhdx, build

from builder.errors import HallmarkError
from builder.publish import azurite
from builder.publish.publish import publish
from builder.publish.release import Release, State
from builder.publish.states import change, rollback
from builder.publish.storage import connect_azurite
from builder.recipe import Plan
from builder.workspace import Artefacts, Workspace
from certification import keys

pytestmark = pytest.mark.system

VERSIONS = ("9.20261120.0", "9.20261121.0", "9.20261122.0")


def states(line: list[Artefacts]) -> list[State]:
    return [Release.read(item.release).state for item in line]


def test_an_emergency_waits_for_no_blob(
    space: Workspace, sample_plan: Plan, pair: keys.KeyPair, act: Act
) -> None:
    """Somebody deleted the bad image by hand, and another one isn't ours any more: both are taken back."""
    line = []
    for seed, version in enumerate(VERSIONS, start=1):
        plan = sample_plan.model_copy(update={"version": version})
        line.append(build(space, plan, pair, seed=seed))
    output = add_vhdx(line[2], plan, pair)
    data = space.build / "azurite"
    with (
        azurite.serve(location=data, cache=space.cache, log_file=data / "x.log") as server,
        connect_azurite(server) as service,
    ):
        names = []
        for artefacts, version in zip(line, VERSIONS, strict=True):
            done = publish(artefacts, public_key=pair.public, workspace=space, now=NOW)
            names.append(str(done.locations[0].blob))
            change(space, "sample-9", "released", version=version, actor=act())
        images = service.get_container_client("images")
        images.delete_blob(names[2])
        changed = images.get_blob_client(names[1])
        changed.set_blob_metadata({**changed.get_blob_properties().metadata, "hallmark_sha256": "0" * 64})
        with pytest.raises(HallmarkError, match="the blob is not the release"):
            rollback(space, "sample-9", to=VERSIONS[1], actor=act())
        assert states(line) == ["released"] * 3
        rollback(space, "sample-9", to=VERSIONS[0], actor=act("CVE"))
        assert states(line) == ["released", "withdrawn", "withdrawn"]
        found = [Release.read(item.release).locations[0] for item in line]
        assert [place.deleted is None for place in found] == [True, False, False]
        beside = dict(images.get_blob_client(f"{names[2]}x").get_blob_properties().metadata)
        assert (beside["hallmark_channel"], output.name) == ("withdrawn", "image.vhdx")
        # The one with other bytes still had the release's tags: nobody takes it for an image now.
        told = dict(changed.get_blob_properties().metadata)
        assert told["hallmark_channel"] == "withdrawn"
        assert not any(name.startswith("Microsoft") for name in told)
        # Somebody else's blob under the name isn't touched.
        images.get_blob_client(names[0]).set_blob_metadata({"owner": "bert"})
        change(space, "sample-9", "withdrawn", version=VERSIONS[0], actor=act())
        assert images.get_blob_client(names[0]).get_blob_properties().metadata == {"owner": "bert"}


def test_without_its_record_a_release_is_what_its_blob_says(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, act: Act
) -> None:
    """Released it stays released; and what was withdrawn comes back by no way."""
    data = space.build / "azurite"

    def again() -> Release:
        return publish(built, public_key=pair.public, workspace=space, now=NOW)

    with (
        azurite.serve(location=data, cache=space.cache, log_file=data / "x.log") as server,
        connect_azurite(server) as service,
    ):
        early = again()
        staged = built.release.read_text()
        change(space, "sample-9", "released", version=None, actor=act())
        built.release.unlink()
        found = again()
        assert [item.state for item in found.history] == ["staged", "released"]
        assert "the blob says so" in found.history[1].why and Release.read(built.release) == found
        change(space, "sample-9", "withdrawn", version=None, actor=act("CVE"))
        images = service.get_container_client("images")
        before = [(item.name, item.etag) for item in images.list_blobs()]
        add_vhdx(built, sample_plan, pair)  # not even a new output goes there
        built.release.unlink()
        with pytest.raises(HallmarkError, match="was withdrawn: the blob says so"):
            again()
        assert not built.release.exists()
        built.release.write_text(staged)  # an old copy of the record
        for refused in (again, lambda: change(space, "sample-9", "released", version=None, actor=act())):
            with pytest.raises(HallmarkError, match="was withdrawn: the blob says so"):
                refused()
        assert Release.read(built.release) == early
        assert [(item.name, item.etag) for item in images.list_blobs()] == before
        change(space, "sample-9", "withdrawn", version=None, actor=act())
        assert states([built]) == ["withdrawn"]
