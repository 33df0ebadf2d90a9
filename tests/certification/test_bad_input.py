"""What people hand over in a bad state: an error that says what is wrong and where, no traceback."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from builder import cli, grammar
from builder.errors import HallmarkError
from builder.examine import Judging, Recorded, command, replay
from builder.workspace import Workspace
from certification import catalogue, keys, recording, waivers
from certification.bundle import opened
from certification.checks import Checks
from certification.evidence import EvidenceLog
from certification.model import Observation

WAIVER = """waivers:
- requirement: azure.x
  scope: "*"
  owner: me
  reason: Because it is like that for now.
  expires: 2027-01-01
"""


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        (WAIVER.replace("2027-01-01", "2027-02-30").encode(), "not well-formed", 2),
        (WAIVER.replace(": me", ": m\xe9").encode("latin-1"), "can't be read", 4),
        (f"{WAIVER}  expires: 2099-01-01\n".encode(), "can't be read", 7),
        (f"{WAIVER}waivers: []\n".encode(), "can't be read", 7),
        (b"waivers: " + b"[" * 100_000, "can't be read", 1),
        (b"waivers: {}\n", "one key `waivers`, a list", 1),
        (b"", "can't be read", 1),
        (WAIVER.encode() + b"other: 1\n", "one key `waivers`, a list", 1),
        (b"waivers:\n- azure.x\n", "not well-formed", 2),
    ],
)
def test_waivers(tmp_path: Path, text: bytes, said: str, line: int) -> None:
    path = tmp_path / "waivers.yaml"
    path.write_bytes(text)
    with pytest.raises(HallmarkError, match=said) as caught:
        waivers.load(path)
    assert str(caught.value.where).startswith(f"{path}:{line}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: 1\nb: 2\na: 3\n", "'a' is there twice"),
        (b"list:\n- {a: 1, a: 1}\n- {a: 1}\nb: 2\nb: 2\n", "'b' is there twice"),
        (b"day: 2027-02-30\n", "day is out of range"),
        (b"name: caf\xe9\n", "no UTF-8"),
    ],
)
def test_data(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_bytes(text)
    with pytest.raises(HallmarkError, match=said):
        catalogue.load_yaml(path)


def envelope(**changes: object) -> str:
    payload = base64.b64encode(b"{}").decode()
    whole = {"payload": payload, "payloadType": "x", "signatures": [{"keyid": "a", "sig": payload}]}
    return json.dumps(whole | changes)


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, envelope(payloadType=None), envelope(signatures=[{"keyid": 5, "sig": "AAAA"}])],
    ids=["deep", "no type", "no key id"],
)
def test_certificates(tmp_path: Path, text: str) -> None:
    path = tmp_path / "certificate.json"
    path.write_text(text)
    public = keys.load_public(keys.ensure(tmp_path / "keys").public)
    with pytest.raises(HallmarkError, match="holds no DSSE envelope"):
        opened(path, public)
    path.write_text(envelope())
    with pytest.raises(HallmarkError, match="signed with another key"):
        opened(path, public)


def test_recordings(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    with EvidenceLog(path, view="disk") as log:
        log.fact("one", 1)
    path.write_text(path.read_text() + "[" * 200_000 + "\n")
    (found,) = recording.load(path)
    assert found.problem == "is damaged: line 2 of evidence.jsonl can't be read"


def of_another_kind(pair: keys.KeyPair) -> None:
    key = X25519PrivateKey.generate()
    pair.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("half", [True, False], ids=["no public half", "a pair"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda pair: pair.private.write_text("garbage"), "no private key"),
        (lambda pair: directory(pair.private), "the signing key can't be read: Is a directory"),
        (of_another_kind, "no ed25519 key"),
    ],
)
def test_private_keys(tmp_path: Path, damage: Callable[[keys.KeyPair], None], said: str, half: bool) -> None:
    pair = keys.ensure(tmp_path)
    if half:
        pair.public.unlink()
    damage(pair)
    for use in (pair.signer, lambda: keys.ensure(tmp_path)):
        with pytest.raises(HallmarkError, match=said):
            use()


def test_a_pair_belongs_together(tmp_path: Path) -> None:
    pair, other = keys.ensure(tmp_path / "one"), keys.ensure(tmp_path / "other")
    pair.public.write_bytes(other.public.read_bytes())
    for use in (pair.signer, lambda: keys.ensure(tmp_path / "one")):
        with pytest.raises(HallmarkError, match="isn't the one of the private key"):
            use()
    directory(pair.public)
    with pytest.raises(HallmarkError, match="the public key can't be read"):
        keys.ensure(tmp_path / "one")


def test_who_only_checks_gets_no_key_that_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "keys"
    monkeypatch.setenv("HALLMARK_KEY_DIR", str(place))
    assert cli.main(["verify", str(tmp_path / "image.vhd"), str(tmp_path / "certificate.json")]) == 1
    with pytest.raises(HallmarkError, match="no key to check certificates with") as caught:
        keys.public_half(place)
    assert "--key" in (caught.value.hint or "") and not place.exists()
    assert keys.public_half(keys.ensure(place).public.parent) == place / "certificate-key.pub.pem"


def test_names_that_are_no_utf_8_are_spelled_out(tmp_path: Path) -> None:
    name = b"/tmp/caf\xe9".decode(errors="surrogateescape")
    check = Checks()
    check.empty(f"files in {name}", observed=[name])
    seen = Observation(requirement="a.b", view="disk", outcome="fail", checks=tuple(check.made))
    assert "caf\\\\xe9" in seen.model_dump_json()
    assert check.made[0].observed == "/tmp/caf\\xe9"
    assert check.made[0].what == "files in /tmp/caf\\xe9"


def test_the_evidence_keeps_such_names_whole(tmp_path: Path) -> None:
    name = b"/tmp/caf\xe9".decode(errors="surrogateescape")
    with EvidenceLog(tmp_path / "evidence.jsonl", view="disk") as log:
        log.read(name, b"x")
        log.fact("found", name)
        log.command("ls /tmp", status=0, stdout=f"{name}\n", stderr="", seconds=0)
    (found,) = recording.load(tmp_path / "evidence.jsonl")
    assert found.reads[name]["content"] == "x"
    (answer,) = next(iter(found.commands.values()))
    assert found.text(answer.stdout) == b"/tmp/caf\xe9\n"


def test_a_plan_beside_a_recording(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"recipe": ')
    with EvidenceLog(tmp_path / "evidence.jsonl", view="disk") as log:
        log.fact("one", 1)
    options = grammar.parser().parse_args(["certify", "--replay", str(tmp_path)])
    with pytest.raises(HallmarkError, match="this is no plan") as caught:
        command(options, workspace)
    assert caught.value.where == tmp_path / "plan.json"


def test_waivers_are_read_before_anybody_looks(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "waivers.yaml"
    path.write_text(WAIVER.replace("2027-01-01", "2027-02-30"))
    judging = Judging(("ccsp",), waivers=path)
    # Nothing is there to be looked at, which is said only by who looks.
    with pytest.raises(HallmarkError, match="a waiver is not well-formed"):
        replay(workspace, [Recorded(tmp_path / "nothing", judging, tmp_path / "out")], key=None)
