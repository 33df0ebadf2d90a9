"""Clearing away: shown first, deleted only when asked, and never what is released or somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from azure.storage.blob import BlobLeaseClient, ContainerClient
from publish_support import NOW, add_vhdx, build, certify

from builder import catalog
from builder.errors import HallmarkError
from builder.publish import azurite
from builder.publish.clear import Kept, clear, reason
from builder.publish.destination import parse
from builder.publish.publish import publish
from builder.publish.release import Release, State
from builder.publish.states import Actor, change
from builder.publish.storage import connect_azurite
from builder.recipe import Plan
from builder.workspace import Artefacts, Workspace, digest_file
from certification import keys

TAGS = {
    "hallmark_recipe": "sample-9",
    "hallmark_version": "9.1.0",
    "hallmark_channel": "staged",
    "hallmark_expires": "2026-11-22",
}


@pytest.mark.parametrize(
    ("changes", "record", "days", "goes"),
    [
        ({}, None, 0, True),
        ({}, None, -1, False),
        ({}, "released", 0, False),
        ({}, "withdrawn", 0, True),
        ({}, "staged", 0, True),
        ({"hallmark_channel": "released"}, None, 0, False),
        ({"hallmark_channel": "released"}, "withdrawn", 900, False),
        ({"hallmark_channel": "deprecated", "hallmark_expires": ""}, None, 900, False),
        ({"hallmark_channel": "withdrawn"}, None, 0, True),
        ({"hallmark_expires": "soon"}, None, 900, False),
        ({"hallmark_recipe": ""}, None, 900, False),
        ({"hallmark_version": ""}, None, 900, False),
    ],
)
def test_tags_decide(changes: dict[str, str], record: State | None, days: int, goes: bool) -> None:
    known = {("sample-9", "9.1.0"): Kept(record, NOW.date())} if record else {}
    found = {name: value for name, value in {**TAGS, **changes}.items() if value}
    assert (reason(found, known, now=NOW + timedelta(days=days)) is not None) is goes


@pytest.mark.parametrize(
    ("record", "days", "goes"),
    [("staged", 89, False), ("staged", 90, True), ("withdrawn", 89, True)],
)
def test_a_renewed_certificate_saves_what_is_staged(record: State, days: int, goes: bool) -> None:
    """Whatever the tags say that were written before; but not what was withdrawn meanwhile."""
    known = {("sample-9", "9.1.0"): Kept(record, NOW.date() + timedelta(days=90))}
    assert (reason(TAGS, known, now=NOW + timedelta(days=days)) is not None) is goes


def test_a_directory_is_not_cleared(space: Workspace, tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="a directory isn't cleared"):
        clear(space, parse(tmp_path.as_uri()), apply=True, now=NOW)


@pytest.fixture
def images(space: Workspace) -> Iterator[ContainerClient]:
    data = space.build / "azurite"
    with (
        azurite.serve(location=data, cache=space.cache, log_file=data / "x.log") as server,
        connect_azurite(server) as service,
    ):
        yield service.get_container_client("images")


@pytest.mark.system
def test_a_renewed_certificate_renews_the_tags(
    space: Workspace, images: ContainerClient, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair
) -> None:
    """Of what is staged, once, and nothing else of it; and only if nobody writes at the same time."""
    add_vhdx(built, sample_plan, pair)
    publish(built, public_key=pair.public, workspace=space, now=NOW)
    later = NOW + timedelta(days=80)
    further = {"image.vhdx": digest_file(built.output("vhdx"))}
    built.certificate.write_text(certify(built.image, sample_plan, pair, judged=later, further=further))

    def marks() -> list[dict[str, str]]:
        return [dict(item.metadata) for item in images.list_blobs(include=["metadata"])]

    before = marks()
    first = publish(built, public_key=pair.public, workspace=space, now=later)
    assert marks() == [{**item, "hallmark_expires": "2027-05-11"} for item in before] and len(before) == 2
    assert publish(built, public_key=pair.public, workspace=space, now=later) == first
    assert clear(space, parse("azurite"), apply=True, now=NOW + timedelta(days=95)) == []
    actor = Actor.of(why="w", public_key=pair.public, who="a", now=NOW + timedelta(days=96))
    assert change(space, "sample-9", "released", version=None, actor=actor)[1]
    publish(built, public_key=pair.public, workspace=space, now=later)
    assert [item["hallmark_channel"] for item in marks()] == ["released"] * 2
    assert not any("hallmark_expires" in item for item in marks())


@pytest.mark.system
def test_only_what_has_expired_goes(
    space: Workspace, images: ContainerClient, sample_plan: Plan, pair: keys.KeyPair
) -> None:
    versions = ("9.20261119.0", "9.20261120.0", "9.20261121.0", "9.20261122.0")
    for seed, version in enumerate(versions, start=1):
        plan = sample_plan.model_copy(update={"version": version})
        artefacts = build(space, plan, pair, seed=seed)
        if version == versions[3]:
            add_vhdx(artefacts, plan, pair)
        publish(artefacts, public_key=pair.public, workspace=space, now=NOW)
    names = [f"sample-9-{version.replace('.', '-')}.vhd" for version in versions]
    for version, states in zip(
        versions, ((), ("released",), ("released", "deprecated"), ("withdrawn",)), strict=True
    ):
        for hours, state in enumerate(states, start=1):
            actor = Actor.of(why="w", public_key=pair.public, who="a", now=NOW + timedelta(hours=hours))
            change(space, "sample-9", state, version=version, actor=actor)
    images.upload_blob("notes.txt", b"mine")
    images.upload_blob("tagged.txt", b"mine", metadata={"hallmark_expires": "2020-01-01"})
    unfinished = images.get_blob_client("half.vhd")
    unfinished.create_page_blob(1 << 20, metadata={**TAGS, "hallmark_state": "incomplete"})
    everything = [item.name for item in images.list_blobs()]

    def run(days: int, *, apply: bool = False) -> list[str]:
        found = clear(space, parse("azurite"), apply=apply, now=NOW + timedelta(days=days))
        return [item.where for item in found]

    assert run(0, apply=True) == []
    # Withdrawn thirty days ago, and an upload of long ago.
    assert run(33) == ["half.vhd", names[3], f"{names[3]}x"]
    assert run(91) == ["half.vhd", names[0], names[3], f"{names[3]}x"]
    assert [item.name for item in images.list_blobs()] == everything  # shown, not deleted
    with_lease = BlobLeaseClient(unfinished)
    with_lease.acquire(lease_duration=60)
    assert run(91, apply=True) == [names[0], names[3], f"{names[3]}x"]
    with_lease.release()
    left = [item.name for item in images.list_blobs()]
    assert left == ["half.vhd", "notes.txt", names[1], names[2], "tagged.txt"]
    assert run(91, apply=True) == ["half.vhd"] and run(91, apply=True) == []
    (place,) = Release.read(space.artefacts("sample-9", versions[3]).release).locations
    assert place.deleted is not None and place.deleted.date() == date(2027, 2, 21)
    assert (place.outputs, place.etags) == ({}, {})
    assert (
        "deleted on"
        in (catalog.write(space, now=NOW).parent / "sample-9" / versions[3] / "index.html").read_text()
    )
    change(
        space, "sample-9", "withdrawn", version=versions[3], actor=Actor.of(why="w", public_key=pair.public)
    )
