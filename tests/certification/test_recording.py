"""Looks that are taken again from their recording: the same verdicts, or errors; never a pass by accident."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import HallmarkError
from certification import recording
from certification.evidence import KEPT, EvidenceLog, masked
from certification.judge import load_run
from certification.model import Observation, OstreeClaim
from certification.observe import observe
from certification.views.replay import ReplayView

HEAD = "from certification.checks import requirement\n"
SUITE = """
from pathlib import Path
@requirement("azure.two")
def test_two(image, check): check.equal("size", expected=0, observed=image.disk_size % 1048576)
@requirement("azure.only-seven")
def test_seven(image, check):
    said = image.answer("footer by od", lambda: Path(image.path).read_bytes()[-512:-504].decode())
    check.equal("cookie", expected="conectix", observed=said)
@requirement("azure.four", views=("format",))
def test_four(image, check): check.equal("mark", expected=b"\\x55\\xaa", observed=image.read({offset}, 2))
"""


def verdicts(directory: Path) -> dict[str, tuple[str, str, list[tuple[str, str, str]]]]:
    """Outcome, message and comparisons by requirement and test."""
    return {
        f"{item.requirement} {item.test}": (
            item.outcome,
            item.message,
            [(check.what, check.expected, check.observed) for check in item.checks],
        )
        for item in load_run(directory).observations
    }


def outcomes(directory: Path) -> set[str]:
    return {item.outcome for item in load_run(directory).observations}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, plain_image: Path) -> Path:
    """What Hallmark's own suites recorded of the bytes of a small image."""
    work = tmp_path_factory.mktemp("recorded")
    observe("format", plain_image, out=work / "format", logs=work / "log")
    return work / "format"


def replay(path: Path, work: Path) -> Path:
    observe("format", None, out=work / "again", logs=work / "log", replay=path)
    return work / "again"


def test_the_same_suites_come_to_the_same_verdicts(recorded: Path, tmp_path: Path) -> None:
    again = replay(recorded / "evidence.jsonl", tmp_path)
    assert verdicts(again) == verdicts(recorded) and len(verdicts(recorded)) >= 10
    assert {"pass", "fail"} <= outcomes(again), "a small image passes some and fails some"
    before, after = load_run(recorded).record, load_run(again).record
    assert before is not None and after is not None
    assert (after.recorded, after.before, after.problems) == (before.started, before.before, ())
    # A repetition is a recording, too: of the same day and the same bytes.
    third = tmp_path / "third"
    observe("format", None, out=third, logs=tmp_path / "log", replay=again)
    assert verdicts(third) == verdicts(recorded)
    last = load_run(third).record
    assert last is not None and last.recorded == before.started


def cut_in_a_line(path: Path) -> None:
    data = (path / "evidence.jsonl").read_bytes()
    (path / "evidence.jsonl").write_bytes(data[: len(data) - 40])


def without_seal(path: Path) -> None:
    lines = (path / "evidence.jsonl").read_text().splitlines(keepends=True)
    (path / "evidence.jsonl").write_text("".join(lines[:-1]))


def without_a_line(path: Path) -> None:
    lines = (path / "evidence.jsonl").read_text().splitlines(keepends=True)
    (path / "evidence.jsonl").write_text("".join(lines[1:]))


def edited(path: Path) -> None:
    text = (path / "evidence.jsonl").read_text()
    assert text.count("636f6e6563746978") == 1
    (path / "evidence.jsonl").write_text(text.replace("636f6e6563746978", "636f6e6563746979"))


def two_in_one(path: Path) -> None:
    text = (path / "evidence.jsonl").read_text()
    (path / "evidence.jsonl").write_text(text * 2)


def kept_file_changed(path: Path) -> None:
    for file in (path / KEPT).iterdir():
        file.write_bytes(file.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_in_a_line, "is damaged: line"),
        (without_seal, "ended early"),
        (without_a_line, "was cut"),
        (edited, "was changed"),
        (two_in_one, "goes on after its end"),
        (kept_file_changed, "a recorded file was changed"),
        (lambda path: shutil.rmtree(path / KEPT), "a file that the evidence names is missing"),
    ],
)
def test_damage_is_found(recorded: Path, tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(recorded, copy)
    damage(copy)
    with (
        EvidenceLog(tmp_path / "evidence.jsonl", view="format") as log,
        pytest.raises(HallmarkError, match=said),
    ):
        found = recording.pick(copy, "format", None)
        _ = ReplayView(found, work=tmp_path, evidence=log).image


@pytest.mark.parametrize("damage", [edited, kept_file_changed])
def test_a_damaged_recording_proves_nothing(
    recorded: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(recorded, copy)
    damage(copy)
    assert outcomes(replay(copy, tmp_path)) == {"error"}


def toy_look(
    suites: Path, *, offset: int, image: Path | None, catalogue: Path, out: Path, **more: Any
) -> None:
    suites.mkdir(exist_ok=True)
    (suites / "test_toy.py").write_text(HEAD + SUITE.format(offset=offset))
    observe("format", image, out=out, logs=out / "log", suites=suites, catalogue=catalogue, **more)


def test_what_an_ostree_host_was_said_to_run_is_recorded(
    tmp_path: Path, plain_image: Path, toy_catalogue: Path
) -> None:
    said = OstreeClaim(commit="ab" * 32, stateroot="os", remote="r", ref="os/9", url="https://x.invalid")
    first, again = tmp_path / "first", tmp_path / "again"
    toy: dict[str, Any] = {"suites": tmp_path / "s", "catalogue": toy_catalogue, "offset": 510}
    toy_look(image=plain_image, out=first, ostree=said, **toy)
    toy_look(image=None, out=again, replay=first, **toy)
    for place in (first, again):
        record = load_run(place).record
        assert record is not None and record.ostree == said and record.problems == ()


def test_a_test_that_asks_something_new_gets_no_answer(
    tmp_path: Path, plain_image: Path, toy_catalogue: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    toy_look(tmp_path / "s", offset=510, image=plain_image, catalogue=toy_catalogue, out=first)
    assert {key.split()[0]: value[0] for key, value in verdicts(first).items()}["azure.four"] == "pass"
    toy_look(tmp_path / "s", offset=4096, image=None, catalogue=toy_catalogue, out=again, replay=first)
    found = {key.split()[0]: value for key, value in verdicts(again).items()}
    assert found["azure.two"][0] == "pass", "what was asked then is judged anew"
    assert found["azure.only-seven"][0] == "pass", "what a program said of the whole image is recorded"
    assert found["azure.four"][0] == "error" and "nobody read bytes 4096 to 4098" in found["azure.four"][1]


KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r+/=\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "hidden", "shape"),
    [
        (f"a\n{KEY}\nz", "b3Blbn", "-----BEGIN OPENSSH PRIVATE KEY-----\nxxxxxxxxxxxxxx=\n-----END"),
        ("-----BEGIN RSA PRIVATE KEY-----cutoff", "cutoff", "-----BEGIN RSA PRIVATE KEY-----xxxxxx"),
        ("root:!$6$salt$0123456789:1", "0123456789", "root:!$6$xxxxxxxxxxxxxxx:1"),
        ("https://x.invalid/?sv=1&sig=AbCdEfGh&x", "AbCdEfGh", "&sig=xxxxxxxx&x"),
    ],
)
def test_masked_secrets_keep_their_shape(text: str, hidden: str, shape: str) -> None:
    assert hidden not in masked(text) and shape in masked(text) and len(masked(text)) == len(text)


def test_a_program_that_knows_the_armour_of_keys_is_not_masked() -> None:
    program = "-----BEGIN OPENSSH PRIVATE KEY-----\n\0code goes on here"
    assert masked(program) == program


def test_what_a_line_cannot_hold_is_kept_and_comes_back_whole(tmp_path: Path) -> None:
    long, odd = "x" * 50_000 + "\n" + KEY, b"\0\xff binary"
    with EvidenceLog(tmp_path / "evidence.jsonl", view="booted", variant="bios") as log:
        log.command("flood", status=3, stdout=long, stderr="", seconds=0)
        log.command("word " * 8000, status=0, stdout="short", stderr="", seconds=0)
        log.read("/odd", odd)
        log.failure("hang", what="the guest did not finish a command", seconds=1)
        assert log.made("nonce", lambda: b"first") == log.made("nonce", lambda: b"second") == b"first"
        record = Observation(requirement="azure.one", view="booted", outcome="pass").model_dump()
        log.seal(record)  # a seal that isn't one: of something else
    (found,) = recording.load(tmp_path)
    assert "seal of another version" in found.problem
    assert "b3BlbnNz" not in (tmp_path / "evidence.jsonl").read_text()
    assert all(b"b3BlbnNz" not in path.read_bytes() for path in (tmp_path / KEPT).iterdir())
    answers = {answer.status: answer for group in found.commands.values() for answer in group}
    assert found.text(answers[3].stdout).startswith(b"x" * 50_000 + b"\n-----BEGIN")
    assert found.kept(str(found.reads["/odd"]["kept"])).read_bytes() == odd
    assert found.remade("nonce") == b"first"
    lines = (tmp_path / "evidence.jsonl").read_text().splitlines()
    assert all(len(line) < 40_000 and json.loads(line) for line in lines)
