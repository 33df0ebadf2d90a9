"""The certificate: who says what about which bytes, signed.

An in-toto Statement (v1) whose subjects are the image and its further outputs by their SHA-256, and by a
digest that tells a file that isn't meant at once, in a DSSE envelope with an ed25519 signature. A second
statement, about the same subjects and signed with the same key, says how the image was built (SLSA
provenance v1). The file is an in-toto bundle: one envelope a line (JSON Lines). Verification needs the image,
the certificate and the public key, and nothing else: no network, no clock but now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from importlib.metadata import version as installed_version
from pathlib import Path

from pydantic import Field, ValidationError

from builder.errors import HallmarkError
from builder.workspace import digest_file
from certification.bundle import (
    PAYLOAD_TYPE,
    STATEMENT_TYPE,
    Part,
    Subject,
    incomplete,
    opened,
    payload_digest,
    read_statement,
    seal,
    statement,
)
from certification.judge import Judgement
from certification.keys import KeyPair, load_public
from certification.provenance import SLSA, Provenance
from certification.support import expiry
from certification.views.base import identity

__all__ = [
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "VALID_DAYS",
    "Certificate",
    "evidence_digest",
    "issue",
    "must_resemble",
    "read",
    "verify",
]

PREDICATE_TYPE = "https://hallmark.invalid/certification/v1"
VALID_DAYS = 90
# What ``views.base.identity`` is called in a subject's digest set (in-toto Attestation 1.0, DigestSet).
_SPARSE = "sparseSha256"


class PolicyReference(Part):
    name: str
    version: int
    digest: str


class WaivedRequirement(Part):
    """A failure that the certificate admits to."""

    requirement: str
    owner: str
    reason: str
    expires: datetime


class SupportStatement(Part):
    what: str
    ends: datetime


class Result(Part):
    requirement: str
    severity: str
    verdict: str
    views: tuple[str, ...] = ()


class Predicate(Part):
    """What is certified. Times are UTC; ``expires`` is the last moment at which the certificate counts.

    ``evidence_digest`` is of ``evidence.jsonl``, ``provenance_digest`` of the bundle's other statement, each
    SHA-256. ``lock_digest`` and ``builder`` repeat what the provenance says.
    """

    certified: bool
    recipe: str
    version: str
    plan_digest: str
    policies: tuple[PolicyReference, ...]
    catalogue_digest: str
    suites_digest: str
    evidence_digest: str | None = None
    lock_digest: str | None = None
    provenance_digest: str | None = None
    tool: str
    builder: str | None = None
    issued: datetime
    expires: datetime
    counts: dict[str, int]
    results: tuple[Result, ...]
    waivers: tuple[WaivedRequirement, ...] = ()
    support: tuple[SupportStatement, ...] = ()
    firmware: tuple[str, ...] = ()
    subject_os: str
    substitutions: tuple[str, ...] = ()


class Certificate(Part):
    """A certificate that was verified, for one of its subjects. ``subjects``: SHA-256 by name, of all;
    ``sparse``: the digest that is made in a moment (``views.base.identity``), of those that have one.
    """

    image_name: str
    image_sha256: str
    key_id: str
    predicate: Predicate
    provenance: Provenance | None = None
    subjects: Mapping[str, str] = Field(default_factory=dict)
    sparse: Mapping[str, str] = Field(default_factory=dict)

    @property
    def recipe(self) -> str:
        return self.predicate.recipe

    @property
    def version(self) -> str:
        return self.predicate.version

    @property
    def policies(self) -> tuple[str, ...]:
        """The names of the policies that the image satisfies."""
        return tuple(policy.name for policy in self.predicate.policies)

    @property
    def issued(self) -> datetime:
        return self.predicate.issued

    @property
    def expires(self) -> datetime:
        return self.predicate.expires

    @property
    def counts(self) -> dict[str, int]:
        """How many requirements got each verdict."""
        return dict(self.predicate.counts)

    @property
    def waivers(self) -> tuple[WaivedRequirement, ...]:
        return self.predicate.waivers

    @property
    def firmware(self) -> tuple[str, ...]:
        """The firmware with which the image was booted: ``bios``, ``uefi``."""
        return self.predicate.firmware


def issue(
    judgement: Judgement,
    *,
    image: Path,
    recipe: str,
    version: str,
    plan_digest: str,
    signer: KeyPair,
    substitutions: tuple[str, ...] = (),
    evidence: Path | None = None,
    provenance: Provenance | None = None,
    further: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> str:
    """Certify an image; the bundle as text.

    :param substitutions: what a mirrors file put in the place of what the recipe says, a line each.
    :param evidence: the ``evidence.jsonl`` that the judgement rests on.
    :param provenance: how the image was built: the bundle's second statement.
    :param further: SHA-256 by file name of what holds, beside ``image``, its very disk in another format.
    :param now: when it is issued; default: the moment of the judgement.
    :raises HallmarkError: the judgement refuses it, or the file is not the one that was looked at.
    """
    if not judgement.certified or judgement.source != "image":
        raise HallmarkError(
            f"{recipe} {version} can't be certified",
            where=image,
            details=judgement.reasons(),
            hint="see the report",
        )
    now = (now or judgement.judged).astimezone(UTC).replace(microsecond=0)
    seen = identity(image)
    if seen != judgement.image_identity:
        raise HallmarkError(
            "the image is not the one that was looked at",
            where=image,
            why="the certificate would speak for bytes that nobody tested",
            hint="certify it again; nothing may write to an image after it was built",
        )
    subject = [{"name": image.name, "digest": {"sha256": digest_file(image), _SPARSE: seen}}]
    for name, sha256 in (further or {}).items():
        subject.append({"name": name, "digest": {"sha256": sha256, _SPARSE: identity(image.with_name(name))}})
    build_payload = statement(subject, SLSA, provenance.predicate()) if provenance is not None else None
    last_day = expiry(judgement, issued=now.date(), days=VALID_DAYS)
    predicate = Predicate(
        certified=True,
        recipe=recipe,
        version=version,
        plan_digest=plan_digest,
        substitutions=substitutions,
        policies=tuple(
            PolicyReference(name=item.name, version=item.version, digest=item.digest)
            for item in judgement.policies
        ),
        catalogue_digest=judgement.catalogue,
        suites_digest=judgement.suites,
        evidence_digest=digest_file(evidence) if evidence is not None else None,
        lock_digest=provenance.lock_digest if provenance is not None else None,
        provenance_digest=payload_digest(build_payload) if build_payload is not None else None,
        builder=provenance.builder if provenance is not None else None,
        tool=f"hallmark {installed_version('hallmark')}",
        issued=now,
        expires=datetime.combine(last_day, time(23, 59, 59), UTC),
        counts={kind: number for kind, number in judgement.counts.items() if number},
        results=tuple(
            Result(
                requirement=verdict.requirement.id,
                severity=verdict.severity,
                verdict=verdict.kind,
                views=tuple(
                    dict.fromkeys("-".join(filter(None, (o.view, o.variant))) for o in verdict.observations)
                ),
            )
            for verdict in judgement.verdicts
        ),
        waivers=tuple(
            WaivedRequirement(
                requirement=waiver.requirement,
                owner=waiver.owner,
                reason=waiver.reason,
                expires=datetime.combine(waiver.expires, time(23, 59, 59), UTC),
            )
            for waiver in judgement.waivers
        ),
        support=tuple(
            SupportStatement(what=item.what, ends=datetime.combine(item.ends, time(23, 59, 59), UTC))
            for item in judgement.support
        ),
        firmware=tuple(
            sorted(
                run.record.variant for run in judgement.runs if run.record is not None and run.record.variant
            )
        ),
        subject_os=f"{judgement.subject.id} {judgement.subject.version}" if judgement.subject else "unknown",
    )
    own_payload = statement(subject, PREDICATE_TYPE, predicate.model_dump(mode="json", by_alias=True))
    return seal([own_payload, *([build_payload] if build_payload is not None else [])], signer)


def verify(image: Path, certificate: Path, public_key: Path, *, now: datetime) -> Certificate:
    """Check that a certificate holds for exactly this image, now. Works offline.

    The cheap questions come first; the digest of the whole image last.

    :raises HallmarkError: as ``read``; and: there is no such image, or the certificate is of another one.
    """
    proof = read(certificate, public_key, now=now)
    if not image.is_file():
        raise HallmarkError("there is no such image", where=image)
    must_resemble(image, proof)
    found = digest_file(image)
    name = next((name for name, digest in proof.subjects.items() if digest == found), None)
    if name is None:
        raise _of_another(image, "sha256", proof.subjects, found)
    return proof.model_copy(update={"image_name": name, "image_sha256": found})


def must_resemble(file: Path, proof: Certificate, *, name: str | None = None) -> None:
    """Refuse at once a file that isn't certified: by the digest that costs no time for holes.

    Whether it is certified, only its SHA-256 says. Certificates that were issued before there was this digest
    refuse nothing here.

    :param name: the subject that the file must be; any of them, if None.
    :raises HallmarkError: the file can't be read, or the certificate is of another one.
    """
    asked = [name] if name is not None else list(proof.subjects)
    certified = {name: proof.sparse[name] for name in asked if name in proof.sparse}
    if len(certified) == len(asked) and (found := identity(file)) not in certified.values():
        raise _of_another(file, _SPARSE, certified, found)


def _of_another(file: Path, kind: str, certified: Mapping[str, str], found: str) -> HallmarkError:
    return HallmarkError(
        "the certificate is for another image",
        where=file,
        details=[
            *(f"certified {kind} {digest} ({name})" for name, digest in certified.items()),
            f"this file's {kind} {found}",
        ],
        why="the file was changed, cut off or damaged after certification, or the two were mixed up",
        hint="copy the image again, or use the certificate that belongs to it",
    )


def read(certificate: Path, public_key: Path, *, now: datetime) -> Certificate:
    """What a certificate says of its first subject, the image, if it is signed by this key and counts now;
    no image is looked at.

    :raises HallmarkError: with its own message for each: unreadable, not signed by this key, edited, not a
        Hallmark certificate, not certified, not valid yet, expired.
    """
    key = load_public(public_key)
    payloads = opened(certificate, key)
    predicate, subjects = _statement(payloads, certificate)
    provenance = _provenance(payloads, predicate, subjects, certificate)
    if not predicate.certified:
        raise HallmarkError("the statement says that the image is not certified", where=certificate)
    now = now.astimezone(UTC)
    if now < predicate.issued:
        raise HallmarkError(
            f"the certificate is not valid before {predicate.issued:%Y-%m-%d %H:%M:%S} UTC",
            where=certificate,
            hint="check this machine's clock",
        )
    if now > predicate.expires:
        raise HallmarkError(
            f"the certificate expired on {predicate.expires:%Y-%m-%d}",
            where=certificate,
            why="what was tested then may be out of support or insecure today",
            hint="certify the image again; it takes a new build if the reason is support",
        )
    digests = {subject.name: subject.digest.get("sha256", "") for subject in subjects}
    return Certificate(
        image_name=subjects[0].name,
        image_sha256=digests[subjects[0].name],
        key_id=key.keyid,
        predicate=predicate,
        provenance=provenance,
        subjects=digests,
        sparse={item.name: item.digest[_SPARSE] for item in subjects if _SPARSE in item.digest},
    )


def evidence_digest(certificate: Path, public_key: Path) -> str | None:
    """The SHA-256 of the ``evidence.jsonl`` that a certificate was issued on; expired ones speak, too.

    :raises HallmarkError: the certificate can't be read, or isn't signed with this key.
    """
    return _statement(opened(certificate, load_public(public_key)), certificate)[0].evidence_digest


def _statement(payloads: Mapping[str, bytes], path: Path) -> tuple[Predicate, tuple[Subject, ...]]:
    if PREDICATE_TYPE not in payloads:
        raise HallmarkError(
            f"the statement is of another kind: {', '.join(payloads)}",
            where=path,
            why="a signature under another statement is no certification",
            hint=f"expected is {PREDICATE_TYPE}",
        )
    statement = read_statement(payloads[PREDICATE_TYPE], path)
    try:
        return Predicate.model_validate(statement.predicate), statement.subject
    except ValidationError as error:
        raise incomplete(error, path) from None


def _provenance(
    payloads: Mapping[str, bytes], predicate: Predicate, subjects: tuple[Subject, ...], path: Path
) -> Provenance | None:
    """The statement about the build, if the certificate names one: that very one, about the same image."""
    payload = payloads.get(SLSA)
    if (payload_digest(payload) if payload is not None else None) != predicate.provenance_digest:
        raise HallmarkError(
            "the build provenance is missing or isn't the one that belongs to the certificate",
            where=path,
            why="both were signed, but not as one",
            hint="get the whole certificate again: it has a line for each",
        )
    if payload is None:
        return None
    statement = read_statement(payload, path)
    if statement.subject != subjects:
        raise HallmarkError("the build provenance is about another image", where=path)
    return Provenance.from_predicate(statement.predicate, where=path)
