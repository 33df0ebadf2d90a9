"""One look at one image while its tests run: what is open, what was recorded, what went wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from builder.errors import HallmarkError
from certification import catalogue as catalogues
from certification.evidence import EvidenceLog, scrub
from certification.model import (
    Observation,
    OstreeClaim,
    Outcome,
    Requirement,
    RunRecord,
    Subject,
    View,
)
from certification.recording import pick
from certification.views import open_view
from certification.views.base import OpenView, identity

__all__ = ["Session"]


class Session:
    """One look at one image: the catalogue, the open view, the records written so far."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.getoption
        self.view: View = option("hallmark_view")
        self.variant: str | None = option("hallmark_variant")
        self.image = Path(option("hallmark_image")) if option("hallmark_image") else None
        replay = option("hallmark_replay")
        self.out = Path(option("hallmark_out"))
        self.ssh_config = Path(option("hallmark_ssh_config")) if option("hallmark_ssh_config") else None
        self.force_tcg = bool(option("hallmark_force_tcg"))
        self.test_seconds = float(option("hallmark_test_seconds"))
        self.catalogue = catalogues.load(Path(option("hallmark_catalogue")))
        only = option("hallmark_only")
        self.only = frozenset(only.split(",")) if only else None
        self.asked = frozenset((option("hallmark_asked") or "").split(","))
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "run.json").unlink(missing_ok=True)
        self.evidence = EvidenceLog(self.out / "evidence.jsonl", view=self.view, variant=self.variant)
        self._observations = (self.out / "observations.jsonl").open("w", encoding="utf-8")
        self.problems: list[str] = []
        self.seen: dict[str, set[str]] = {}
        self.subject: Subject | None = None
        self.recording = pick(Path(replay), self.view, self.variant) if replay else None
        run = self.recording.run if self.recording else None
        # What a recording was measured by, it is measured by again.
        self.claim: str | None = option("hallmark_claim") or (run.claim if run else None)
        said = option("hallmark_ostree")
        self.ostree: OstreeClaim | None = (
            OstreeClaim.model_validate_json(said) if said else run.ostree if run else None
        )
        given = option("hallmark_elsewhere")
        self.elsewhere: tuple[str, ...] = tuple(given.split(",")) if given else run.elsewhere if run else ()
        self.started = datetime.now(UTC)
        self.before = (run.before if run else "") if self.recording else self.identity()
        self._began = time.monotonic()
        self._open: OpenView | None = None
        self.failure: HallmarkError | None = None
        if not option("collectonly"):
            self.start()

    def start(self) -> None:
        """Open the view. A view that can't be opened makes every requirement in it an error."""
        try:
            self._open = open_view(
                self.view,
                image=self.image,
                work=self.out,
                evidence=self.evidence,
                ssh_config=self.ssh_config,
                force_tcg=self.force_tcg,
                test_seconds=self.test_seconds,
                recording=self.recording,
            )
            self.subject = self._open.subject()
        except HallmarkError as error:
            self.problem(f"the {self.view} view could not be opened: {error}")
            self.failure = error

    @property
    def day(self) -> date:
        """The day, UTC, as of which is judged: today, or the day on which the recording was made."""
        return datetime.fromisoformat(self._recorded).date() if self._recorded else self.started.date()

    @property
    def _recorded(self) -> str | None:
        run = self.recording.run if self.recording else None
        return (run.recorded or run.started) if run else None

    def identity(self) -> str:
        """What identifies the bytes now (of a recording: when it ended); "" where nobody has them."""
        if self.recording is not None:
            return self.recording.run.after if self.recording.run else ""
        return identity(self.image) if self.image is not None else ""

    def stop(self) -> None:
        """Close the view; safe to call again."""
        if self._open is not None:
            self._open.close()

    @property
    def opened(self) -> OpenView:
        """The open view.

        :raises HallmarkError: it could not be opened.
        """
        if self._open is None:
            raise self.failure or HallmarkError("the view is not open")
        return self._open

    def problem(self, text: str) -> None:
        """Remember a defect of the suite or of the run."""
        self.problems.append(scrub(text))

    def wanted(self) -> Iterator[Requirement]:
        """The requirements that this view can prove."""
        for item in self.catalogue:
            if self.view in item.views and self.decides(item):
                yield item

    def decides(self, entry: Requirement) -> bool:
        """Whether this look is asked about a requirement, if it is one of its view."""
        if entry.id in self.elsewhere:
            return False
        if self.only is None:
            return not entry.optional or entry.id in self.asked
        return entry.id in self.only

    def write(self, observation: Observation) -> None:
        """Append an observation."""
        self.seen.setdefault(observation.requirement, set()).add(observation.test)
        self._observations.write(observation.model_dump_json() + "\n")
        self._observations.flush()

    def observation(self, requirement: str, outcome: Outcome, message: str = "", **more: Any) -> None:
        """Build an observation of this view and append it."""
        self.write(
            Observation(
                requirement=requirement,
                view=self.view,
                variant=self.variant,
                outcome=outcome,
                message=scrub(message),
                **more,
            )
        )

    def finish(self, suites: str) -> None:
        """Close the view and write ``run.json``, the sign that the run came to its end."""
        try:
            if self._open is not None:
                self._open.check()
        except HallmarkError as error:
            self.problem(f"after the last test: {error}")
        self.stop()
        self._observations.close()
        record = RunRecord(
            view=self.view,
            variant=self.variant,
            subject=self.subject,
            problems=tuple(self.problems),
            before=self.before,
            after=self.identity(),
            catalogue=self.catalogue.digest,
            suites=suites,
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._began, 2),
            recorded=self._recorded,
            claim=self.claim,
            elsewhere=self.elsewhere,
            ostree=self.ostree,
        )
        self.evidence.seal(record.model_dump(mode="json"))
        self.evidence.close()
        (self.out / "run.json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
