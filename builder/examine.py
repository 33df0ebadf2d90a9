"""Looks that end without a certificate: at a recording, at a running machine, at a single requirement."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.markup import escape

from builder import log
from builder.bootable import must_boot
from builder.certify import key_directory, show_slowest
from builder.diff.images import plan_of
from builder.errors import EXIT_FAILURE, HallmarkError
from builder.looks import acceleration_for, claim_of, observe_booted, ostree_claim_of, views_of
from builder.pool import Pool, places
from builder.recipe import Plan, find, load, plan
from builder.target import SshTarget
from builder.vm.machine import boot
from builder.workspace import Artefacts, Workspace, digest_file
from certification import catalogue, certificate, judge, keys, observe, policy, recording, report
from certification import waivers as waivers_

__all__ = ["Judging", "Recorded", "command", "foreign", "machines", "replay", "requirement", "tell_unseen"]

_REPLAY_MIB = 512  # a process of the suites, with the lists of a whole image


@dataclass(frozen=True, slots=True)
class Judging:
    """What is judged by: policies by name, the waivers file, the recipe whose waivers hold, and what a
    machine made from that recipe is called (``ID:RELEASE``).
    """

    policies: tuple[str, ...]
    waivers: Path | None = None
    recipe: str = ""
    claim: str | None = None

    @classmethod
    def of(cls, plan: Plan, images: Path) -> Judging:
        """As the certification of an image of this plan judges; ``images`` holds its waivers file."""
        chosen = plan.certification
        waivers = images / chosen.waivers if chosen.waivers else None
        return cls(tuple(chosen.policies), waivers, plan.recipe, claim_of(plan))

    def must_be_readable(self) -> None:
        """Say what is wrong with the waivers before anybody looks.

        :raises HallmarkError: they can't be read.
        """
        if self.waivers is not None:
            waivers_.load(self.waivers)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording at ``path``: what to judge it by now, which may differ from what was judged by then, and
    the directory ``out`` for its reports.
    """

    path: Path
    judging: Judging
    out: Path


def command(options: argparse.Namespace, workspace: Workspace) -> int:
    """``hallmark certify --replay`` and ``--hosts``; the exit status.

    :raises HallmarkError: nothing says what to judge by, or there is nothing to look at.
    """
    if len(options.recipes) > 1:
        raise HallmarkError("one recipe says what recordings and machines are judged by")
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    out = options.out or workspace.build / "reports" / now
    if options.replay:
        names = _names(options.replay)
        recorded = [
            Recorded(path, _judging(options, path), out / name if len(names) > 1 else out)
            for path, name in names.items()
        ]
        good = replay(workspace, recorded, key=options.key)
    else:
        good = machines(options.hosts, judging=_judging(options), out=out)
    return 0 if good else EXIT_FAILURE


def _judging(options: argparse.Namespace, path: Path | None = None) -> Judging:
    """What to judge by: policies that are named; else a recipe; else the plan beside the recording."""
    named = next(iter(options.recipes), None)
    if options.policy:
        name = load(find(named)).name if named else ""
        return Judging(tuple(options.policy), options.waivers, name)
    if named:
        recipe = load(find(named))
        major = recipe.context.release.partition(".")[0]
        draft = plan(recipe, version=f"{major}.{datetime.now(UTC):%Y%m%d}.0", source_date_epoch=0)
        return Judging.of(draft, recipe.root)
    for place in (path, *path.parents[:2]) if path else ():
        if (place / "plan.json").is_file():
            found = plan_of(Artefacts(place))
            return Judging.of(found, find(found.recipe).parent)
    raise HallmarkError(
        "nothing says what to judge by",
        where=path,
        hint="name policies with --policy, or a recipe: hallmark certify RECIPE --replay FILE",
    )


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Recordings by what to call their reports: the recipe and version that their directories name."""
    found: dict[Path, str] = {}
    for path in dict.fromkeys(path.resolve() for path in paths):
        place = path if path.is_dir() else path.parent
        words = [word for word in place.parts[-3:] if word not in ("observations", "/")][-2:]
        name = re.sub(r"[^\w.-]", "-", "-".join(words))
        found[path] = f"{name}-{len(found) + 1}" if name in found.values() else name
    return found


def replay(workspace: Workspace, recordings: Sequence[Recorded], *, key: Path | None) -> bool:
    """Take the looks of recordings again, without the images, and judge each; whether nothing refuses any.

    Where a certificate lies beside a recording, it must be of this recording.

    :param key: the public key for such certificates; default: this machine's own.
    :raises HallmarkError: there is no recording at one of the paths, or a certificate or the waivers can't be
        read; then none is looked at.
    """
    for item in recordings:
        item.judging.must_be_readable()
    strange = [foreign(item.path, key) for item in recordings]
    known = catalogue.load()
    looks = [(item, recording.load(item.path)) for item in recordings]
    asked = [policy.optional(item.judging.policies, catalogue=known) for item in recordings]
    number = sum(len(found) for _, found in looks)
    good = True
    with ExitStack() as scratch, Pool(places(number, memory_mib=_REPLAY_MIB)) as pool:
        begun = []
        for (item, found), more in zip(looks, asked, strict=True):
            work = scratch.enter_context(_work(workspace))
            with log.about(item.out.name if len(looks) > 1 else ""):
                begun.append([pool.submit(partial(_again, one, item.path, work, more)) for one in found])
        for (item, found), futures, problem in zip(looks, begun, strange, strict=True):
            # What was recorded on a running machine never had an image; nothing else may lack a view.
            machine = all(one.view == "booted" and one.run and not one.run.before for one in found)
            with log.about(item.out.name if len(looks) > 1 else ""):
                fine = _judge(
                    [future.result() for future in futures],
                    item.judging,
                    source="machine" if machine else "recording",
                    out=item.out,
                    problem=problem,
                )
            good = good and fine
    return good


def _again(item: recording.Recording, path: Path, work: Path, asked: tuple[str, ...]) -> Path:
    """Take one look of a recording again; its observations."""
    out = work / item.name
    observe.observe(
        item.view, None, out=out, logs=work / "log", variant=item.variant, replay=path, asked=asked
    )
    return out / "observations.jsonl"


def machines(urls: Sequence[str], *, judging: Judging, out: Path) -> bool:
    """Look at running machines over ssh, side by side; whether nothing refuses in any of them.

    Only the booted view can look: what takes the image is listed as not provable. No certificate comes of it,
    for nobody can tell which bytes the machine was made from.

    :raises HallmarkError: an address is wrong. A machine that doesn't answer is a result.
    """
    judging.must_be_readable()
    targets = {target.name: target for target in map(SshTarget.parse, urls)}
    if len(targets) < len(urls):
        raise HallmarkError("a machine is named twice", details=sorted(targets), hint="name each once")
    good = True
    with Pool(places(len(targets), memory_mib=_REPLAY_MIB)) as pool:
        begun = {}
        for name, target in targets.items():
            with log.about(name if len(targets) > 1 else ""):
                begun[name] = pool.submit(partial(_machine, target, out / name, judging.claim))
        for name, future in begun.items():
            named = judging if judging.recipe else replace(judging, recipe=name)
            with log.about(name if len(targets) > 1 else ""):
                good = _judge([future.result()], named, source="machine", out=out / name) and good
    return good


def _machine(target: SshTarget, place: Path, claim: str | None) -> Path:
    """Look at one machine; its observations. The recording beside them can be judged again later."""
    place.mkdir(parents=True, exist_ok=True)
    with log.step(f"look at {target.name}"), _sockets() as sockets:
        config = sockets / "config"
        config.write_text(target.config(sockets))
        observe.observe("booted", None, out=place, logs=place / "log", ssh_config=config, claim=claim)
    return place / "observations.jsonl"


def requirement(
    workspace: Workspace, artefacts: Artefacts, decided: Plan, identifier: str, *, every_view: bool = False
) -> bool:
    """Look at one requirement in an image and print what is seen; whether nothing failed.

    :param every_view: look in all its views; otherwise in the quickest: the bytes, the disk, a boot.
    :raises HallmarkError: the catalogue doesn't know it, or no view here can prove it.
    """
    known = catalogue.load()
    if identifier not in known:
        near = [item.id for item in known if identifier.partition(".")[2][:6] in item.id][:8]
        raise HallmarkError(f"the catalogue has no requirement {identifier!r}", details=near)
    entry = known[identifier]
    if entry.not_provable_here:
        raise HallmarkError(f"{identifier} can't be proven here", why=entry.not_provable_here)
    views = views_of(decided)[::-1]
    wanted = [look for look in views if look.view in entry.views]
    image = artefacts.output(decided.image_format)
    good = True
    for look in wanted if every_view else wanted[:1]:
        if look.firmware is not None:
            must_boot(decided)
        acceleration = acceleration_for(workspace, decided)
        with _work(workspace) as work:
            if look.firmware is not None:
                observe_booted(
                    image,
                    guest=boot(
                        image,
                        firmware=look.firmware,
                        work=work,
                        logs=work / "log",
                        acceleration=acceleration,
                    ),
                    firmware=look.firmware,
                    out=work / "out",
                    logs=work / "log",
                    claim=claim_of(decided),
                    only=(identifier,),
                )
            else:
                observe.observe(
                    look.view,
                    image,
                    out=work / "out",
                    logs=work / "log",
                    force_tcg=acceleration.kind == "tcg",
                    claim=claim_of(decided),
                    ostree=ostree_claim_of(artefacts, decided),
                    only=(identifier,),
                )
            run = judge.load_run(work / "out")
        for problem in run.record.problems if run.record else ("the look ended early",):
            log.warn(problem)
            good = False
        for seen in run.observations:
            good = good and seen.outcome in ("pass", "not-applicable")
            log.console.print(f"[bold]{seen.outcome}[/bold] {identifier} ({look.name}, {seen.seconds:.2f} s)")
            for check in seen.checks:
                mark = "✓" if check.ok else "✗"
                text = f"  {mark} {check.what}: expected {check.expected}, observed {check.observed}"
                log.console.print(escape(text))
            if seen.message and not seen.checks:
                log.console.print(escape(f"  {seen.message}"))
    if not good:
        log.console.print(f"remedy: {entry.remedy}")
    return good


def _judge(
    observations: Sequence[Path],
    judging: Judging,
    *,
    source: judge.Source,
    out: Path,
    problem: str | None = None,
) -> bool:
    """Judge looks, write the reports and print what came out; whether nothing refuses."""
    judgement = judge.judge(
        observations,
        policies=judging.policies,
        waivers=judging.waivers,
        recipe=judging.recipe,
        now=datetime.now(UTC),
        source=source,
    )
    if problem:
        judgement = replace(judgement, problems=(*judgement.problems, problem))
    report.write(judgement, html=out / "report.html", junit=out / "report.xml", json=out / "results.json")
    show_slowest(judgement)
    for reason in judgement.reasons():
        log.warn(reason)
    log.info(", ".join(f"{number} {kind}" for kind, number in judgement.counts.items() if number))
    tell_unseen(judgement)
    log.info(f"report: {out / 'report.html'}")
    return judgement.certified


def tell_unseen(judgement: judge.Judgement) -> None:
    """Say what could not be seen from here, and what it would take."""
    unseen = [verdict for verdict in judgement.verdicts if verdict.kind == "not-provable-here"]
    log.event("not-seen", requirements={verdict.requirement.id: verdict.message for verdict in unseen})
    for verdict in unseen:
        log.debug(f"not seen: {verdict.requirement.id}: {verdict.message}")
    why = Counter(
        "another place than this" if verdict.requirement.not_provable_here else verdict.message
        for verdict in unseen
    )
    for reason, number in why.most_common():
        log.info(f"not seen: {number} requirements that take {reason.removeprefix('it takes ')}")
    if unseen:
        log.info("the report says of each what would prove it")


def foreign(path: Path, key: Path | None) -> str | None:
    """Why the certificate beside a recording isn't of that recording; None when it is or there is none."""
    evidence = path / "evidence.jsonl" if path.is_dir() else path
    beside = evidence.with_name("certificate.json")
    if not beside.is_file():
        return None
    digest = certificate.evidence_digest(beside, key or keys.public_half(key_directory()))
    if evidence.is_file() and digest == digest_file(evidence):
        return None
    return "the recording isn't the one that the certificate beside it was issued on"


@contextmanager
def _work(workspace: Workspace) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="examine-", dir=workspace.work))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _sockets() -> Iterator[Path]:
    """A private directory with a short path: that of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hallmark-") as directory:
        yield Path(directory)
