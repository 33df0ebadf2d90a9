"""Looks at damaged copies of an image and says which mutants were killed.

A look through an emulated appliance takes a minute, so mutants that don't get into each other's way share a
copy and a look: no mutant of a look may turn red what another one must. That a requirement fails for its own
mutant's reason is shown by the text that its failure has to contain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.run import run
from certification.catalogue import SUITES, suites_digest
from certification.catalogue import load as load_catalogue
from certification.judge import load_run
from certification.model import Observation, OstreeClaim, Outcome, RunRecord, View
from certification.mutants.disk import Disk
from certification.mutants.model import (
    Attributes,
    Copy,
    Edit,
    Link,
    Mutant,
    Patch,
    Ramdisk,
    Remove,
    Write,
)
from certification.mutants.operations import apply
from certification.observe import observe
from certification.views.base import identity

__all__ = ["Finding", "Outcomes", "Verdict", "baseline", "examine", "judge", "plan"]

_RANK: Mapping[Outcome, int] = {"not-applicable": 0, "pass": 1, "fail": 2, "error": 3}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One look: the outcome and the words of each requirement (the worst of its tests)."""

    outcomes: Mapping[str, Outcome]
    messages: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``killed``, or the ``reason`` why not."""

    mutant: Mutant
    killed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found: a verdict for each mutant, and ``strange``: requirements that changed although no
    mutant of the look may change them.
    """

    verdicts: tuple[Verdict, ...]
    strange: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return all(verdict.killed for verdict in self.verdicts) and not self.strange


def plan(mutants: Sequence[Mutant]) -> list[list[Mutant]]:
    """Divide mutants into looks: the same order in gives the same looks."""
    looks: list[list[Mutant]] = []
    for mutant in mutants:
        fitting = (look for look in looks if all(_together(mutant, other) for other in look))
        found = next(fitting, None)
        if found is None:
            looks.append([mutant])
        else:
            found.append(mutant)
    return looks


def _together(one: Mutant, other: Mutant) -> bool:
    if one.view != other.view or one.alone or other.alone:
        return False
    if one.targets & other.touched or other.targets & one.touched:
        return False
    return not (_replaced(one) & _paths(other) or _replaced(other) & _paths(one))


def _paths(mutant: Mutant) -> set[str]:
    """Guest files that a mutant reads or changes."""
    found: set[str] = set()
    for item in mutant.what:
        match item:
            case (
                Attributes(change=path)
                | Write(write=path)
                | Edit(edit=path)
                | Remove(remove=path)
                | Link(link=path)
                | Patch(patch=path)
                | Ramdisk(ramdisk=path)
            ):
                found.add(path)
            case Copy(copy_of=source, to=path):
                found |= {source, path}
            case _:
                pass
    return found


def _replaced(mutant: Mutant) -> set[str]:
    """Files that are something else afterwards, whatever another mutant did to them."""
    found: set[str] = set()
    for item in mutant.what:
        match item:
            case Write(write=path) | Remove(remove=path) | Link(link=path) | Copy(to=path):
                found.add(path)
            case _:
                pass
    return found


def baseline(
    view: View,
    image: Path,
    *,
    work: Path,
    force_tcg: bool,
    recorded: Path | None = None,
    ostree: OstreeClaim | None = None,
) -> Outcomes:
    """How the undamaged image looks.

    :param ostree: what an ostree host is said to run.
    :param recorded: a directory with the observations of a certification; used if they are of exactly these
        bytes, this catalogue and these suites.
    """
    if recorded is not None and (recorded / "run.json").exists():
        try:
            record = load_run(recorded).record
        except HallmarkError:  # another version's: as good as none
            record = None
        current = (load_catalogue().digest, suites_digest(SUITES), identity(image))
        if (
            record is not None
            and (record.catalogue, record.suites, record.before) == current
            and record.ostree == ostree
            and not record.problems
        ):
            return _outcomes(recorded)
    return _look(view, image, work / f"baseline-{view}", force_tcg=force_tcg, ostree=ostree)


def examine(
    mutants: Sequence[Mutant],
    image: Path,
    *,
    good: Mapping[View, Outcomes],
    work: Path,
    force_tcg: bool,
    apart: bool = False,
    ostree: OstreeClaim | None = None,
) -> list[Finding]:
    """Judge every mutant, in as few looks as possible.

    :param good: how the undamaged image looks, by view.
    :param apart: a look for each mutant. It is strict about neighbours too: where mutants share a look, a
        requirement that one of them may change isn't watched for the others.
    :param ostree: what an ostree host is said to run.
    :param work: a directory for copies; one image at a time is in it. Reports stay there, copies don't.
    :raises HallmarkError: an operation doesn't apply, or the image itself changed.
    """
    before = identity(image)
    findings = []
    looks = [[mutant] for mutant in mutants] if apart else plan(mutants)
    for number, look in enumerate(looks, 1):
        view = look[0].view
        directory = work / f"look-{number}"
        directory.mkdir(parents=True, exist_ok=True)
        copy = directory / "image.vhd"
        with log.step(f"look {number} of {len(looks)}: {len(look)} mutants in the {view} view"):
            run(["cp", "--sparse=always", "--reflink=auto", image, copy], timeout=600)
            copy.chmod(0o600)
            try:
                disk = Disk(copy) if view == "disk" else None
                for mutant in look:
                    apply(mutant, copy, work=directory, disk=disk)
                seen = _look(view, copy, directory, force_tcg=force_tcg, ostree=ostree)
            finally:
                copy.unlink(missing_ok=True)
        findings.append(judge(look, good=good[view], seen=seen))
    if identity(image) != before:
        raise HallmarkError("the image was changed; mutants must only touch copies", where=image)
    return findings


def judge(look: Iterable[Mutant], *, good: Outcomes, seen: Outcomes) -> Finding:
    """Compare a look at damaged copies with the undamaged image."""
    look = list(look)
    allowed = {name for mutant in look for name in mutant.touched}
    strange = [
        f"{name}: {good.outcomes.get(name, 'missing')} before, now {outcome}: {seen.messages[name][:300]}"
        for name, outcome in sorted(seen.outcomes.items())
        if outcome != good.outcomes.get(name) and name not in allowed
    ]
    return Finding(tuple(_verdict(mutant, good, seen) for mutant in look), tuple(strange))


def _verdict(mutant: Mutant, good: Outcomes, seen: Outcomes) -> Verdict:
    for name, shows in mutant.red.items():
        before, now = good.outcomes.get(name, "missing"), seen.outcomes.get(name, "missing")
        # What the sample lacks is red for that reason already; the damage has to be told from it.
        if before == "error" or (before == "fail" and shows in good.messages[name]):
            return Verdict(mutant, False, f"{name} is {before} on the undamaged image already")
        if now != "fail":
            return Verdict(mutant, False, f"{name} is {now}: {seen.messages.get(name, '')[:200]}")
        if shows not in seen.messages[name]:
            reason = f"{name} failed without saying {shows!r}: {seen.messages[name][:300]}"
            return Verdict(mutant, False, reason)
    return Verdict(mutant, True)


def _look(
    view: View, image: Path, directory: Path, *, force_tcg: bool, ostree: OstreeClaim | None
) -> Outcomes:
    observe(view, image, out=directory, logs=directory, force_tcg=force_tcg, ostree=ostree)
    record = RunRecord.model_validate_json((directory / "run.json").read_text(encoding="utf-8"))
    if record.problems:
        raise HallmarkError(
            f"the look in the {view} view had a problem of its own", where=directory, details=record.problems
        )
    return _outcomes(directory)


def _outcomes(directory: Path) -> Outcomes:
    outcomes: dict[str, Outcome] = {}
    messages: dict[str, str] = {}
    for line in (directory / "observations.jsonl").read_text(encoding="utf-8").splitlines():
        seen = Observation.model_validate_json(line)
        if _RANK[seen.outcome] >= _RANK.get(outcomes.get(seen.requirement, "not-applicable"), 0):
            outcomes[seen.requirement] = seen.outcome
        messages[seen.requirement] = messages.get(seen.requirement, "") + seen.message
    return Outcomes(outcomes, messages)
