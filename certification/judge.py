"""Merges what every view saw into one verdict a requirement, and those into one judgement of the image.

Nothing passes by silence: a view that ended early, a requirement that nobody looked at, views that disagree,
a waiver that waives nothing — each is named and each refuses the certificate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from builder.errors import HallmarkError
from certification import catalogue as catalogues
from certification import policy as policies_
from certification import support
from certification import waivers as waivers_
from certification.catalogue import Catalogue
from certification.model import (
    RUN_FORMAT,
    VIEWS,
    Observation,
    Requirement,
    RunRecord,
    Severity,
    Subject,
    SupportEnd,
    Waiver,
)

__all__ = [
    "VERDICTS",
    "Judgement",
    "Run",
    "Source",
    "Verdict",
    "VerdictKind",
    "judge",
    "load_run",
]

#: What was judged: an image, an image's recording, or a machine of which nobody has the image.
Source = Literal["image", "recording", "machine"]
VerdictKind = Literal["pass", "fail", "waived", "not-applicable", "not-provable-here", "error"]
VERDICTS: tuple[VerdictKind, ...] = ("error", "fail", "waived", "pass", "not-applicable", "not-provable-here")


@dataclass(frozen=True)
class Run:
    """One look at the image as it was recorded. ``record`` is None when the look ended early."""

    directory: Path
    record: RunRecord | None
    observations: tuple[Observation, ...]

    @property
    def name(self) -> str:
        """View and variant, for people."""
        source = self.record or next(iter(self.observations), None)
        if source is None:
            return self.directory.name
        return f"{source.view} ({source.variant})" if source.variant else str(source.view)

    @property
    def evidence(self) -> Path:
        return self.directory / "evidence.jsonl"


@dataclass(frozen=True)
class Verdict:
    """What is to be said about one requirement. ``message`` is empty when there is nothing to add.

    ``disagreement``: one look passed and another failed. That is more than a failure: what is on the disk
    isn't what runs, or the firmware makes a difference that it must not make. No low severity excuses that.
    """

    requirement: Requirement
    severity: Severity
    kind: VerdictKind
    message: str
    observations: tuple[Observation, ...]
    policies: tuple[str, ...]
    waiver: Waiver | None = None
    disagreement: bool = False

    @property
    def refuses(self) -> bool:
        """This verdict alone refuses the certificate."""
        failed = self.kind == "fail" and (self.severity == "must" or self.disagreement)
        return self.kind == "error" or failed

    @property
    def seconds(self) -> float:
        return sum(observation.seconds for observation in self.observations)


@dataclass(frozen=True)
class Judgement:
    """The whole result. ``problems`` are defects that belong to no single requirement.

    Only of an ``image`` can there be a certificate; ``certified`` then says whether it may have one.
    """

    recipe: str
    subject: Subject | None
    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...]
    policies: tuple[policies_.Policy, ...]
    waivers: tuple[Waiver, ...]
    support: tuple[SupportEnd, ...]
    catalogue: str
    suites: str
    image_identity: str
    runs: tuple[Run, ...]
    judged: datetime
    source: Source = "image"

    @cached_property
    def counts(self) -> Mapping[VerdictKind, int]:
        """How many requirements got each verdict."""
        return {kind: sum(1 for verdict in self.verdicts if verdict.kind == kind) for kind in VERDICTS}

    @property
    def certified(self) -> bool:
        """The image may have its certificate."""
        return not self.problems and not any(v.refuses for v in self.verdicts) and self.counts["pass"] > 0

    @property
    def headline(self) -> str:
        """The result in a sentence; only an image is certified."""
        if self.source == "machine":
            return f"{self.recipe} {'shows nothing wrong' if self.certified else 'is not as required'}"
        if self.source == "recording":
            would = "satisfies" if self.certified else "doesn't satisfy"
            return f"{self.recipe}, as it was recorded, {would} the policies"
        return f"{self.recipe} is {'certified' if self.certified else 'not certified'}"

    @property
    def slowest(self) -> tuple[Verdict, ...]:
        """The requirements by the time that looking at them took, all views together; longest first."""
        return tuple(sorted(self.verdicts, key=lambda v: (-v.seconds, v.requirement.id)))

    def reasons(self) -> list[str]:
        """Why there is no certificate, a line each, with the remedy; empty when there is one."""
        found = list(self.problems)
        for verdict in self.verdicts:
            if verdict.refuses:
                text = f"{verdict.requirement.id} ({verdict.kind}): {verdict.message}"[:500]
                found.append(f"{text}; fix: {verdict.requirement.remedy}" if verdict.kind == "fail" else text)
        if not found and not self.counts["pass"]:
            found.append("no requirement was proven")
        return found


def judge(
    observations: Sequence[Path],
    *,
    policies: Sequence[str],
    waivers: Path | None,
    recipe: str,
    now: datetime,
    catalogue: Catalogue | None = None,
    policy_directory: Path = policies_.POLICIES,
    source: Source = "image",
) -> Judgement:
    """Judge an image by what was recorded of it.

    :param observations: the ``observations.jsonl`` of each look, with its ``run.json`` beside it.
    :param waivers: the recipe's waivers file, if it has one.
    :param recipe: the recipe's name, for the scope of waivers.
    :param now: an aware time; its date decides about waivers.
    :param source: of a ``machine`` nobody has the image: what only the image shows is not provable there.
    :raises HallmarkError: a policy, the waivers or a record can't be read.
    """
    catalogue = catalogue or catalogues.load()
    selected = policies_.select(policies, catalogue=catalogue, directory=policy_directory)
    runs = tuple(load_run(path) for path in observations)
    problems = _defects(runs, catalogue)
    subject = next((run.record.subject for run in runs if run.record and run.record.subject), None)
    all_waivers = waivers_.load(waivers) if waivers is not None else ()
    holding, expired = waivers_.in_scope(all_waivers, recipe=recipe, today=now.date())
    problems += expired
    verdicts: list[Verdict] = []
    for identifier, severity in selected.severities.items():
        entry = catalogue[identifier]
        kind, message, seen = _merge(entry, runs, subject)
        if source == "machine" and entry.views and "booted" not in entry.views and kind == "error":
            kind, message = "not-provable-here", f"it takes the image: {' or '.join(entry.views)} view"
        disagreement = {"pass", "fail"} <= {item.outcome for item in seen} and kind == "fail"
        waiver = holding.get(identifier) if kind == "fail" else None
        if disagreement and waiver is not None:
            # Nobody can answer for what nobody knows: which of the views saw the image as it is.
            waiver, message = None, f"{message}; a disagreement of views can't be waived"
        verdicts.append(
            Verdict(
                requirement=entry,
                severity=severity,
                kind="waived" if waiver else kind,
                message=message,
                observations=seen,
                policies=selected.origins[identifier],
                waiver=waiver,
                disagreement=disagreement,
            )
        )
    used = {verdict.requirement.id for verdict in verdicts if verdict.kind == "waived"}
    # An error or a disagreement refuses the certificate by itself, and says nothing about whether the waiver
    # is needed; neither does a machine about what fails in the views of the image.
    undecided = {
        verdict.requirement.id
        for verdict in verdicts
        if verdict.kind == "error"
        or verdict.disagreement
        or (source == "machine" and set(verdict.requirement.views) - {"booted"})
    }
    for identifier, waiver in holding.items():
        if identifier in used | undecided:
            continue
        if identifier not in catalogue:
            why = "the catalogue knows no such requirement"
        elif identifier not in selected.severities:
            why = f"it is not part of {', '.join(policies)}"
        else:
            why = "the requirement does not fail"
        problems.append(f"the waiver of {identifier} ({waiver.owner}) waives nothing: {why}")
    day = support.recorded_on(runs, now) if source == "recording" else now.date()
    problems += support.unanswered(runs, verdicts, as_of=day)
    first = next((run.record for run in runs if run.record), None)
    return Judgement(
        recipe=recipe,
        subject=subject,
        verdicts=tuple(sorted(verdicts, key=_order)),
        problems=tuple(problems),
        policies=selected.policies,
        waivers=tuple(holding[name] for name in sorted(used)),
        support=support.ends(runs),
        catalogue=catalogue.digest,
        suites=first.suites if first else "",
        image_identity=first.before if first else "",
        runs=runs,
        judged=now,
        source=source,
    )


def load_run(path: Path) -> Run:
    """Read the records of one look from its directory (or any file in it).

    :raises HallmarkError: a record is garbled or of another version.
    """
    directory = path if path.is_dir() else path.parent
    records = directory / "run.json"
    lines = directory / "observations.jsonl"
    try:
        record = (
            RunRecord.model_validate_json(records.read_text(encoding="utf-8")) if records.exists() else None
        )
        text = lines.read_text(encoding="utf-8") if lines.exists() else ""
        seen = tuple(Observation.model_validate_json(line) for line in text.splitlines() if line)
    except (ValidationError, UnicodeDecodeError) as error:
        raise HallmarkError(
            "the record of a look at the image can't be read",
            where=directory,
            details=str(error).splitlines()[:5],
            hint="delete the directory and certify again",
        ) from None
    if record is not None and record.format != RUN_FORMAT:
        raise HallmarkError(f"the record has format {record.format}, this is {RUN_FORMAT}", where=records)
    return Run(directory, record, seen)


def _defects(runs: Sequence[Run], catalogue: Catalogue) -> list[str]:
    found: list[str] = []
    if not runs:
        found.append("nobody looked at the image")
    names = [run.name for run in runs]
    found += [
        f"there are two records of the {name} view"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    for run in runs:
        if run.record is None:
            found.append(f"the look at the {run.name} view ended early")
            continue
        found += [f"{run.name} view: {problem}" for problem in run.record.problems]
        if run.record.before != run.record.after:
            found.append(f"the image changed while the {run.name} view looked at it")
        if run.record.catalogue != catalogue.digest:
            found.append(f"the {run.name} view looked with another catalogue of requirements; look again")
        for observation in run.observations:
            if observation.requirement not in catalogue:
                found.append(f"{run.name} view: observation of {observation.requirement}, which nobody knows")
            if (observation.view, observation.variant) != (run.record.view, run.record.variant):
                found.append(f"{run.name} view: a record of the {observation.view} view is among its own")
    complete = [run.record for run in runs if run.record]
    if len({record.before for record in complete}) > 1:
        found.append("the views did not look at the same file")
    if len({record.suites for record in complete}) > 1:
        found.append("the views were not tested by the same suites; look again")
    subjects = {_told(record.subject) for record in complete if record.subject}
    if len(subjects) > 1:
        found.append(f"the views saw different guests: {', '.join(sorted(subjects))}")
    return found


def _told(subject: Subject) -> str:
    """What of a subject decides about requirements, for people."""
    families = "-".join(sorted(subject.families)) or "no family"
    return f"{subject.id} {subject.version} ({families}{', alike' * subject.like}, {subject.kind})"


def _merge(
    entry: Requirement, runs: Sequence[Run], subject: Subject | None
) -> tuple[VerdictKind, str, tuple[Observation, ...]]:
    if entry.not_provable_here:
        return "not-provable-here", entry.not_provable_here, ()
    concerned = [run for run in runs if any(_view(run) == view for view in entry.views)]
    if subject is not None and (reason := entry.applies_to.excludes(subject)):
        # A look that knows the guest doesn't look at what isn't about it: this one saw another guest.
        looked = tuple(
            item
            for run in concerned
            if run.record is not None and run.record.subject is not None
            for item in run.observations
            if item.requirement == entry.id and item.outcome != "not-applicable"
        )
        if looked:
            return "error", f"{_names(looked)}: a verdict, although it is {reason}", looked
        return "not-applicable", reason, ()
    if not concerned:
        return "error", f"nobody looked: it is decided in the {' or '.join(entry.views)} view", ()
    seen: list[Observation] = []
    errors: list[str] = []
    for run in concerned:
        own = [observation for observation in run.observations if observation.requirement == entry.id]
        seen += own
        if not own and not (entry.once and run.record is not None and entry.id in run.record.elsewhere):
            errors.append(f"{run.name}: no verdict")
        errors += [f"{run.name}: {item.message}" for item in own if item.outcome == "error"]
    if errors:
        return "error", "; ".join(errors), tuple(seen)
    shared = _shared(seen)
    if shared:
        return "fail", "; ".join(shared), tuple(seen)
    failures = [item for item in seen if item.outcome == "fail"]
    passes = [item for item in seen if item.outcome == "pass"]
    if failures:
        message = "; ".join(dict.fromkeys(item.message for item in failures))
        if passes:
            message = f"the views disagree: {_names(failures)} failed, {_names(passes)} passed; {message}"
        return "fail", message, tuple(seen)
    if passes:
        return "pass", "", tuple(seen)
    if not seen:
        return "error", "nobody looked: each booted look left it to another", ()
    return "not-applicable", "; ".join(dict.fromkeys(item.message for item in seen)), tuple(seen)


def _shared(seen: Sequence[Observation]) -> list[str]:
    """What two machines of the image have in common although each must have its own."""
    owners: dict[tuple[str, str], list[Observation]] = {}
    for item in seen:
        for check in item.checks:
            if check.unique:
                owners.setdefault((check.what, check.observed), []).append(item)
    return [f"{what}: the same in {_names(items)}" for (what, _), items in owners.items() if len(items) > 1]


def _view(run: Run) -> str | None:
    source = run.record or next(iter(run.observations), None)
    return source.view if source is not None else None


def _names(observations: Sequence[Observation]) -> str:
    return ", ".join(dict.fromkeys(f"{o.view} ({o.variant})" if o.variant else o.view for o in observations))


def _order(verdict: Verdict) -> tuple[int, int, int, str]:
    entry = verdict.requirement
    first = VIEWS.index(entry.views[0]) if entry.views else len(VIEWS)
    return catalogues.area_rank(entry.area), VERDICTS.index(verdict.kind), first, entry.id
