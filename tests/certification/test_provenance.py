"""The second statement of a certificate: how the image was built, bound to the first."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope

from builder.errors import HallmarkError
from certification import catalogue as catalogues
from certification import policy
from certification.bundle import PAYLOAD_TYPE
from certification.certificate import evidence_digest, issue, verify
from certification.judge import Judgement, Run, Verdict
from certification.keys import KeyPair, ensure
from certification.model import Observation, RunRecord, Subject
from certification.provenance import Build, Builder, Metadata, Provenance, Resource, RunDetails
from certification.views.base import identity

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LOCK = "10c4" * 16
PROVENANCE = Provenance(
    build_definition=Build(
        build_type="https://hallmark.invalid/build/v1",
        external_parameters={
            "recipe": "toy-9",
            "lock": LOCK,
        },
        resolved_dependencies=(
            Resource(name="bash", uri="pkg:rpm/x/bash@5", digest={"rpmHeaderSha256": "a" * 64}),
        ),
    ),
    run_details=RunDetails(
        builder=Builder(id="https://ci.invalid/runner/7", version={"hallmark": "1"}),
        metadata=Metadata(invocation_id="toy-9/9.20261122.0", finished_on=NOW),
    ),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return ensure(tmp_path_factory.mktemp("keys") / "keys")


Issue = Callable[..., Path]


@pytest.fixture
def issued(tmp_path: Path, toy_catalogue: Path, toy_policies: Path, pair: KeyPair) -> Issue:
    """Certifies an image that holds the given bytes; the certificate lies beside it."""
    catalogue = catalogues.load(toy_catalogue)
    selected = policy.select(["toy"], catalogue=catalogue, directory=toy_policies)

    def make(content: bytes = b"boot", provenance: Provenance | None = PROVENANCE) -> Path:
        directory = tmp_path / f"{content.decode()}-{provenance is not None}"
        directory.mkdir(exist_ok=True)
        image = directory / "image.vhd"
        image.write_bytes(content * 1000)
        (directory / "evidence.jsonl").write_text("{}\n")
        day = identity(image)
        record = RunRecord(
            view="disk", before=day, after=day, catalogue="c", suites="s", started="now", seconds=1
        )
        entry = catalogue["azure.one"]
        seen = (Observation(requirement=entry.id, view="disk", outcome="pass"),)
        judgement = Judgement(
            recipe="toy-9",
            subject=Subject(id="x", version="9", families=frozenset({"rhel"})),
            verdicts=(Verdict(entry, "must", "pass", "", seen, ("toy",)),),
            problems=(),
            policies=selected.policies,
            waivers=(),
            support=(),
            catalogue=catalogue.digest,
            suites="s" * 64,
            image_identity=day,
            runs=(Run(directory, record, ()),),
            judged=NOW,
        )
        text = issue(
            judgement,
            image=image,
            recipe="toy-9",
            version="9.20261122.0",
            plan_digest="p" * 64,
            signer=pair,
            evidence=directory / "evidence.jsonl",
            provenance=provenance,
        )
        (directory / "certificate.json").write_text(text)
        return directory / "certificate.json"

    return make


def check(certificate: Path, pair: KeyPair) -> Any:
    return verify(certificate.with_name("image.vhd"), certificate, pair.public, now=NOW)


def statements(certificate: Path) -> list[dict[str, Any]]:
    lines = certificate.read_text().splitlines()
    return [json.loads(base64.b64decode(json.loads(line)["payload"])) for line in lines]


def test_the_bundle_holds_both_statements_about_the_same_bytes(issued: Issue, pair: KeyPair) -> None:
    certificate = issued()
    own, build = statements(certificate)
    assert own["subject"] == build["subject"] and build["predicateType"] == "https://slsa.dev/provenance/v1"
    definition, details = build["predicate"]["buildDefinition"], build["predicate"]["runDetails"]
    assert definition["resolvedDependencies"][0]["digest"] == {"rpmHeaderSha256": "a" * 64}
    assert details["builder"] == {"id": "https://ci.invalid/runner/7", "version": {"hallmark": "1"}}
    assert details["metadata"]["finishedOn"] == "2026-11-22T12:00:00Z"
    found = check(certificate, pair)
    assert found.provenance == PROVENANCE
    assert (found.predicate.lock_digest, found.predicate.builder) == (LOCK, "https://ci.invalid/runner/7")
    assert len(found.predicate.policies[0].digest) == 64
    assert len(evidence_digest(certificate, pair.public) or "") == 64


def test_a_certificate_without_provenance_says_so(issued: Issue, pair: KeyPair) -> None:
    found = check(issued(provenance=None), pair)
    assert found.provenance is None and found.predicate.provenance_digest is None


def by_another(line: str, pair: KeyPair) -> str:
    """The same statement, signed by somebody else."""
    envelope = Envelope(base64.b64decode(json.loads(line)["payload"]), PAYLOAD_TYPE, {})
    envelope.sign(ensure(pair.private.parent / "another").signer())
    return json.dumps(envelope.to_dict())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda own, build, other, pair: [own], "missing or isn't the one"),
        (lambda own, build, other, pair: [build], "statement is of another kind"),
        (lambda own, build, other, pair: [own, other], "missing or isn't the one"),
        (lambda own, build, other, pair: [own, own], "two statements of one kind"),
        (lambda own, build, other, pair: [own, build.replace("a", "b", 1)], "signature|envelope"),
        (lambda own, build, other, pair: [own, by_another(build, pair)], "signed with another key"),
    ],
    ids=["stripped", "alone", "of another image", "twice", "edited", "other signer"],
)
def test_statements_that_do_not_belong_together_are_refused(
    issued: Issue, pair: KeyPair, change: Callable[..., list[str]], said: str
) -> None:
    certificate = issued()
    own, build = certificate.read_text().splitlines()
    other = issued(b"else").read_text().splitlines()[1]
    certificate.write_text("\n".join(change(own, build, other, pair)) + "\n")
    with pytest.raises(HallmarkError, match=said):
        check(certificate, pair)
