"""Small images with a real partition table and footer, and certificates that the real code issued."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from builder.disk import gpt
from builder.disk.layout import BIOS_BOOT, LINUX, Layout, Partition
from builder.image import container
from builder.image.outputs import OutputFile
from builder.image.vhd import write_footer
from builder.publish.states import Actor
from builder.recipe import Plan
from builder.workspace import Artefacts, Workspace, digest_file
from certification import catalogue, keys, policy
from certification.bundle import seal
from certification.certificate import issue
from certification.judge import Judgement, Run, Verdict
from certification.model import Requirement, Subject
from certification.policy import Policy
from certification.provenance import Provenance
from certification.views.base import identity

MIB = 1 << 20
Act = Callable[..., Actor]
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def make_vhd(path: Path, *, mib: int = 24, seed: int = 1) -> Path:
    """A sparse fixed VHD: a GPT, a few runs of random bytes at odd places, written zeros, and holes."""
    source = random.Random(seed)
    with path.open("wb") as stream:
        stream.truncate(mib * MIB)
        os.pwrite(stream.fileno(), source.randbytes(440), 0)
        os.pwrite(stream.fileno(), bytes(2 * MIB), 1 * MIB)  # stored, but zero
        os.pwrite(stream.fileno(), source.randbytes(5 * MIB + 4096), 3 * MIB + 512)  # more than one request
        if mib >= 64:
            os.pwrite(stream.fileno(), source.randbytes(33 * MIB), 20 * MIB)
        os.pwrite(stream.fileno(), source.randbytes(1024), 12 * MIB + 7 * 512)
        gpt.write(stream.fileno(), _layout(mib))
    write_footer(path, timestamp=1_790_000_000, unique_id=UUID(int=seed))
    return path


def _layout(mib: int) -> Layout:
    return Layout(
        mib * MIB,
        UUID(int=9),
        (
            Partition(1, "bios", "BIOS boot", BIOS_BOOT, UUID(int=10), 1 * MIB, 1 * MIB),
            Partition(4, "root", "root", LINUX, UUID(int=11), 2 * MIB, (mib - 3) * MIB),
        ),
    )


def policies(plan: Plan) -> tuple[Policy, ...]:
    """The policies that the plan asks for, as they are in force."""
    return tuple(_policy(name) for name in plan.certification.policies)


@cache
def _policy(name: str) -> Policy:
    return policy.load(name, catalogue=catalogue.load())


def verdict(name: str, kind: str = "pass") -> Verdict:
    """What a judge says about one requirement."""
    requirement = Requirement(
        id=name,
        title="The footer is there",
        severity="must",
        area=name.partition(".")[0],
        views=("format",),
        rationale="It is a VHD.",
        remedy="Write it.",
        source=("test",),
    )
    return Verdict(requirement, "must", kind, "", (), ("azure",))  # type: ignore[arg-type]  # a verdict's word


def certify(
    image: Path,
    plan: Plan,
    pair: keys.KeyPair,
    *,
    system: str = "hallmark-sample",
    judged: datetime = NOW,
    by: tuple[Policy, ...] | None = None,
    verdicts: tuple[Verdict, ...] = (),
    runs: tuple[Run, ...] = (),
    further: dict[str, str] | None = None,
    provenance: Provenance | None = None,
) -> str:
    """A certificate for an image, issued by the real code for a judgement of a few requirements."""
    judgement = Judgement(
        recipe=plan.recipe,
        subject=Subject(id=system, version="9", families=frozenset({"rhel"})),
        verdicts=verdicts or (verdict("azure.vhd-footer-cookie"),),
        problems=(),
        policies=policies(plan) if by is None else by,
        waivers=(),
        support=(),
        catalogue="0" * 64,
        suites="0" * 64,
        image_identity=identity(image),
        runs=runs,
        judged=judged,
    )
    return issue(
        judgement,
        image=image,
        recipe=plan.recipe,
        version=plan.version,
        plan_digest=plan.digest(),
        signer=pair,
        further=further,
        provenance=provenance,
    )


def as_before(certificate: Path, pair: keys.KeyPair) -> None:
    """Make it one of those that were issued when files had their SHA-256 only."""
    data = json.loads(b64decode(json.loads(certificate.read_text())["payload"]))
    for subject in data["subject"]:
        del subject["digest"]["sparseSha256"]
    certificate.write_text(seal([json.dumps(data).encode()], pair))


def add_vhdx(built: Artefacts, plan: Plan, pair: keys.KeyPair, *, size: int = 26) -> Path:
    """A further output of ``size`` bytes, as building and certifying leave it."""
    output = built.output("vhdx")
    output.write_bytes(random.Random(size).randbytes(size))
    listed = OutputFile(
        name=output.name, format="vhdx", sha256=digest_file(output), size=size, virtual_size=24 * MIB
    )
    built.outputs.write_text(json.dumps([listed.model_dump()]))
    built.certificate.write_text(certify(built.image, plan, pair, further={output.name: listed.sha256}))
    return output


def build(space: Workspace, plan: Plan, pair: keys.KeyPair, *, seed: int = 1, **options: Any) -> Artefacts:
    """What building and certifying leave: an image, its plan, its certificate."""
    artefacts = space.artefacts(plan.recipe, plan.version)
    artefacts.root.mkdir(parents=True)
    make_vhd(artefacts.image, seed=seed)
    artefacts.plan.write_text(plan.to_json())
    artefacts.certificate.write_text(certify(artefacts.image, plan, pair, **options))
    return artefacts


def build_container(
    space: Workspace, plan: Plan, pair: keys.KeyPair, work: Path, *, text: bytes = b"ID=x\n"
) -> Artefacts:
    """The same of a container, whose one file holds ``text``."""
    artefacts = space.artefacts(plan.recipe, plan.version)
    artefacts.root.mkdir(parents=True)
    rootfs = work / "rootfs.tar"
    with tarfile.open(rootfs, "w") as tar:
        member = tarfile.TarInfo("./etc/os-release")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    image = artefacts.output("oci")
    container.write(rootfs, image, plan, work=work)
    artefacts.plan.write_text(plan.to_json())
    artefacts.certificate.write_text(certify(image, plan, pair))
    artefacts.sbom.write_text('{"bomFormat":"CycloneDX"}\n')
    return artefacts


def clone(made: Artefacts, space: Workspace) -> Artefacts:
    """The same release in another workspace; the image is linked, not copied."""
    target = space.build / made.root.parent.name / made.root.name
    shutil.copytree(made.root, target, copy_function=_link_image)
    return Artefacts(target)


def _link_image(source: str, target: str) -> str:
    if source.endswith(".vhd"):
        os.link(source, target)
        return target
    return str(shutil.copy2(source, target))
