"""The looks at an image: which there are, and how each is taken.

Each look leaves its own observations and its own stamp, so that a run that was killed looks again only at
what it had not finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from builder.errors import HallmarkError
from builder.ostree import Commit
from builder.pool import Pool
from builder.recipe import Plan
from builder.stages import StageReport, code_digest, read_stamp, run_stage
from builder.vm.acceleration import Acceleration, Sharing, probe, side_by_side
from builder.vm.firmware import Firmware
from builder.vm.machine import Machine, boot
from builder.vm.serial import SerialLog
from builder.workspace import Artefacts, Workspace
from certification import catalogue, observe, policy
from certification.catalogue import Catalogue
from certification.model import OstreeClaim, View

__all__ = [
    "Look",
    "acceleration_for",
    "claim_of",
    "left_out",
    "look_at",
    "observe_booted",
    "ostree_claim_of",
    "sharing_of",
    "views_of",
]

_GUEST_MIB = 3072  # a guest of 2 GiB, its emulator, and this program's share
_CODE = ("certification", "builder/image", "builder/vm")


@dataclass(frozen=True, slots=True)
class Look:
    """One way to look at the image; ``firmware`` says how it is booted for that."""

    view: View
    firmware: Firmware | None = None

    @property
    def name(self) -> str:
        return f"{self.view}-{self.firmware}" if self.firmware else self.view

    def observations(self, artefacts: Artefacts) -> Path:
        """What it leaves of an image; the evidence lies beside it."""
        return artefacts.root / "observations" / self.name / "observations.jsonl"

    def evidence(self, artefacts: Artefacts) -> Path:
        return self.observations(artefacts).with_name("evidence.jsonl")

    def record(self, artefacts: Artefacts) -> Path:
        return self.observations(artefacts).with_name("run.json")


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
        fingerprint=(system.fingerprint or "").upper(),
    )


def acceleration_for(workspace: Workspace, *plans: Plan) -> Acceleration:
    """What guests run on; nobody asks where there is no guest."""
    if all(plan.container is not None for plan in plans):
        return Acceleration("tcg", "a container isn't booted")
    return probe(cache=workspace.cache)


def views_of(plan: Plan) -> tuple[Look, ...]:
    """How an image of this plan is looked at; the slow looks first, so that they overlap best."""
    if plan.container is not None:
        return (Look("disk"),)
    firmware: list[Firmware] = []
    if 2 in plan.disk.generations:
        # What is offered for Trusted Launch runs on machines without it, too: both have to be seen.
        firmware += ["uefi"] if plan.security == "standard" else ["uefi", "uefi-secure"]
    if 1 in plan.disk.generations:
        firmware.append("bios")
    booted = tuple(Look("booted", kind) for kind in firmware)
    return (*booted, Look("disk"), Look("format"))


def left_out(look: Look, looks: Sequence[Look], known: Catalogue) -> tuple[str, ...]:
    """What this look leaves to another booted one, because no firmware changes it.

    The areas are dealt out in turn: what is asked of one program of the guest stays together, and the looks
    that run side by side take about as long.
    """
    booted = [other for other in looks if other.firmware]
    if look.firmware is None:
        return ()
    once = [entry for entry in known if entry.once]
    areas = sorted({entry.area for entry in once})
    return tuple(
        entry.id for entry in once if booted[areas.index(entry.area) % len(booted)].name != look.name
    )


def sharing_of(acceleration: Acceleration, looks: int) -> Sharing:
    """How so many looks, of whatever images, share this host."""
    return side_by_side(acceleration, memory_mib=_GUEST_MIB, wanted=looks)


def look_at(
    workspace: Workspace,
    artefacts: Artefacts,
    plan: Plan,
    acceleration: Acceleration,
    sharing: Sharing,
    pool: Pool,
) -> list[Future[StageReport]]:
    """Ask the pool for every look at an image that is not up to date; what goes wrong is in the futures."""
    looks = views_of(plan)
    known = catalogue.load()
    asked = policy.optional(plan.certification.policies, catalogue=known)

    def one(look: Look) -> StageReport:
        image = read_stamp(artefacts, "image")
        if image is None:
            raise HallmarkError("the image was never finished", where=artefacts.root, hint="build it first")
        ostree = ostree_claim_of(artefacts, plan)
        elsewhere = left_out(look, looks, known)
        return run_stage(
            artefacts,
            f"observe-{look.name}",
            title=f"look at the {look.view} view" + (f", {look.firmware}" if look.firmware else ""),
            inputs={
                "image": image.model_dump_json(exclude={"seconds"}),
                "code": code_digest(*_CODE),
                "targets": " ".join(plan.certification.targets),
                "claim": claim_of(plan),
                "ostree": ostree.model_dump_json() if ostree else "",
                "asked": " ".join(name for name in asked if look.view in known[name].views),
                "elsewhere": " ".join(elsewhere),
            },
            outputs=(look.observations(artefacts), look.evidence(artefacts), look.record(artefacts)),
            make=lambda: _take(
                look,
                workspace,
                artefacts,
                plan,
                acceleration,
                cpus=sharing.cpus,
                asked=asked,
                elsewhere=elsewhere,
            ),
        )

    return [pool.submit(partial(one, look)) for look in looks]


def _take(
    look: Look,
    workspace: Workspace,
    artefacts: Artefacts,
    plan: Plan,
    acceleration: Acceleration,
    *,
    cpus: int,
    asked: tuple[str, ...],
    elsewhere: tuple[str, ...],
) -> None:
    image = artefacts.output(plan.image_format)
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
                claim=claim_of(plan),
                ostree=ostree_claim_of(artefacts, plan),
                asked=asked,
                force_tcg=acceleration.force_tcg,
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
                claim=claim_of(plan),
                elsewhere=elsewhere,
            )
        target = look.observations(artefacts).parent
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
    elsewhere: tuple[str, ...] = (),
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
                elsewhere=elsewhere,
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
