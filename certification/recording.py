"""Reads what earlier looks at an image recorded, so that they can be taken again without the image.

A recording is an ``evidence.jsonl`` (of one look, or of several one after the other) and the files that it
names by their SHA-256, kept in ``recorded/`` beside it or below ``observations/``. What doesn't fit its
digest is not believed: a look whose lines were changed, cut off or lost is an error as a whole.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from builder.errors import HallmarkError
from builder.workspace import digest_file
from certification.evidence import KEPT
from certification.model import RunRecord, View

__all__ = ["Answer", "Recording", "load", "pick", "unlike_seal"]

_LINE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What the guest answered to a command; ``failed`` says why there was no answer."""

    requirement: str
    status: int = 0
    stdout: Mapping[str, Any] = field(default_factory=dict)
    stderr: Mapping[str, Any] = field(default_factory=dict)
    failed: str = ""


@dataclass
class Recording:
    """One look. ``problem`` says why it can't be believed; then nothing can be asked of it."""

    view: View
    variant: str | None
    stores: tuple[Path, ...]
    run: RunRecord | None = None
    problem: str = ""
    commands: dict[str, list[Answer]] = field(default_factory=dict)
    reads: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    fetched: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    things: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    made: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """View and variant, as in the names of directories."""
        return f"{self.view}-{self.variant}" if self.variant else self.view

    @property
    def record(self) -> RunRecord:
        """How the look went.

        :raises HallmarkError: the recording can't be believed.
        """
        if self.problem or self.run is None:
            raise HallmarkError(f"the recording of the {self.name} view {self.problem or 'is incomplete'}")
        return self.run

    def kept(self, name: str) -> Path:
        """A file that is kept beside the evidence.

        :raises HallmarkError: it isn't there, or has other content than its name says.
        """
        for store in self.stores if re.fullmatch(r"[0-9a-f]{64}", str(name)) else ():
            path = store / name
            if path.is_file():
                if digest_file(path) != name:
                    raise HallmarkError(
                        "a recorded file was changed", where=path, why="its name is the digest of its content"
                    )
                return path
        raise HallmarkError(
            "the recording is incomplete: a file that the evidence names is missing",
            details=[f"sha256 {name}"],
            hint=f"bring the directory {KEPT}/ along with evidence.jsonl",
        )

    def text(self, fields: Mapping[str, Any]) -> bytes:
        """An output that was recorded: in the line, or kept beside it."""
        if "kept" in fields:
            return self.kept(fields["kept"]).read_bytes()
        return str(fields.get("text", "")).encode(errors="surrogateescape")

    def whole(self, kind: str) -> bytes:
        """What ``EvidenceLog.whole`` recorded.

        :raises HallmarkError: the look gathered no such thing.
        """
        if kind not in self.things:
            raise HallmarkError(f"the recording of the {self.name} view has no {kind}")
        try:
            return gzip.decompress(self.kept(self.things[kind]["kept"]).read_bytes())
        except (OSError, EOFError, zlib.error):
            raise HallmarkError(f"the recorded {kind} is damaged") from None

    def remade(self, name: str) -> bytes:
        """What this machine had made for a test.

        :raises HallmarkError: nothing of that name was recorded.
        """
        fields = self.made.get(name)
        if fields is None:
            raise HallmarkError(f"the recording of the {self.name} view has no {name!r}")
        if "kept" in fields:
            return self.kept(fields["kept"]).read_bytes()
        try:
            return base64.b64decode(fields["base64"], validate=True)
        except (KeyError, binascii.Error):
            raise HallmarkError(f"the recorded {name!r} is damaged") from None


def load(path: Path) -> tuple[Recording, ...]:
    """Every look in a recording: an ``evidence.jsonl``, or a directory with one or with those of its looks.

    :raises HallmarkError: there is no recording at ``path``.
    """
    files = _files(path)
    found: dict[tuple[str, str | None], Recording] = {}
    for file in files:
        stores = (
            file.parent / KEPT,
            *sorted(file.parent.glob(f"observations/*/{KEPT}")),
            *sorted(file.parent.glob(f"*/{KEPT}")),
        )
        for key, recording in _read(file, stores).items():
            if key in found:
                found[key].problem = "is there twice"
            found.setdefault(key, recording)
    if not found:
        raise HallmarkError("the recording is empty", where=path)
    return tuple(found.values())


def pick(path: Path, view: View, variant: str | None) -> Recording:
    """The recording of one look.

    :raises HallmarkError: it isn't there.
    """
    for recording in load(path):
        if (recording.view, recording.variant) == (view, variant):
            recording.problem = recording.problem or _damage(recording)
            return recording
    raise HallmarkError(f"there is no recording of the {view} view", where=path)


def unlike_seal(record: RunRecord, evidence: Path) -> str:
    """Why a look's ``run.json`` isn't what its evidence was sealed with; "" when it is.

    What is added afterwards doesn't count: the last lines of the console, and problems, which refuse the
    certificate by themselves.
    """
    look = (record.view, record.variant)
    try:
        sealed = next(one for one in load(evidence) if (one.view, one.variant) == look).record
    except (HallmarkError, StopIteration):
        # Suites that are ended early seal nothing; the record says so itself.
        return "" if record.problems else "there is no seal that run.json could be held against"
    added = record.problems[len(sealed.problems) :]
    later = {"console": record.console, "problems": (*sealed.problems, *added)}
    if record == sealed.model_copy(update=later):
        return ""
    return "run.json isn't the record that the evidence was sealed with"


def _damage(recording: Recording) -> str:
    """What is wrong with the files that a recording names; "" when all are there as they were."""
    answers = (text for found in recording.commands.values() for a in found for text in (a.stdout, a.stderr))
    named = (*recording.reads.values(), *recording.things.values(), *recording.made.values(), *answers)
    names = {str(fields["kept"]) for fields in named if "kept" in fields}
    try:
        for name in sorted(names):
            recording.kept(name)
    except HallmarkError as error:
        return f"is damaged: {error.what}"
    return ""


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / "evidence.jsonl").is_file():
        return [path / "evidence.jsonl"]
    found = sorted(path.glob("*/evidence.jsonl"))
    if not found:
        raise HallmarkError(
            "there is no recording",
            where=path,
            hint="give an evidence.jsonl that `hallmark certify` wrote, or the directory that holds it",
        )
    return found


def _read(path: Path, stores: Sequence[Path]) -> dict[tuple[str, str | None], Recording]:
    found: dict[tuple[str, str | None], Recording] = {}
    digests: dict[tuple[str, str | None], tuple[Any, int]] = {}
    damage = ""
    for number, line, record in _lines(path):
        view = record.get("view")
        if view not in ("format", "disk", "booted"):
            damage = f"is damaged: line {number} of {path.name} can't be read"
            continue
        key = (view, record.get("variant"))
        recording = found.setdefault(key, Recording(view, record.get("variant"), tuple(stores)))
        digest, lines = digests.get(key, (hashlib.sha256(), 0))
        if recording.run is not None:
            recording.problem = f"goes on after its end, at line {number}"
        elif record.get("kind") == "seal":
            _unseal(recording, record, lines=lines, digest=digest.hexdigest())
        digest.update(line)
        digests[key] = (digest, lines + 1)
        try:
            _take(recording, record)
        except (TypeError, ValueError, AttributeError):
            damage = f"is damaged: line {number} of {path.name} can't be understood"
    for recording in found.values():
        if damage:
            recording.problem = damage
        elif recording.run is None:
            recording.problem = recording.problem or "ended early"
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes, Mapping[str, Any]]]:
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(iter(lambda: stream.readline(_LINE_LIMIT), b""), 1):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                yield number, line, record if isinstance(record, dict) else {}
    except OSError as error:
        raise HallmarkError(f"the recording can't be read: {error.strerror}", where=path) from None


def _unseal(recording: Recording, record: Mapping[str, Any], *, lines: int, digest: str) -> None:
    try:
        recording.run = RunRecord.model_validate(record.get("run"))
    except ValidationError:
        recording.problem = "has a seal of another version"
        return
    if record.get("lines") != lines:
        recording.problem = f"was cut: {record.get('lines')} lines were sealed, {lines} are there"
    elif record.get("digest") != digest:
        recording.problem = "was changed: its lines don't have the digest that its seal gives"


def _take(recording: Recording, record: Mapping[str, Any]) -> None:
    kind = record.get("kind")
    if kind == "command":
        command = str(record.get("command", ""))
        name = record.get("command_sha256") or hashlib.sha256(command.encode()).hexdigest()
        answer = Answer(
            requirement=str(record.get("requirement", "")),
            status=int(record.get("status", 0)),
            stdout=record.get("stdout", {}),
            stderr=record.get("stderr", {}),
            failed=str(record.get("failed", "")),
        )
        recording.commands.setdefault(name, []).append(answer)
    elif kind == "read":
        recording.reads[str(record.get("path"))] = record
    elif kind == "fetched":
        recording.fetched[str(record.get("path"))] = record
    elif kind == "made":
        recording.made[str(record.get("name"))] = record
    elif kind in ("inventory", "image", "rpmdb"):
        recording.things[kind] = record
