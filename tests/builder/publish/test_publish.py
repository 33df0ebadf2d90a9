"""The gate and the order of publishing: nothing moves unless everything is right."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builder import catalog
from builder.errors import HallmarkError
from builder.publish import azurite, publish
from builder.publish.gate import check
from builder.publish.release import Release
from builder.publish.storage import connect_azurite
from builder.recipe import Plan, find, load
from builder.recipe import plan as make_plan
from builder.workspace import Artefacts, Workspace, digest_file
from certification import keys
from certification.certificate import issue
from certification.judge import Judgement, Verdict
from certification.model import Requirement, Subject
from certification.policy import Policy, Selector
from certification.views.base import identity

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
VERSION = "9.20261122.0"
BLOB = "sample-9-9-20261122-0.vhd"
POLICY = Policy(name="azure", version=1, title="t", summary="s", select=(Selector(areas=("azure",)),))


@pytest.fixture(scope="session")
def sample_plan() -> Plan:
    return make_plan(load(find("sample-9")), version=VERSION, source_date_epoch=1_790_000_000)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> keys.KeyPair:
    return keys.ensure(tmp_path_factory.mktemp("signer"))


def certify(image: Path, plan: Plan, pair: keys.KeyPair, *, system: str = "hallmark-sample") -> str:
    """A certificate for an image, issued by the real code for a judgement of one requirement."""
    requirement = Requirement(
        id="azure.vhd-footer-cookie",
        title="The footer is there",
        severity="must",
        area="azure",
        views=("format",),
        rationale="It is a VHD.",
        remedy="Write it.",
        source=("test",),
    )
    judgement = Judgement(
        recipe=plan.recipe,
        subject=Subject(id=system, version="9", families=frozenset({"rhel"})),
        verdicts=(Verdict(requirement, "must", "pass", "", (), ("azure",)),),
        problems=(),
        policies=(POLICY,),
        waivers=(),
        support=(),
        catalogue="0" * 64,
        suites="0" * 64,
        image_identity=identity(image),
        runs=(),
        judged=NOW,
    )
    return issue(
        judgement,
        image=image,
        recipe=plan.recipe,
        version=plan.version,
        plan_digest=plan.digest(),
        signer=pair,
    )


@pytest.fixture
def space(workspace: Workspace, tmp_path: Path) -> Workspace:
    return Workspace.default(build=tmp_path / "build", cache=workspace.cache)


@pytest.fixture
def built(
    space: Workspace, sample_plan: Plan, pair: keys.KeyPair, make_vhd: Callable[..., Path]
) -> Artefacts:
    artefacts = space.artefacts(sample_plan.recipe, sample_plan.version)
    artefacts.root.mkdir(parents=True)
    make_vhd(artefacts.image)
    artefacts.plan.write_text(sample_plan.to_json())
    artefacts.certificate.write_text(certify(artefacts.image, sample_plan, pair))
    return artefacts


def swap(text: str, old: str, new: str) -> str:
    """Edit the signed statement inside an envelope."""
    envelope = json.loads(text)
    payload = b64decode(envelope["payload"]).decode()
    assert old in payload
    envelope["payload"] = b64encode(payload.replace(old, new).encode()).decode()
    return json.dumps(envelope)


def poke(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(at if at >= 0 else path.stat().st_size + at)
        stream.write(data)


def resign(built: Artefacts, plan: Plan, pair: keys.KeyPair, **changes: str) -> None:
    built.certificate.write_text(certify(built.image, plan.model_copy(update=changes), pair))


def other_certificate(built: Artefacts, plan: Plan, pair: keys.KeyPair) -> None:
    other = built.root / "other.vhd"
    shutil.copyfile(built.image, other)
    poke(other, 4 << 20, b"x")
    built.certificate.write_text(certify(other, plan, pair))


DAMAGES: dict[str, tuple[str, Callable[[Artefacts, Plan, keys.KeyPair], object]]] = {
    "no image": ("there is no image", lambda b, p, k: b.image.unlink()),
    "no certificate": ("there is no certificate", lambda b, p, k: b.certificate.unlink()),
    "truncated image": ("not a VHD", lambda b, p, k: poke_truncate(b.image, -4096)),
    "footer cut off": ("not a VHD", lambda b, p, k: poke_truncate(b.image, -512)),
    "footer edited": ("not a VHD", lambda b, p, k: poke(b.image, -512 + 60, b"\0\0\0\3")),
    "one byte edited": ("for another image", lambda b, p, k: poke(b.image, 3 << 20, b"x")),
    "edited certificate": (
        "signature of the certificate is wrong",
        lambda b, p, k: b.certificate.write_text(swap(b.certificate.read_text(), '"pass":1', '"pass":2')),
    ),
    "extended certificate": (
        "signature of the certificate is wrong",
        lambda b, p, k: b.certificate.write_text(swap(b.certificate.read_text(), "2027-", "2037-")),
    ),
    "cut certificate": (
        "is no certificate",
        lambda b, p, k: b.certificate.write_text(b.certificate.read_text()[:300]),
    ),
    "certificate of another image": ("for another image", other_certificate),
    "certificate of another recipe": ("another recipe", lambda b, p, k: resign(b, p, k, recipe="rhel-9")),
    "certificate of another version": (
        "another version",
        lambda b, p, k: resign(b, p, k, version="9.20261121.0"),
    ),
    "plan edited": (
        "another plan",
        lambda b, p, k: b.plan.write_text(p.model_copy(update={"visibility": "tenant"}).to_json()),
    ),
}


def poke_truncate(path: Path, by: int) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + by)


@pytest.mark.parametrize("damage", DAMAGES)
def test_refused_before_any_byte_moves(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, tmp_path: Path, damage: str
) -> None:
    said, break_it = DAMAGES[damage]
    break_it(built, sample_plan, pair)
    share = tmp_path / "share"
    with pytest.raises(HallmarkError, match=said):
        publish(built, destination=share.as_uri(), public_key=pair.public, workspace=space, now=NOW)
    assert not share.exists()
    assert not built.release.exists()


@pytest.mark.parametrize(
    ("days", "said"), [(-1, "not valid before"), (91, "the certificate expired on 2027-02-20")]
)
def test_a_certificate_counts_for_its_time(
    space: Workspace, built: Artefacts, pair: keys.KeyPair, tmp_path: Path, days: int, said: str
) -> None:
    assert check(built.image, built.certificate, pair.public, now=NOW).virtual_size == 24 << 20
    with pytest.raises(HallmarkError, match=said):
        check(built.image, built.certificate, pair.public, now=NOW + timedelta(days=days))


def test_another_key_is_refused(built: Artefacts, tmp_path: Path) -> None:
    stranger = keys.ensure(tmp_path / "stranger")
    with pytest.raises(HallmarkError, match="signed with another key"):
        check(built.image, built.certificate, stranger.public, now=NOW)


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


def test_a_broken_release_record_is_written_anew(
    space: Workspace, built: Artefacts, pair: keys.KeyPair, tmp_path: Path
) -> None:
    built.release.write_text("{")
    share = (tmp_path / "share").as_uri()
    release = publish(built, destination=share, public_key=pair.public, workspace=space, now=NOW)
    assert Release.read(built.release) == release


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
def test_publishing_to_azurite(space: Workspace, built: Artefacts, pair: keys.KeyPair) -> None:
    """The default: started, filled, read back and stopped; run again it finds everything done."""
    release = publish(built, public_key=pair.public, workspace=space, now=NOW)
    (place,) = release.locations
    assert place.upload.sent > 0 and place.blob == BLOB
    again = publish(built, public_key=pair.public, workspace=space, now=NOW + timedelta(hours=1))
    assert again == release
    built.release.unlink()
    anew = publish(built, public_key=pair.public, workspace=space, now=NOW + timedelta(hours=1))
    assert (anew.locations[0].upload.sent, anew.locations[0].etag) == (0, place.etag)
    data = space.build / "azurite"
    assert not (data / "endpoint").exists()
    with (
        azurite.serve(location=data, cache=space.cache, log_file=data / "x.log") as server,
        connect_azurite(server) as service,
    ):
        blob = service.get_blob_client("images", BLOB)
        assert blob.download_blob().readall() == built.image.read_bytes()
    page = catalog.write(space, now=NOW)
    assert release.image.sha256 in page.read_text()


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
