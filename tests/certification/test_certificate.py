"""Issuing and verifying: a good certificate passes, and every way to forge or misuse one has its own
refusal.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from documented_digest import by_hand
from securesystemslib.dsse import Envelope

from builder.errors import HallmarkError
from builder.examine import foreign
from builder.workspace import digest_file
from certification import catalogue as catalogues
from certification import policy
from certification.certificate import PAYLOAD_TYPE, issue, verify
from certification.judge import Judgement, Run, Verdict
from certification.keys import KeyPair, ensure
from certification.model import Observation, RunRecord, Subject, SupportEnd, Waiver
from certification.views.base import identity

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return ensure(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.vhd"
    with path.open("wb") as stream:
        stream.write(b"boot" * 1000)
        stream.truncate(3 << 20)
        stream.seek(2 << 20)
        stream.write(b"root" * 1000)
    return path


@pytest.fixture
def judgement(image: Path, toy_catalogue: Path, toy_policies: Path) -> Judgement:
    """Everything passes, one failure is waived; looked at in the disk view and booted on both firmwares."""
    catalogue = catalogues.load(toy_catalogue)
    selected = policy.select(["toy"], catalogue=catalogue, directory=toy_policies)
    day = identity(image)
    runs = tuple(
        Run(
            Path("/nonexistent"),
            RunRecord(
                view=view,
                variant=variant,
                before=day,
                after=day,
                catalogue=catalogue.digest,
                suites="s" * 64,
                started="now",
                seconds=1,
            ),
            (),
        )
        for view, variant in (("disk", None), ("booted", "uefi"), ("booted", "bios"))
    )
    waiver = Waiver(
        requirement="azure.two",
        scope="*",
        owner="Somebody",
        reason="It takes until spring.",
        expires=date(2027, 3, 1),
    )
    verdicts = tuple(
        Verdict(
            requirement=catalogue[name],
            severity="must",
            kind="waived" if name == "azure.two" else "pass",
            message="it is blue" if name == "azure.two" else "",
            observations=(Observation(requirement=name, view="disk", outcome="pass"),),
            policies=("toy",),
            waiver=waiver if name == "azure.two" else None,
        )
        for name in ("azure.one", "azure.two")
    )
    return Judgement(
        recipe="toy-9",
        subject=Subject(id="x", version="9", families=frozenset({"rhel"})),
        verdicts=verdicts,
        problems=(),
        policies=selected.policies,
        waivers=(waiver,),
        support=(
            SupportEnd(what="a runtime", ends=date(2020, 1, 1)),
            SupportEnd(what="the system", ends=date(2027, 1, 5)),
        ),
        catalogue=catalogue.digest,
        suites="s" * 64,
        image_identity=day,
        runs=runs,
        judged=NOW,
    )


@pytest.fixture
def certificate(judgement: Judgement, image: Path, pair: KeyPair, tmp_path: Path) -> Path:
    text = issue(
        judgement,
        image=image,
        recipe="toy-9",
        version="9.20261122.0",
        plan_digest="p" * 64,
        signer=pair,
        substitutions=("package a: a → b",),
    )
    path = tmp_path / "certificate.json"
    path.write_text(text)
    return path


def test_a_good_certificate_says_what_was_judged(certificate: Path, image: Path, pair: KeyPair) -> None:
    found = verify(image, certificate, pair.public, now=NOW)
    assert (found.recipe, found.version, found.policies) == ("toy-9", "9.20261122.0", ("toy",))
    assert found.counts == {"pass": 1, "waived": 1} and found.firmware == ("bios", "uefi")
    assert [waiver.requirement for waiver in found.waivers] == ["azure.two"]
    assert found.predicate.substitutions == ("package a: a → b",)
    # 90 days would be 2027-02-20; the system's support ends first; what is over already doesn't count.
    assert found.expires == datetime(2027, 1, 5, 23, 59, 59, tzinfo=UTC)
    statement = json.loads(base64.b64decode(json.loads(certificate.read_text())["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    digests = {"sha256": hashlib.sha256(image.read_bytes()).hexdigest(), "sparseSha256": by_hand(image)}
    assert statement["subject"] == [{"name": "image.vhd", "digest": digests}]
    assert found.image_sha256 == digests["sha256"]
    assert verify(image, certificate, pair.public, now=found.expires) == found


def test_the_further_outputs_are_certified_with_the_image(
    judgement: Judgement, image: Path, pair: KeyPair, tmp_path: Path
) -> None:
    other, stranger, path = tmp_path / "image.vhdx", tmp_path / "image.qcow2", tmp_path / "certificate.json"
    other.write_bytes(b"the same disk in another format")
    stranger.write_bytes(b"another disk")
    text = issue(
        judgement,
        image=image,
        recipe="toy-9",
        version="9.20261122.0",
        plan_digest="p" * 64,
        signer=pair,
        further={"image.vhdx": digest_file(other)},
    )
    path.write_text(text)
    found = verify(image, path, pair.public, now=NOW)
    assert found.image_name == image.name
    assert found.subjects == {image.name: digest_file(image), "image.vhdx": digest_file(other)}
    assert found.sparse == {image.name: by_hand(image), "image.vhdx": by_hand(other)}
    assert verify(other.rename(tmp_path / "copy"), path, pair.public, now=NOW).image_name == "image.vhdx"
    with pytest.raises(HallmarkError, match="for another image"):
        verify(stranger, path, pair.public, now=NOW)
    edit(lambda s: s["subject"][1]["digest"].pop("sparseSha256"), sign=True)(path, pair)
    assert verify(tmp_path / "copy", path, pair.public, now=NOW).sparse == {image.name: by_hand(image)}


def test_the_same_judgement_gives_the_same_certificate(
    judgement: Judgement, image: Path, pair: KeyPair
) -> None:
    texts = {
        issue(judgement, image=image, recipe="r", version="v", plan_digest="p", signer=pair) for _ in range(2)
    }
    assert len(texts) == 1


def edit(change: Callable[[dict[str, Any]], object], *, sign: bool) -> Callable[[Path, KeyPair], None]:
    """Change the statement; ``sign``: with the right key, as somebody who has it could."""

    def apply(path: Path, pair: KeyPair) -> None:
        data = json.loads(path.read_text())
        statement = json.loads(base64.b64decode(data["payload"]))
        change(statement)
        payload = json.dumps(statement).encode()
        if sign:
            envelope = Envelope(payload, PAYLOAD_TYPE, {})
            envelope.sign(pair.signer())
            data = envelope.to_dict()
        else:
            data["payload"] = base64.b64encode(payload).decode()
        path.write_text(json.dumps(data))

    return apply


def outer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, KeyPair], None]:
    """Change the envelope."""

    def apply(path: Path, _: KeyPair) -> None:
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return apply


FORGERIES: dict[str, tuple[Callable[[Path, KeyPair], object], str]] = {
    "payload edited": (
        edit(lambda s: s["predicate"].update(version="10"), sign=False),
        "signature .* is wrong",
    ),
    "expiry prolonged": (
        edit(lambda s: s["predicate"].update(expires="2099-01-01T00:00:00Z"), sign=False),
        "signature",
    ),
    "signature edited": (
        outer(lambda d: d["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode())),
        "signature .* is wrong",
    ),
    "signature removed": (outer(lambda d: d.update(signatures=[])), "signed with another key"),
    "key id edited": (outer(lambda d: d["signatures"][0].update(keyid="0" * 64)), "signed with another key"),
    "payload type": (outer(lambda d: d.update(payloadType="text/plain")), "signature .* is wrong"),
    "no payload": (outer(lambda d: d.pop("payload")), "no DSSE envelope"),
    "not base64": (outer(lambda d: d.update(payload="%%%")), "no DSSE envelope"),
    "no JSON": (lambda path, _: path.write_text("certified!"), "no DSSE envelope"),
    "a list": (lambda path, _: path.write_text("[1, 2]"), "no DSSE envelope"),
    "empty": (lambda path, _: path.write_bytes(b""), "no DSSE envelope"),
    "cut off": (lambda path, _: path.write_bytes(path.read_bytes()[:-40]), "no DSSE envelope"),
    "huge": (lambda path, _: os.truncate(path, 17 << 20), "too large"),
    "missing": (lambda path, _: path.unlink(), "can't be read"),
    # Signed by the right key, and still no certificate.
    "other predicate": (
        edit(lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), sign=True),
        "another kind",
    ),
    "not a statement": (
        edit(lambda s: s.update(_type="something"), sign=True),
        "incomplete or of another version",
    ),
    "not certified": (edit(lambda s: s["predicate"].update(certified=False), sign=True), "is not certified"),
    "a field missing": (edit(lambda s: s["predicate"].pop("expires"), sign=True), "incomplete"),
    "an extra word": (edit(lambda s: s["predicate"].update(alsoGood=True), sign=True), "incomplete"),
    "two subjects": (edit(lambda s: s["subject"].append(s["subject"][0]), sign=True), "incomplete"),
    "a path": (edit(lambda s: s["subject"][0].update(name="../image.vhd"), sign=True), "incomplete"),
    "no digest": (edit(lambda s: s["subject"][0]["digest"].clear(), sign=True), "another image"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_certificate_is_refused(name: str, certificate: Path, image: Path, pair: KeyPair) -> None:
    apply, message = FORGERIES[name]
    apply(certificate, pair)
    with pytest.raises(HallmarkError, match=message):
        verify(image, certificate, pair.public, now=NOW)


def test_a_changed_image_is_refused_before_all_of_it_is_read(
    certificate: Path, pair: KeyPair, tmp_path: Path
) -> None:
    """A terabyte with two sectors in it: nobody hashes that within the time that a test gets."""
    image = tmp_path / "large.vhd"
    with image.open("wb") as stream:
        stream.truncate(1 << 40)
        for place in (0, 1 << 39):
            os.pwrite(stream.fileno(), b"data" * 128, place)
    digests = {"sha256": "0" * 64, "sparseSha256": identity(image)}
    edit(lambda s: s["subject"][0].update(digest=digests), sign=True)(certificate, pair)
    with image.open("r+b") as stream:
        os.pwrite(stream.fileno(), b"x", (1 << 39) + 3)
    with pytest.raises(HallmarkError, match="for another image") as error:
        verify(image, certificate, pair.public, now=NOW)
    assert list(error.value.details) == [
        f"certified sparseSha256 {digests['sparseSha256']} (image.vhd)",
        f"this file's sparseSha256 {identity(image)}",
    ]


def test_the_digest_of_the_whole_image_decides(certificate: Path, image: Path, pair: KeyPair) -> None:
    """An image that only resembles the certified one is none; one that has only that digest is."""
    edit(lambda s: s["subject"][0]["digest"].pop("sparseSha256"), sign=True)(certificate, pair)
    assert verify(image, certificate, pair.public, now=NOW).sparse == {}
    digests = {"sha256": "0" * 64, "sparseSha256": identity(image)}
    edit(lambda s: s["subject"][0].update(digest=digests), sign=True)(certificate, pair)
    with pytest.raises(HallmarkError, match="for another image") as error:
        verify(image, certificate, pair.public, now=NOW)
    assert error.value.details[1] == f"this file's sha256 {digest_file(image)}"


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("change", ["one byte", "cut", "grown", "footer"])
def test_another_image_is_refused(
    change: str, digests: bool, certificate: Path, image: Path, pair: KeyPair
) -> None:
    """By either digest: earlier certificates have only the SHA-256 of the whole."""
    if not digests:
        edit(lambda s: s["subject"][0]["digest"].pop("sparseSha256"), sign=True)(certificate, pair)
    size = image.stat().st_size
    if change in ("cut", "grown"):
        os.truncate(image, size + (512 if change == "grown" else -512))
    else:
        with image.open("r+b") as stream:
            stream.seek(1 << 20 if change == "one byte" else size - 1)
            stream.write(b"\x01")
    with pytest.raises(HallmarkError, match="for another image"):
        verify(image, certificate, pair.public, now=NOW)


def test_time_limits(certificate: Path, image: Path, pair: KeyPair) -> None:
    with pytest.raises(HallmarkError, match="expired on 2027-01-05"):
        verify(image, certificate, pair.public, now=datetime(2027, 1, 6, tzinfo=UTC))
    with pytest.raises(HallmarkError, match="not valid before"):
        verify(image, certificate, pair.public, now=NOW - DAY)


def test_a_recording_is_held_against_the_certificate_beside_it(
    judgement: Judgement, image: Path, pair: KeyPair, tmp_path: Path
) -> None:
    place = tmp_path / "sample-9"
    place.mkdir()
    evidence = place / "evidence.jsonl"
    evidence.write_text("{}\n")
    words = {"recipe": "toy-9", "version": "9.1", "plan_digest": "p" * 64, "signer": pair}
    (place / "certificate.json").write_text(issue(judgement, image=image, evidence=evidence, **words))
    assert foreign(place, pair.public) is None and foreign(evidence, pair.public) is None
    evidence.write_text("{} \n")
    for path in (place, evidence):
        assert "isn't the one" in (foreign(path, pair.public) or "")
    evidence.unlink()
    assert "isn't the one" in (foreign(place, pair.public) or "")
    (place / "certificate.json").unlink()
    assert foreign(place, pair.public) is None


def test_keys(certificate: Path, image: Path, tmp_path: Path, pair: KeyPair) -> None:
    other = ensure(tmp_path / "other")
    with pytest.raises(HallmarkError, match="signed with another key"):
        verify(image, certificate, other.public, now=NOW)
    with pytest.raises(HallmarkError, match="can't be read"):
        verify(image, certificate, tmp_path / "none.pem", now=NOW)
    with pytest.raises(HallmarkError, match="no public key"):
        verify(image, certificate, certificate, now=NOW)
    assert (
        pair.private.stat().st_mode & 0o777 == 0o600 and pair.private.parent.stat().st_mode & 0o777 == 0o700
    )
    assert ensure(pair.private.parent) == pair
    public = other.public.read_bytes()
    other.public.unlink()
    assert ensure(tmp_path / "other").public.read_bytes() == public
    other.private.chmod(0o644)
    with pytest.raises(HallmarkError, match="read by others"):
        other.signer()
    other.private.unlink()
    with pytest.raises(HallmarkError, match="its private key is not"):
        ensure(tmp_path / "other")


def test_what_is_not_certified_gets_no_certificate(judgement: Judgement, image: Path, pair: KeyPair) -> None:
    words = {"image": image, "recipe": "r", "version": "v", "plan_digest": "p", "signer": pair}
    for refused in (
        replace(judgement, problems=("something",)),
        replace(judgement, verdicts=(replace(judgement.verdicts[0], kind="fail"),)),
        replace(judgement, verdicts=(replace(judgement.verdicts[0], kind="error", severity="info"),)),
        replace(judgement, verdicts=()),
    ):
        with pytest.raises(HallmarkError, match="can't be certified"):
            issue(refused, **words)


def test_an_image_that_changed_after_the_looks_gets_no_certificate(
    judgement: Judgement, image: Path, pair: KeyPair
) -> None:
    with image.open("r+b") as stream:
        stream.seek((3 << 20) - 1)
        stream.write(b"x")
    with pytest.raises(HallmarkError, match="not the one that was looked at"):
        issue(judgement, image=image, recipe="r", version="v", plan_digest="p", signer=pair)
