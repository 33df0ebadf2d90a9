"""The gate and the order of publishing: nothing moves unless everything is right."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from publish_damages import DAMAGES
from publish_support import NOW, add_vhdx, as_before, certify, make_vhd

from builder import catalog
from builder.errors import HallmarkError
from builder.publish import azurite
from builder.publish.gate import check
from builder.publish.publish import publish
from builder.publish.readback import RangeReader
from builder.publish.release import Release
from builder.publish.storage import connect_azurite
from builder.recipe import Plan
from builder.workspace import Artefacts, Workspace, digest_file
from certification import keys

BLOB = "sample-9-9-20261122-0.vhd"


@pytest.mark.parametrize("damage", DAMAGES)
def test_refused_before_any_byte_moves(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, tmp_path: Path, damage: str
) -> None:
    said, break_it = DAMAGES[damage]
    break_it(built, sample_plan, pair)
    share = tmp_path / "share"
    with pytest.raises(HallmarkError, match=said) as error:
        publish(built, destination=share.as_uri(), public_key=pair.public, workspace=space, now=NOW)
    assert error.value.hint and error.value.where  # what to do, and about which file
    assert not share.exists()
    assert not built.release.exists()


@pytest.mark.parametrize(
    ("days", "said"), [(-1, "not valid before"), (91, "the certificate expired on 2027-02-20")]
)
def test_a_certificate_counts_for_its_time(
    built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, days: int, said: str
) -> None:
    assert (
        check(built.image, built.certificate, pair.public, plan=sample_plan, now=NOW).virtual_size == 24 << 20
    )
    with pytest.raises(HallmarkError, match=said):
        check(built.image, built.certificate, pair.public, plan=sample_plan, now=NOW + timedelta(days=days))


def test_another_key_is_refused(built: Artefacts, sample_plan: Plan, tmp_path: Path) -> None:
    stranger = keys.ensure(tmp_path / "stranger")
    with pytest.raises(HallmarkError, match="signed with another key"):
        check(built.image, built.certificate, stranger.public, plan=sample_plan, now=NOW)


@pytest.mark.parametrize("visibility", ["private", "tenant", "community"])
def test_rhel_is_never_public(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, tmp_path: Path, visibility: str
) -> None:
    """Whether the plan says that it is RHEL, or only the image itself does."""
    share = tmp_path / "share"
    rhel = sample_plan.distribution.model_copy(update={"id": "rhel", "name": "Red Hat Enterprise Linux"})
    for distribution, system in ((rhel, "hallmark-sample"), (sample_plan.distribution, "rhel")):
        plan = sample_plan.model_copy(update={"distribution": distribution, "visibility": visibility})
        built.certificate.write_text(certify(built.image, plan, pair, system=system))
        arguments = {"plan": plan, "destination": share.as_uri(), "public_key": pair.public}
        if visibility == "community":
            with pytest.raises(HallmarkError, match="must not be published with visibility 'community'"):
                publish(built, **arguments, workspace=space, now=NOW)
            assert not share.exists()
        else:
            publish(built, **arguments, workspace=space, now=NOW)
            shutil.rmtree(share)
            built.release.unlink()


def test_what_is_not_for_azure_does_not_go_there(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair
) -> None:
    spec = sample_plan.certification.model_copy(update={"targets": ("hyperv",)})
    plan = sample_plan.model_copy(update={"certification": spec})
    with pytest.raises(HallmarkError, match="isn't certified for Azure"):
        publish(
            built,
            plan=plan,
            destination="azure://acme/images",
            public_key=pair.public,
            workspace=space,
            now=NOW,
        )


def test_publishing_to_a_directory(
    space: Workspace, built: Artefacts, pair: keys.KeyPair, tmp_path: Path
) -> None:
    share = tmp_path / "share"
    release = publish(
        built,
        destination=share.as_uri(),
        public_key=pair.public,
        workspace=space,
        now=NOW,
        who="anna",
        why="a test",
    )
    assert (share / BLOB).read_bytes() == built.image.read_bytes()
    assert Release.read(built.release) == release
    assert (release.state, release.history[0].who, release.history[0].why) == ("staged", "anna", "a test")
    assert release.image.sha256 == digest_file(built.image)
    assert release.certificate.sha256 == digest_file(built.certificate)
    assert release.certificate.counts == {"pass": 1}
    later = NOW + timedelta(hours=1)
    again = publish(
        built, destination=share.as_uri(), public_key=pair.public, workspace=space, now=later, who="bert"
    )
    assert again == release
    second = publish(
        built, destination=(tmp_path / "two").as_uri(), public_key=pair.public, workspace=space, now=later
    )
    assert [place.url for place in second.locations] == [
        (share / BLOB).as_uri(),
        (tmp_path / "two" / BLOB).as_uri(),
    ]
    assert second.history == release.history


def test_a_directory_gets_the_further_outputs_too(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, tmp_path: Path
) -> None:
    output = add_vhdx(built, sample_plan, pair)
    share = tmp_path / "share"
    copy = share / "sample-9-9-20261122-0.vhdx"
    for _ in range(2):
        release = publish(built, destination=share.as_uri(), public_key=pair.public, workspace=space, now=NOW)
        assert copy.read_bytes() == output.read_bytes()
        assert (share / BLOB).read_bytes() == built.image.read_bytes()
        [told] = release.outputs
        assert (told.name, told.format, told.sha256) == (copy.name, "vhdx", digest_file(output))
        assert (told.size, told.virtual_size) == (26, 24 << 20)
        assert release.locations[0].outputs == {"vhdx": copy.as_uri()}
        assert release.image.format == "vhd"
    assert Release.read(built.release) == release


@pytest.mark.parametrize(("by", "before"), [("another", False), ("another", True), ("the image", False)])
def test_a_further_output_that_was_changed_is_not_published(
    space: Workspace,
    built: Artefacts,
    sample_plan: Plan,
    pair: keys.KeyPair,
    tmp_path: Path,
    by: str,
    before: bool,
) -> None:
    """The gate sees it; of a certificate that knows only the SHA-256, the way to the share does."""
    data = built.image.read_bytes() if by == "the image" else b"another disk"
    add_vhdx(built, sample_plan, pair).write_bytes(data)
    if before:
        as_before(built.certificate, pair)
    share = tmp_path / "share"
    with pytest.raises(HallmarkError, match="the copy is not the image" if before else "for another image"):
        publish(built, destination=share.as_uri(), public_key=pair.public, workspace=space, now=NOW)
    assert not share.exists() or (before and list(share.iterdir()) == [])
    assert not built.release.exists()


def test_earlier_certificates_open_the_gate(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, tmp_path: Path
) -> None:
    """They know no digest but the SHA-256, which finds a changed byte, too."""
    add_vhdx(built, sample_plan, pair)
    as_before(built.certificate, pair)
    share = (tmp_path / "share").as_uri()
    release = publish(built, destination=share, public_key=pair.public, workspace=space, now=NOW)
    assert release.image.sha256 == digest_file(built.image)
    with built.image.open("r+b") as stream:
        stream.seek(3 << 20)
        stream.write(b"x")
    with pytest.raises(HallmarkError, match="for another image"):
        publish(built, destination=share, public_key=pair.public, workspace=space, now=NOW)


@pytest.mark.parametrize("listed", [None, "[]"])
def test_outputs_that_are_not_those_of_the_certificate_are_not_published(
    listed: str | None,
    space: Workspace,
    built: Artefacts,
    sample_plan: Plan,
    pair: keys.KeyPair,
    tmp_path: Path,
) -> None:
    add_vhdx(built, sample_plan, pair)
    changed = built.outputs.read_text().replace(digest_file(built.output("vhdx")), "0" * 64)
    built.outputs.write_text(listed or changed)
    share = tmp_path / "share"
    with pytest.raises(HallmarkError, match=r"image\.vhdx isn't the one that was certified"):
        publish(built, destination=share.as_uri(), public_key=pair.public, workspace=space, now=NOW)
    assert not share.exists()
    assert not built.release.exists()


def test_a_record_is_never_replaced(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, tmp_path: Path
) -> None:
    """One that can't be read, or is of other bytes, may be all that knows of a withdrawal."""

    def publish_to(name: str) -> Release:
        place = (tmp_path / name).as_uri()
        return publish(built, destination=place, public_key=pair.public, workspace=space, now=NOW)

    release = publish_to("one")
    whole = built.release.read_text()
    built.release.write_text(whole[:200])
    with pytest.raises(HallmarkError, match="this is no release record") as error:
        publish_to("two")
    assert "catalog/sample-9/9.20261122.0/release.json" in str(error.value.hint)
    assert built.release.read_text() == whole[:200] and not (tmp_path / "two").exists()
    built.release.write_text(whole)
    make_vhd(built.image, seed=9)
    built.certificate.write_text(certify(built.image, sample_plan, pair))
    with pytest.raises(HallmarkError, match="already, with other bytes") as error:
        publish_to("two")
    assert release.image.sha256 in str(error.value)
    assert built.release.read_text() == whole and not (tmp_path / "two").exists()


def test_two_processes_do_not_publish_one_image(
    space: Workspace, built: Artefacts, pair: keys.KeyPair, tmp_path: Path
) -> None:
    import fcntl

    with built.image.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(HallmarkError, match="another process is publishing"):
            publish(
                built,
                destination=(tmp_path / "share").as_uri(),
                public_key=pair.public,
                workspace=space,
                now=NOW,
            )


@pytest.mark.system
def test_publishing_to_azurite(
    space: Workspace,
    built: Artefacts,
    sample_plan: Plan,
    pair: keys.KeyPair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default: started, filled, read back and stopped; run again it adds what is missing, or nothing."""
    alone = publish(built, public_key=pair.public, workspace=space, now=NOW)
    (place,) = alone.locations
    assert place.upload.sent > 0 and place.blob == BLOB
    output = add_vhdx(built, sample_plan, pair, size=9 << 20)
    release = publish(built, public_key=pair.public, workspace=space, now=NOW + timedelta(hours=1))
    added = {"outputs": {"vhdx": f"{place.url}x"}, "etags": release.locations[0].etags}
    assert release.locations == (place.model_copy(update=added),)
    assert [item.sha256 for item in release.outputs] == [digest_file(output)]
    built.release.unlink()
    anew = publish(built, public_key=pair.public, workspace=space, now=NOW + timedelta(hours=1))
    assert (anew.locations[0].upload.sent, anew.locations[0].etag) == (0, place.etag)
    assert anew.locations[0].etags == release.locations[0].etags
    data = space.build / "azurite"
    assert not (data / "endpoint").exists()
    with (
        azurite.serve(location=data, cache=space.cache, log_file=data / "x.log") as server,
        connect_azurite(server) as service,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(RangeReader, "blocks", None)  # what nobody has touched isn't read again
            assert publish(built, public_key=pair.public, workspace=space, now=NOW) == anew
        blob = service.get_blob_client("images", BLOB)
        assert blob.download_blob().readall() == built.image.read_bytes()
        beside = service.get_blob_client("images", f"{BLOB}x")
        assert beside.download_blob().readall() == output.read_bytes()
        assert release.locations[0].etags == {"vhdx": beside.get_blob_properties().etag}
    page = catalog.write(space, now=NOW)
    assert release.image.sha256 in page.read_text()
    page = space.catalog / "sample-9" / release.version / "index.html"
    assert f"<code>{place.url}x</code>" in page.read_text()


@pytest.mark.system
@pytest.mark.parametrize("damage", ["footer cut off", "one byte edited", "edited certificate", "plan edited"])
def test_a_refused_image_leaves_no_blob(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, damage: str
) -> None:
    """Seen from the server: a person's Azurite is running, and nothing arrives there."""
    said, break_it = DAMAGES[damage]
    break_it(built, sample_plan, pair)
    data = space.build / "azurite"
    with azurite.serve(location=data, cache=space.cache, log_file=data / "x.log") as server:
        with pytest.raises(HallmarkError, match=said):
            publish(built, public_key=pair.public, workspace=space, now=NOW)
        with connect_azurite(server) as service:
            assert [item.name for item in service.list_containers()] == []
