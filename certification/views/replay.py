"""The replay view: an earlier look at an image, taken again from its recording, without the image.

The suites run as they do on a disk or a machine, so that a test that was changed since is judged anew. What
they ask is answered from the recording and from nothing else; a question that was not asked then is an error.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from builder.errors import HallmarkError
from certification.evidence import EvidenceLog
from certification.model import Subject
from certification.recording import Answer, Recording
from certification.views.base import booted_subject, disk_subject, glob_command
from certification.views.container import DESCRIPTION, ContainerImage
from certification.views.format import ImageBytes
from certification.views.inventory import Inventory, pack, unpack
from certification.views.tree import tree_host

__all__ = ["ReplayBackend", "ReplayView"]


class ReplayBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types
    """testinfra's way into a recording (``certification.views.base.GuestAccess``)."""

    NAME = "replay"

    def __init__(self, recording: Recording, *, work: Path, evidence: EvidenceLog) -> None:
        super().__init__(recording.name)
        self._encoding = "utf-8"
        self._recording = recording
        self._work = work
        self._evidence = evidence
        self._asked: Counter[tuple[str, str]] = Counter()
        self._inventory: Inventory | None = None
        self._rpmdb: Path | None = None

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """What the guest answered to this command then.

        :raises HallmarkError: it was not asked, or gave no answer then either.
        """
        command = self.quote(command, *args)
        answer = self._answer(command)
        if answer.failed:
            self._evidence.failure(command, what=answer.failed, seconds=0)
            raise HallmarkError(answer.failed)
        out, err = self._recording.text(answer.stdout), self._recording.text(answer.stderr)
        result = self.result(answer.status, command.encode(), out, err)
        self._evidence.command(
            command, status=answer.status, stdout=result.stdout, stderr=result.stderr, seconds=0
        )
        return result

    def decode(self, data: bytes) -> str:
        return data.decode("utf-8", errors="replace")

    def read_bytes(self, path: str) -> bytes | None:
        """A file's content as it was then; None when there was no such regular file."""
        fields = self._recording.reads.get(path)
        data: bytes | None = None
        if fields is None:
            inventory = self.inventory() if "inventory" in self._recording.things else None
            if inventory is None or ((entry := inventory.get(path)) is not None and entry.type == "f"):
                raise HallmarkError(f"the recording has no answer: nobody read {path} then")
        elif fields.get("exists"):
            data = self._content(path, fields)
        self._evidence.read(path, data)
        return data

    def fetch(self, path: str) -> Path | None:
        """The copy of a guest file that was made then."""
        fields = self._recording.fetched.get(path)
        if fields is None:
            raise HallmarkError(f"the recording has no answer: nobody copied {path} then")
        found = self._recording.kept(fields["kept"]) if fields.get("exists") else None
        self._evidence.fetched(path, found)
        return found

    def glob(self, pattern: str) -> list[str]:
        """Paths that matched a shell pattern."""
        if self._recording.view == "disk":
            return self.inventory().glob(pattern)
        out = self.run(glob_command(pattern))
        return sorted(out.stdout.splitlines())

    def inventory(self) -> Inventory:
        """Every file of the guest, as it was listed then."""
        if self._inventory is None:
            try:
                self._inventory = unpack(self._recording.whole("inventory"))
            except ValueError as error:
                raise HallmarkError(f"the recorded listing of files is damaged: {error}") from None
            # A repetition is a recording as good as the first.
            summary = f"{len(self._inventory)} files"
            self._evidence.whole("inventory", pack(self._inventory), summary=summary)
        return self._inventory

    def rpmdb(self) -> Path:
        """The copy of the rpm database that was made then."""
        if self._rpmdb is None:
            fields = self._recording.things.get("rpmdb")
            if fields is None:
                raise HallmarkError("the recording has no rpm database")
            target = self._work / "rpmdb"
            target.mkdir(parents=True)
            for name, digest in fields["files"].items():
                # A plain name, whatever the recording says.
                (target / Path(name).name).write_bytes(self._recording.kept(digest).read_bytes())
            self._evidence.directory("rpmdb", {path.name: path for path in target.iterdir()})
            self._rpmdb = target
        return self._rpmdb

    def made(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What was made for the tests then."""
        return self._evidence.made(name, lambda: self._recording.remade(name))

    def _answer(self, command: str) -> Answer:
        name = hashlib.sha256(command.encode()).hexdigest()
        answers = self._recording.commands.get(name, [])
        requirement = self._evidence.requirement
        own = [answer for answer in answers if answer.requirement == requirement]
        turn = self._asked[requirement, name]
        self._asked[requirement, name] += 1
        if turn < len(own):
            return own[turn]
        if not answers:
            raise HallmarkError(
                "the recording has no answer: nobody ran this command then", details=[command[:300]]
            )
        # Another test asked, or this one less often: any answer will do if all are the same.
        if any((a.status, a.stdout, a.failed) != (answers[0].status, answers[0].stdout, answers[0].failed)
               for a in answers):  # fmt: skip
            raise HallmarkError(
                "the recording has several answers to this command and doesn't say which one belongs here",
                details=[command[:300]],
            )
        return answers[0]

    def _content(self, path: str, fields: Mapping[str, Any]) -> bytes:
        if "kept" in fields:
            return self._recording.kept(fields["kept"]).read_bytes()
        data = str(fields.get("content", "")).encode()
        if hashlib.sha256(data).hexdigest() != fields.get("sha256"):
            raise HallmarkError(f"the recorded content of {path} doesn't have its digest")
        return data


class RecordedImage(ImageBytes):
    """The bytes of an image that were read then, in a sparse file; other bytes can't be read."""

    def __init__(self, recording: Recording, *, work: Path, evidence: EvidenceLog) -> None:
        head, _, data = recording.whole("image").partition(b"\n")
        try:
            table = json.loads(head)
            size, self._known = int(table["size"]), [(int(a), int(b)) for a, b in table["ranges"]]
            name = Path(table["name"]).name or "image"  # a plain name, whatever the recording says
        except (ValueError, KeyError, TypeError):
            raise HallmarkError("the recorded bytes of the image are damaged") from None
        work.mkdir(parents=True, exist_ok=True)
        path = work / name
        position = 0
        with path.open("wb") as stream:
            stream.truncate(size)
            for start, length in self._known:
                stream.seek(start)
                stream.write(data[position : position + min(length, size - start)])
                position += min(length, size - start)
        super().__init__(path, evidence=evidence)
        self._recording, self._answers = recording, evidence

    @property
    def path(self) -> Path:
        raise HallmarkError(
            "the recording has no answer: there is no image that a program could look into",
            hint="a test asks for such things through image.answer(), which is recorded",
        )

    def answer(self, name: str, ask: Callable[[], str]) -> str:
        """What was said about the whole image then."""
        return self._answers.made(name, lambda: self._recording.remade(name)).decode()

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, if they were read then.

        :raises HallmarkError: they were not.
        """
        end = min(offset + length, self.size)
        if offset < end and not any(a <= offset and end <= a + b for a, b in self._known):
            raise HallmarkError(
                f"the recording has no answer: nobody read bytes {offset} to {end} of the image then"
            )
        return super().read(offset, length)


class ReplayView:
    """A recording in the place of the view that it was made in.

    :raises HallmarkError: the recording can't be believed.
    """

    def __init__(self, recording: Recording, *, work: Path, evidence: EvidenceLog) -> None:
        _ = recording.record  # a recording that can't be believed is not opened
        self._recording = recording
        self._work = work / "replay"
        self._evidence = evidence
        self._image: RecordedImage | None = None
        self._container: ContainerImage | None = None
        if DESCRIPTION in recording.made:
            described = evidence.made(DESCRIPTION, lambda: recording.remade(DESCRIPTION))
            self._container = ContainerImage.recorded(described)
        self._host: Any = None

    @property
    def image(self) -> ImageBytes | ContainerImage:
        if self._container is not None:
            return self._container
        if self._image is None:
            self._image = RecordedImage(self._recording, work=self._work, evidence=self._evidence)
        return self._image

    @property
    def host(self) -> Any:
        if self._recording.view == "format":
            raise HallmarkError("the format view looks at bytes and has no guest")
        if self._host is None:
            backend = ReplayBackend(self._recording, work=self._work, evidence=self._evidence)
            if self._recording.view == "disk":
                self._host = tree_host(backend)
            else:
                self._host = Host(backend)
                backend.set_host(self._host)
        return self._host

    def subject(self) -> Subject | None:
        if self._recording.view == "format":
            return None
        # Asked as in the view itself, so that the answer is part of what this look rests on.
        if self._recording.view == "booted":
            return booted_subject(self.host)
        return disk_subject(self.host.backend, kind="container" if self._container else "machine")

    def check(self) -> None:
        """A recording was held against its seal when it was opened."""

    def close(self) -> None:
        if self._image is not None:
            self._image.close()
        shutil.rmtree(self._work, ignore_errors=True)
