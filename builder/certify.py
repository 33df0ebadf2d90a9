"""The way from images to their certificates: look, judge, sign.

The looks at all images share this host's processors and memory (``builder.pool``). Each image is judged for
itself: what came of another changes nothing.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from builder import log
from builder.bootable import must_boot
from builder.built import existing
from builder.errors import HallmarkError
from builder.image import outputs
from builder.looks import Look, acceleration_for, look_at, sharing_of, views_of
from builder.pool import Pool
from builder.provenance import describe
from builder.recipe import Plan, find, name_of
from builder.stages import StageReport, code_digest, run_stage
from builder.workspace import Artefacts, Workspace, atomic_file, digest_file
from certification import certificate, judge, keys, recording, report, waivers
from certification.model import POLICY_OF_TARGET

__all__ = [
    "Candidate",
    "Outcome",
    "certify",
    "certify_several",
    "judge_looks",
    "key_directory",
    "show_slowest",
]

_SLOWEST = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that is to be certified; ``images`` is the directory that its plan's waivers file is relative
    to.
    """

    artefacts: Artefacts
    plan: Plan
    images: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an image: ``problem`` says why it has no certificate.

    ``report`` is None when it didn't come to be judged; ``seconds`` is the time until it was.
    """

    recipe: str
    stages: tuple[StageReport, ...] = ()
    report: Path | None = None
    problem: HallmarkError | None = None
    seconds: float = 0.0


def key_directory() -> Path:
    """Where the signing key is: ``HALLMARK_KEY_DIR``, or ``hallmark/keys`` in the user's configuration."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ.get("HALLMARK_KEY_DIR") or home / "hallmark" / "keys")


def certify(workspace: Workspace, artefacts: Artefacts, plan: Plan, *, images: Path) -> list[StageReport]:
    """Look, judge and sign; every stage that is not up to date.

    :param images: the directory that the plan's waivers file is relative to.
    :raises HallmarkError: the image is not good enough (the reports are written), or a stage failed.
    """
    must_boot(plan)
    (outcome,) = _certify(workspace, [Candidate(artefacts, plan, images)])
    if outcome.problem is not None:
        raise outcome.problem
    return list(outcome.stages)


def certify_several(workspace: Workspace, recipes: Sequence[str]) -> list[Outcome]:
    """Certify the newest image of each recipe, side by side; one that fails doesn't stop the others.

    What a certificate says does not depend on what was certified beside it.

    :raises HallmarkError: there is no such recipe. What is wrong with an image is in its outcome.
    """
    named = {name_of(recipe): recipe for recipe in recipes}
    missing: list[Outcome] = []
    candidates: list[Candidate] = []
    with ExitStack() as locks:
        for name, recipe in named.items():
            with log.about(name):
                try:
                    artefacts, plan = existing(workspace, recipe)
                    must_boot(plan)
                    locks.enter_context(workspace.lock(name))
                    candidates.append(Candidate(artefacts, plan, find(recipe).parent))
                except HallmarkError as problem:
                    log.error(problem)
                    missing.append(Outcome(name, problem=problem))
        outcomes = {outcome.recipe: outcome for outcome in (*missing, *_certify(workspace, candidates))}
    return [outcomes[name] for name in named]


def _certify(workspace: Workspace, candidates: Sequence[Candidate]) -> list[Outcome]:
    """Look at every image in one pool, and judge each in its turn."""
    began = time.monotonic()
    several = len(candidates) > 1
    acceleration = acceleration_for(workspace, *(one.plan for one in candidates))
    looks = sum(len(views_of(one.plan)) for one in candidates)
    sharing = sharing_of(acceleration, looks)
    if several:
        log.info(f"{looks} looks at {len(candidates)} images, {sharing.guests} at once")
    outcomes = []
    with Pool(sharing.guests) as pool:
        begun: list[list[Future[StageReport]]] = []
        for one in candidates:
            with log.about(one.plan.recipe if several else ""):
                try:
                    _must_be_judgeable(one)
                    begun.append(look_at(workspace, one.artefacts, one.plan, acceleration, sharing, pool))
                except HallmarkError as error:
                    refused: Future[StageReport] = Future()
                    refused.set_exception(error)
                    begun.append([refused])
        for one, looked in zip(candidates, begun, strict=True):
            stages: list[StageReport] = []
            page: Path | None = None
            problem: HallmarkError | None = None
            with log.about(one.plan.recipe if several else ""):
                try:
                    stages += [future.result() for future in looked]
                    page = one.artefacts.report_html
                    stages.append(judge_looks(one.artefacts, one.plan, views_of(one.plan), one.images))
                except HallmarkError as error:
                    problem = error
                    if several:
                        log.error(error)
            seconds = time.monotonic() - began
            outcomes.append(Outcome(one.plan.recipe, tuple(stages), page, problem, seconds))
    return outcomes


def _must_be_judgeable(one: Candidate) -> None:
    """Whatever is wrong with what an image is judged by is said before anybody looks at it.

    :raises HallmarkError: the waivers or the signing key can't be read, or the policy of one of the places
        where it is meant to run isn't among its policies.
    """
    chosen = one.plan.certification
    if chosen.waivers:
        waivers.load(one.images / chosen.waivers)
    for target in chosen.targets:
        if (name := POLICY_OF_TARGET[target]) not in chosen.policies:
            raise HallmarkError(
                f"{one.plan.recipe} is meant for {target}, and the policy {name} isn't among its policies",
                where=one.plan.recipe,
                why="the certificate would not say whether it runs there",
                details=[f"policies: {', '.join(chosen.policies) or 'none'}"],
                hint=f"add {name} to certification.policies in the recipe, or take {target} from its targets",
            )
    keys.ensure(key_directory())


def _not_as_sealed(artefacts: Artefacts, looks: Sequence[Look]) -> dict[Look, str]:
    """The looks whose record isn't the one that their evidence was sealed with, and what is wrong."""
    found = {}
    for look in looks:
        record = judge.load_run(look.observations(artefacts)).record
        wrong = recording.unlike_seal(record, look.evidence(artefacts)) if record is not None else ""
        if wrong:
            found[look] = f"{look.name} view: {wrong}; it is looked at again by the next run"
    return found


def judge_looks(artefacts: Artefacts, plan: Plan, looks: Sequence[Look], images: Path) -> StageReport:
    """Judge what the looks recorded, write the reports, and sign if nothing refuses.

    A look that came to no good end is taken again by the next run: its stage is forgotten.

    :raises HallmarkError: something refuses the certificate. The reports are written; an older certificate of
        these artefacts is gone.
    """
    observations = [look.observations(artefacts) for look in looks]
    waived = images / plan.certification.waivers if plan.certification.waivers else None
    today = datetime.now(UTC)

    pair = keys.ensure(key_directory())

    def make() -> None:
        judgement = judge.judge(
            observations,
            policies=plan.certification.policies,
            waivers=waived,
            recipe=plan.recipe,
            now=today,
        )
        unlike = _not_as_sealed(artefacts, looks)
        judgement = replace(judgement, problems=(*judgement.problems, *unlike.values()))
        with atomic_file(artefacts.evidence) as temporary, temporary.open("wb") as sink:
            for look in looks:
                with look.evidence(artefacts).open("rb") as source:
                    shutil.copyfileobj(source, sink)
        report.write(
            judgement, html=artefacts.report_html, junit=artefacts.report_xml, json=artefacts.results
        )
        for look, run in zip(looks, judgement.runs, strict=True):
            # A look that came to no good end is taken again by the next run.
            wrong = any(observation.outcome == "error" for observation in run.observations)
            if run.record is None or run.record.problems or wrong or look in unlike:
                (artefacts.stages / f"observe-{look.name}.json").unlink(missing_ok=True)
        show_slowest(judgement)
        if not judgement.certified:
            artefacts.certificate.unlink(missing_ok=True)
            raise HallmarkError(
                f"{plan.recipe} {plan.version} is not certified",
                where=artefacts.report_html,
                details=judgement.reasons(),
                why="only a certified image can be published",
                hint="open the report: it says what was expected, what was seen and the remedy",
            )
        envelope = certificate.issue(
            judgement,
            image=artefacts.output(plan.image_format),
            recipe=plan.recipe,
            version=plan.version,
            plan_digest=plan.digest(),
            substitutions=tuple(map(str, plan.substitutions)),
            signer=pair,
            evidence=artefacts.evidence,
            provenance=describe(artefacts, plan),
            further=outputs.certifiable(artefacts, plan),
        )
        with atomic_file(artefacts.certificate) as temporary:
            temporary.write_text(envelope)

    return run_stage(
        artefacts,
        "certificate",
        title="judge and sign",
        inputs={
            **{look.name: digest_file(look.observations(artefacts)) for look in looks},
            **{f"{look.name} record": _digest(look.record(artefacts)) for look in looks},
            **{f"{look.name} evidence": digest_file(look.evidence(artefacts)) for look in looks},
            "policies": " ".join(plan.certification.policies),
            "waivers": digest_file(waived) if waived else "",
            "outputs": digest_file(artefacts.outputs) if artefacts.outputs.exists() else "",
            "code": code_digest("certification"),
            "signer": digest_file(pair.public),
            "day": today.strftime("%Y-%m-%d"),
        },
        outputs=(
            artefacts.certificate,
            artefacts.evidence,
            artefacts.report_html,
            artefacts.report_xml,
            artefacts.results,
        ),
        make=make,
    )


def _digest(path: Path) -> str:
    """The digest of a record; "" for that of a look which ended early, and has none."""
    return digest_file(path) if path.exists() else ""


def show_slowest(judgement: judge.Judgement) -> None:
    """Print the requirements that took longest to look at, all views together; with --verbose each one."""
    slow = judgement.slowest[: None if log.verbose() else _SLOWEST]
    log.event(
        "slowest", requirements=[{"id": v.requirement.id, "seconds": round(v.seconds, 3)} for v in slow]
    )
    table = Table(f"slowest requirements of {judgement.recipe}", "views", "seconds", box=None, padding=(0, 2))
    table.columns[2].justify = "right"
    for verdict in slow:
        views = dict.fromkeys("-".join(filter(None, (o.view, o.variant))) for o in verdict.observations)
        table.add_row(verdict.requirement.id, ", ".join(views), f"{verdict.seconds:.1f}")
    log.console.print(table)
