"""The way from an image to its certificate: boot what must be booted, look at every view, judge, sign.

The views are looked at side by side as far as the host's processors and memory go; each leaves its own
observations, so that a run that was killed looks again only at what it had not finished.
"""

from __future__ import annotations

import contextvars
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from builder import log
from builder.errors import HallmarkError
from builder.image import outputs
from builder.ostree import Commit
from builder.provenance import describe
from builder.recipe import Plan
from builder.stages import StageReport, code_digest, read_stamp, run_stage
from builder.vm.acceleration import Acceleration, probe, side_by_side
from builder.vm.firmware import Firmware
from builder.vm.machine import Machine, boot
from builder.vm.serial import SerialLog
from builder.workspace import Artefacts, Workspace, atomic_file, digest_file
from certification import catalogue, certificate, judge, keys, observe, policy, report
from certification.model import OstreeClaim, View

__all__ = [
    "acceleration_for",
    "certify",
    "claim_of",
    "judge_looks",
    "key_directory",
    "observe_booted",
    "ostree_claim_of",
    "show_slowest",
    "views_of",
]

_SLOWEST = 10
_GUEST_MIB = 3072  # a guest of 2 GiB, its emulator, and this program's share
_CODE = ("certification", "builder/image", "builder/vm")


@dataclass(frozen=True, slots=True)
class _Look:
    """One way to look at the image; ``firmware`` says how it is booted for that."""

    view: View
    firmware: Firmware | None = None

    @property
    def name(self) -> str:
        return f"{self.view}-{self.firmware}" if self.firmware else self.view


def key_directory() -> Path:
    """Where the signing key is: ``HALLMARK_KEY_DIR``, or ``hallmark/keys`` in the user's configuration."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ.get("HALLMARK_KEY_DIR") or home / "hallmark" / "keys")


def claim_of(plan: Plan) -> str:
    """What the certificate will call an image of this plan, and so what it is measured by."""
    return f"{plan.distribution.id}:{plan.distribution.release}"


def ostree_claim_of(artefacts: Artefacts, plan: Plan) -> OstreeClaim | None:
    """What the build says that an ostree host runs: the commit that the recipe pins, or that was made or
    taken for it, and the remote that the recipe names. None for any other image.
    """
    system = plan.ostree
    if system is None or not (system.remote and system.ref and system.url):
        return None
    return OstreeClaim(
        commit=system.commit or Commit.load(artefacts.commit).checksum,
        stateroot=system.stateroot,
        remote=system.remote,
        ref=system.ref,
        url=system.url,
    )


def acceleration_for(workspace: Workspace, plan: Plan) -> Acceleration:
    """What guests run on; nobody asks where there is no guest."""
    if plan.container is not None:
        return Acceleration("tcg", "a container isn't booted")
    return probe(cache=workspace.cache)


def views_of(plan: Plan) -> tuple[_Look, ...]:
    """How an image of this plan is looked at; the slow looks first, so that they overlap best."""
    if plan.container is not None:
        return (_Look("disk"),)
    firmware: list[Firmware] = []
    if 2 in plan.disk.generations:
        # What is offered for Trusted Launch runs on machines without it, too: both have to be seen.
        firmware += ["uefi"] if plan.security == "standard" else ["uefi", "uefi-secure"]
    if 1 in plan.disk.generations:
        firmware.append("bios")
    booted = tuple(_Look("booted", kind) for kind in firmware)
    return (*booted, _Look("disk"), _Look("format"))


def certify(workspace: Workspace, artefacts: Artefacts, plan: Plan, *, images: Path) -> list[StageReport]:
    """Look, judge and sign; every stage that is not up to date.

    :param images: the directory that the plan's waivers file is relative to.

    :raises HallmarkError: the image is not good enough (the reports are written), or a stage failed.
    """
    looks = views_of(plan)
    acceleration = acceleration_for(workspace, plan)
    reports = _observe_all(workspace, artefacts, plan, looks, acceleration)
    reports.append(judge_looks(artefacts, plan, looks, images))
    return reports


def _observe_all(
    workspace: Workspace,
    artefacts: Artefacts,
    plan: Plan,
    looks: Sequence[_Look],
    acceleration: Acceleration,
) -> list[StageReport]:
    image = read_stamp(artefacts, "image")
    if image is None:
        raise HallmarkError("the image was never finished", where=artefacts.root, hint="build it first")

    claim, ostree = claim_of(plan), ostree_claim_of(artefacts, plan)

    first = next((look.firmware for look in looks if look.firmware), None)
    sharing = side_by_side(acceleration, memory_mib=_GUEST_MIB)
    known = catalogue.load()
    asked = policy.optional(plan.certification.policies, catalogue=known)

    def one(look: _Look) -> StageReport:
        return run_stage(
            artefacts,
            f"observe-{look.name}",
            title=f"look at the {look.view} view" + (f", {look.firmware}" if look.firmware else ""),
            inputs={
                "image": image.model_dump_json(exclude={"seconds"}),
                "code": code_digest(*_CODE),
                "targets": " ".join(plan.certification.targets),
                "claim": claim,
                "ostree": ostree.model_dump_json() if ostree else "",
                "asked": " ".join(name for name in asked if look.view in known[name].views),
            },
            outputs=tuple(_results(artefacts, look)),
            make=lambda: _observe(
                workspace,
                artefacts,
                artefacts.output(plan.image_format),
                look,
                acceleration,
                claim,
                ostree,
                cpus=sharing.cpus,
                asked=asked,
                again=look.firmware not in (None, first),
            ),
        )

    with ThreadPoolExecutor(max_workers=sharing.guests) as pool:
        futures: list[Future[StageReport]] = []
        for look in looks:
            context = contextvars.copy_context()
            futures.append(pool.submit(context.run, one, look))
        return [future.result() for future in futures]


def _results(artefacts: Artefacts, look: _Look) -> tuple[Path, Path]:
    directory = artefacts.root / "observations" / look.name
    return directory / "observations.jsonl", directory / "evidence.jsonl"


def _observe(
    workspace: Workspace,
    artefacts: Artefacts,
    image: Path,
    look: _Look,
    acceleration: Acceleration,
    claim: str,
    ostree: OstreeClaim | None,
    *,
    cpus: int,
    asked: tuple[str, ...],
    again: bool,
) -> None:
    work = workspace.work / f"observe-{artefacts.root.parent.name}-{look.name}"
    shutil.rmtree(work, ignore_errors=True)
    out = work / "out"
    out.mkdir(parents=True)
    try:
        if look.firmware is None:
            observe.observe(
                look.view,
                image,
                out=out,
                logs=artefacts.log,
                claim=claim,
                ostree=ostree,
                asked=asked,
                force_tcg=acceleration.kind == "tcg",
            )
        else:
            guest = boot(
                image,
                firmware=look.firmware,
                work=work,
                logs=artefacts.log,
                acceleration=acceleration,
                cpus=cpus,
                # As customers do, and so that growing can be seen.
                disk_mib=(image.stat().st_size >> 20) + 4096,
            )
            observe_booted(
                image,
                guest=guest,
                firmware=look.firmware,
                out=out,
                logs=artefacts.log,
                claim=claim,
                again=again,
            )
        target = artefacts.root / "observations" / look.name
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        out.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def observe_booted(
    image: Path,
    *,
    guest: AbstractContextManager[Machine],
    firmware: Firmware,
    out: Path,
    logs: Path,
    claim: str | None = None,
    again: bool = False,
    only: tuple[str, ...] = (),
) -> None:
    """Boot an image and look at it. A guest that doesn't boot, or breaks, is a result: errors, recorded.

    :param guest: gives the machine once it can be logged in to (``builder.vm.machine.boot``).
    :param logs: where its serial line is logged.
    :raises HallmarkError: the guest could not even be started; that says nothing about the image.
    """
    serial = logs / f"serial-{firmware}.log"
    serial.unlink(missing_ok=True)
    try:
        with guest as machine:
            observe.observe(
                "booted",
                image,
                out=out,
                logs=logs,
                ssh_config=machine.ssh_config,
                claim=claim,
                again=again,
                variant=firmware,
                only=only,
            )
            observe.keep_console(out, SerialLog(serial).tail())
    except HallmarkError as error:
        if not serial.exists():
            raise
        observe.give_up(
            f"{error.what}: {error.why}" if error.why else error.what,
            view="booted",
            image=image,
            out=out,
            variant=firmware,
            console=SerialLog(serial).tail(),
            only=only,
        )


def judge_looks(artefacts: Artefacts, plan: Plan, looks: Sequence[_Look], images: Path) -> StageReport:
    """Judge what the looks recorded, write the reports, and sign if nothing refuses.

    A look that came to no good end is taken again by the next run: its stage is forgotten.

    :raises HallmarkError: something refuses the certificate. The reports are written; an older certificate of
        these artefacts is gone.
    """
    observations = [_results(artefacts, look)[0] for look in looks]
    waivers = images / plan.certification.waivers if plan.certification.waivers else None
    today = datetime.now(UTC)

    pair = keys.ensure(key_directory())

    def make() -> None:
        judgement = judge.judge(
            observations,
            policies=plan.certification.policies,
            waivers=waivers,
            recipe=plan.recipe,
            now=today,
        )
        with atomic_file(artefacts.evidence) as temporary, temporary.open("wb") as sink:
            for look in looks:
                with _results(artefacts, look)[1].open("rb") as source:
                    shutil.copyfileobj(source, sink)
        report.write(
            judgement, html=artefacts.report_html, junit=artefacts.report_xml, json=artefacts.results
        )
        for look, run in zip(looks, judgement.runs, strict=True):
            # A look that came to no good end is taken again by the next run.
            wrong = any(observation.outcome == "error" for observation in run.observations)
            if run.record is None or run.record.problems or wrong:
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
            **{path.parent.name: digest_file(path) for path in observations},
            "policies": " ".join(plan.certification.policies),
            "waivers": digest_file(waivers) if waivers else "",
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


def show_slowest(judgement: judge.Judgement) -> None:
    """Print the requirements that took longest to look at, all views together."""
    slow = judgement.slowest[:_SLOWEST]
    log.event(
        "slowest", requirements=[{"id": v.requirement.id, "seconds": round(v.seconds, 3)} for v in slow]
    )
    table = Table("slowest requirements", "views", "seconds", box=None, padding=(0, 2))
    table.columns[2].justify = "right"
    for verdict in slow:
        views = dict.fromkeys("-".join(filter(None, (o.view, o.variant))) for o in verdict.observations)
        table.add_row(verdict.requirement.id, ", ".join(views), f"{verdict.seconds:.1f}")
    log.console.print(table)
