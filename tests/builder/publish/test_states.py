"""The states of a release: who may go where, what is told to whom, and the way back."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from publish_support import NOW, Act, add_vhdx, build, clone

from builder import catalog
from builder.cli import main
from builder.errors import HallmarkError
from builder.publish import azurite
from builder.publish.publish import publish
from builder.publish.release import Release, State
from builder.publish.states import change, current, rollback
from builder.publish.storage import connect_azurite
from builder.recipe import Plan
from builder.workspace import Artefacts, Workspace, digest_file
from certification import keys

VERSIONS = ("9.20261120.0", "9.20261121.0", "9.20261122.0")


@pytest.fixture(scope="module")
def published(
    sample_plan: Plan, pair: keys.KeyPair, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> list[Artefacts]:
    """Three versions of one recipe, published to a directory; oldest first."""
    place = tmp_path_factory.mktemp("line")
    space = Workspace.default(build=place / "build", cache=workspace.cache)
    found = []
    for seed, version in enumerate(VERSIONS, start=1):
        plan = sample_plan.model_copy(update={"version": version})
        artefacts = build(space, plan, pair, seed=seed)
        share = (place / "share").as_uri()
        publish(artefacts, destination=share, public_key=pair.public, workspace=space, now=NOW)
        found.append(artefacts)
    return found


@pytest.fixture
def line(space: Workspace, published: list[Artefacts]) -> list[Artefacts]:
    """The same in a workspace of the test's own."""
    return [clone(made, space) for made in published]


def states(line: list[Artefacts]) -> list[State]:
    return [Release.read(item.release).state for item in line]


def test_a_release_goes_its_way(space: Workspace, line: list[Artefacts], act: Act) -> None:
    for state, why in (("released", "tested"), ("deprecated", "9.1 is out"), ("withdrawn", "CVE")):
        release, changed = change(space, "sample-9", state, version=VERSIONS[0], actor=act(why))
        assert changed and Release.read(line[0].release) == release
        last = release.history[-1]
        assert (release.state, last.who, last.why) == (state, "anna", why)
    assert states(line) == ["withdrawn", "staged", "staged"]


def test_done_again_it_changes_nothing(space: Workspace, line: list[Artefacts], act: Act) -> None:
    for state in ("released", "deprecated", "withdrawn"):
        change(space, "sample-9", state, version=None, actor=act())
        before = line[2].release.read_bytes(), line[2].release.stat().st_mtime_ns
        release, changed = change(space, "sample-9", state, version=None, actor=act("again"))
        assert not changed and release.state == state
        assert (line[2].release.read_bytes(), line[2].release.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("way", "refused"),
    [
        ((), "deprecated"),
        (("withdrawn",), "released"),
        (("withdrawn",), "deprecated"),
        (("released",), "staged"),
    ],
)
def test_there_are_ways_that_no_release_goes(
    space: Workspace, line: list[Artefacts], act: Act, way: tuple[State, ...], refused: State
) -> None:
    for state in way:
        change(space, "sample-9", state, version=None, actor=act())
    before = line[2].release.read_bytes()
    with pytest.raises(HallmarkError, match=f"can't become {refused}") as error:
        change(space, "sample-9", refused, version=None, actor=act())
    assert error.value.hint
    assert line[2].release.read_bytes() == before


def test_promotion_needs_a_certificate_of_that_day(
    space: Workspace, line: list[Artefacts], act: Act, sample_plan: Plan
) -> None:
    def refused(said: str, *, now: datetime | None = None) -> None:
        with pytest.raises(HallmarkError, match=said):
            change(space, "sample-9", "released", version=None, actor=act(now=now))
        assert states(line) == ["staged"] * 3

    refused("expired on 2027-02-20", now=NOW + timedelta(days=91))
    text = line[2].certificate.read_text()
    line[2].certificate.write_text(line[1].certificate.read_text())
    refused("of another image")
    envelope = json.loads(text)
    envelope["signatures"][0]["sig"] = "AAAA" + envelope["signatures"][0]["sig"][4:]
    line[2].certificate.write_text(json.dumps(envelope))
    refused("signature of the certificate is wrong")
    line[2].certificate.unlink()
    refused("can't be read")


def test_rhel_is_not_promoted_to_the_public(space: Workspace, line: list[Artefacts], act: Act) -> None:
    """A record that was edited, or written before the rule."""
    record = line[2].release
    record.write_text(
        record.read_text()
        .replace('"distribution_id": "hallmark-sample"', '"distribution_id": "rhel"')
        .replace('"visibility": "private"', '"visibility": "community"')
    )
    with pytest.raises(HallmarkError, match="must not be published with visibility 'community'"):
        change(space, "sample-9", "released", version=None, actor=act())
    assert states(line)[2] == "staged"


def test_a_withdrawn_version_is_not_published_again(
    space: Workspace, line: list[Artefacts], act: Act, pair: keys.KeyPair, tmp_path: Path
) -> None:
    change(space, "sample-9", "withdrawn", version=None, actor=act("the key leaked"))
    with pytest.raises(HallmarkError, match="was withdrawn on 2026-11-22 by anna") as error:
        publish(
            line[2],
            destination=(tmp_path / "other").as_uri(),
            public_key=pair.public,
            workspace=space,
            now=NOW,
        )
    assert "the key leaked" in str(error.value) and not (tmp_path / "other").exists()


def test_a_channel_rolls_back_once(space: Workspace, line: list[Artefacts], act: Act) -> None:
    for version in VERSIONS:
        change(space, "sample-9", "released", version=version, actor=act())
    target, changed = rollback(space, "sample-9", to=None, actor=act("does not boot"))
    assert changed and target.version == VERSIONS[1]
    assert states(line) == ["released", "released", "withdrawn"]
    taken = Release.read(line[2].release).history[-1]
    assert (taken.rollback, taken.why) == (VERSIONS[1], "does not boot")
    for _ in range(2):  # the same command again doesn't go back further
        assert rollback(space, "sample-9", to=None, actor=act())[1] is False
    assert states(line) == ["released", "released", "withdrawn"]
    assert rollback(space, "sample-9", to=VERSIONS[0], actor=act())[0].version == VERSIONS[0]
    assert states(line) == ["released", "withdrawn", "withdrawn"]
    found = current(space, "sample-9")
    assert found is not None and found.version == VERSIONS[0]


def test_a_rollback_releases_what_was_deprecated(
    space: Workspace, line: list[Artefacts], act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, there are two releases and never none; the next run finishes it."""
    change(space, "sample-9", "released", version=VERSIONS[1], actor=act())
    change(space, "sample-9", "released", version=VERSIONS[2], actor=act())
    change(space, "sample-9", "deprecated", version=VERSIONS[1], actor=act())
    write = Release.write

    def killed_after_one(self: Release, path: Path) -> None:
        if self.state == "withdrawn":
            raise KeyboardInterrupt
        write(self, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Release, "write", killed_after_one)
        rollback(space, "sample-9", to=None, actor=act())
    assert states(line) == ["staged", "released", "released"]
    rollback(space, "sample-9", to=None, actor=act())
    assert states(line) == ["staged", "released", "withdrawn"]


@pytest.mark.parametrize("case", ["nothing released", "nothing before", "unknown", "expired"])
def test_rollbacks_that_are_refused(space: Workspace, line: list[Artefacts], act: Act, case: str) -> None:
    if case != "nothing released":
        change(space, "sample-9", "released", version=VERSIONS[1], actor=act())
    if case == "expired":
        change(space, "sample-9", "deprecated", version=VERSIONS[1], actor=act())
        change(space, "sample-9", "released", version=VERSIONS[2], actor=act())
    before = states(line)
    said = {
        "nothing released": "nothing of sample-9 is released",
        "nothing before": "has no release before",
        "unknown": "9.1.2 is not published",
        "expired": "the certificate expired",
    }[case]
    now = NOW + timedelta(days=100) if case == "expired" else None
    with pytest.raises(HallmarkError, match=said):
        rollback(space, "sample-9", to="9.1.2" if case == "unknown" else None, actor=act(now=now))
    assert states(line) == before


def test_the_catalog_tells_it(space: Workspace, line: list[Artefacts], act: Act) -> None:
    for version in VERSIONS:
        change(space, "sample-9", "released", version=version, actor=act())
    change(space, "sample-9", "deprecated", version=VERSIONS[0], actor=act("9.1 is out"))
    rollback(space, "sample-9", to=None, actor=act("does not boot"))
    page = catalog.write(space, now=NOW)
    found = catalog.Catalog.model_validate_json((space.catalog / "catalog.json").read_bytes())
    channel = found.channels["sample-9"]
    assert channel.current == VERSIONS[1] and channel.rolled_back is not None
    text = page.read_text()
    assert f"Rolled back to {VERSIONS[1]}" in text and "does not boot" in text
    assert "deprecated: 9.1 is out" in text
    assert (
        f'<a href="sample-9/{VERSIONS[1]}/index.html">' in text.split("</h2>")[0]
    )  # the current one is shown
    withdrawn = (space.catalog / "sample-9" / VERSIONS[2] / "index.html").read_text()
    assert "Withdrawn" in withdrawn and "use it no more" in withdrawn
    assert "New-VM" not in withdrawn and "New-VM" in text


def test_the_command_line(
    space: Workspace,
    sample_plan: Plan,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the clock of this machine, and the key: nothing is signed, so its public half is enough."""
    monkeypatch.setenv("HALLMARK_KEY_DIR", str(tmp_path / "keys"))
    pair = keys.ensure(tmp_path / "keys")
    now = datetime.now(NOW.tzinfo).replace(microsecond=0)
    artefacts = build(space, sample_plan, pair, judged=now - timedelta(minutes=1))
    publish(artefacts, destination=(tmp_path / "s").as_uri(), public_key=pair.public, workspace=space)
    words = ["--build-dir", str(space.build), "--cache-dir", str(space.cache)]
    pair.private.unlink()
    public = pair.public.rename(tmp_path / "elsewhere")
    assert main(["promote", "sample-9", "--why", "tested", *words]) == 1
    assert "the public key can't be read" in capsys.readouterr().err
    public.rename(pair.public)
    assert main(["promote", "sample-9", "--why", "tested", "--who", "anna", *words]) == 0
    assert main(["promote", "sample-9", "--why", " ", *words]) == 1
    assert "a change of state needs a reason" in capsys.readouterr().err
    assert main(["rollback", "sample-9", "--why", "bad", *words]) == 1
    assert "no release before" in capsys.readouterr().err
    pair.public.unlink()
    assert main(["withdraw", "sample-9", "--why", "bad", *words]) == 0  # that waits for no key
    assert list((tmp_path / "keys").iterdir()) == []
    release = Release.read(artefacts.release)
    assert [(item.state, item.why) for item in release.history[1:]] == [
        ("released", "tested"),
        ("withdrawn", "bad"),
    ]
    assert "withdrawn" in (space.catalog / "index.html").read_text()


def test_damaged_records_of_others_block_nothing(space: Workspace, line: list[Artefacts], act: Act) -> None:
    """Neither of another recipe, nor of another version when one is named."""
    other = space.artefacts("other-9", "9.20261101.0").release
    other.parent.mkdir(parents=True)
    other.write_text("{")
    for version in VERSIONS[:2]:
        change(space, "sample-9", "released", version=version, actor=act())
    rollback(space, "sample-9", to=None, actor=act())
    assert states(line) == ["released", "withdrawn", "staged"]
    line[1].release.write_text("{")
    assert change(space, "sample-9", "withdrawn", version=VERSIONS[0], actor=act())[1]
    with pytest.raises(HallmarkError, match="this is no release record"):
        change(space, "sample-9", "withdrawn", version=None, actor=act())


def test_what_is_nowhere_is_not_released(space: Workspace, line: list[Artefacts], act: Act) -> None:
    release = Release.read(line[2].release)
    gone = [place.model_copy(update={"deleted": NOW}) for place in release.locations]
    release.model_copy(update={"locations": tuple(gone)}).write(line[2].release)
    with pytest.raises(HallmarkError, match=r"no destination has sample-9 9\.20261122\.0 any more") as error:
        change(space, "sample-9", "released", version=None, actor=act())
    assert "deleted on 2026-11-22" in str(error.value) and states(line)[2] == "staged"
    release.write(line[2].release)
    assert change(space, "sample-9", "released", version=None, actor=act())[1]


@pytest.mark.system
def test_the_destination_knows_the_state(
    space: Workspace, built: Artefacts, sample_plan: Plan, pair: keys.KeyPair, act: Act
) -> None:
    """And what was changed there since it was verified is read again before anybody gets it."""
    output = add_vhdx(built, sample_plan, pair)
    data = space.build / "azurite"
    with (
        azurite.serve(location=data, cache=space.cache, log_file=data / "x.log") as server,
        connect_azurite(server) as service,
    ):
        release = publish(built, public_key=pair.public, workspace=space, now=NOW)
        (place,) = release.locations
        blob = service.get_blob_client("images", str(place.blob))
        beside = service.get_blob_client("images", f"{place.blob}x")

        def metadata() -> dict[str, str]:
            found = dict(blob.get_blob_properties().metadata)
            told = dict(beside.get_blob_properties().metadata)
            assert not any(name.startswith("Microsoft") for name in told)
            assert told == {
                "hallmark_sha256": digest_file(output),
                **{name: found[name] for name in found if name in told and name != "hallmark_sha256"},
            }
            return found

        assert (metadata()["hallmark_channel"], metadata()["hallmark_expires"]) == ("staged", "2027-02-20")
        # A touched blob, right in every byte: read back, then promoted.
        blob.set_blob_metadata({**metadata(), "colour": "red"})
        change(space, "sample-9", "released", version=None, actor=act())
        assert metadata()["hallmark_channel"] == "released" and "hallmark_expires" not in metadata()
        assert metadata()["colour"] == "red"
        again = publish(built, public_key=pair.public, workspace=space, now=NOW)
        assert again == Release.read(built.release) and again.state == "released"
        change(space, "sample-9", "deprecated", version=None, actor=act())
        kept = dict(beside.get_blob_properties().metadata)
        beside.upload_blob(b"x" * 26, overwrite=True, metadata=kept)
        with pytest.raises(HallmarkError, match="not the image any more") as error:
            change(space, "sample-9", "released", version=None, actor=act())
        assert str(error.value.where).endswith(".vhdx") and metadata()["hallmark_channel"] == "deprecated"
        beside.upload_blob(output.read_bytes(), overwrite=True, metadata=kept)
        blob.upload_page(b"x" * 512, offset=20 << 20, length=512)
        with pytest.raises(HallmarkError, match="not the image any more"):
            change(space, "sample-9", "released", version=None, actor=act())
        assert metadata()["hallmark_channel"] == "deprecated"
        change(space, "sample-9", "withdrawn", version=None, actor=act(now=NOW))
        assert not any(name.startswith("Microsoft") for name in metadata())
        assert metadata()["hallmark_expires"] == "2026-12-22"
        before = built.release.read_bytes()
        change(space, "sample-9", "withdrawn", version=None, actor=act())
        assert built.release.read_bytes() == before
        # Cleared by hand: no withdrawal fails for that, and the record knows it.
        blob.delete_blob()
        last = act()
        gone, _ = change(space, "sample-9", "withdrawn", version=None, actor=last)
        assert (gone.locations[0].deleted, gone.history) == (last.now, Release.read(built.release).history)
        before = built.release.read_bytes()
        change(space, "sample-9", "withdrawn", version=None, actor=act())
        assert built.release.read_bytes() == before
