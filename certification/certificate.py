"""The certificate: who says what about which bytes, signed.

An in-toto Statement (v1) whose subject is the image by its SHA-256, in a DSSE envelope with an ed25519
signature. Verification needs the image, the certificate and the public key, and nothing else: no network, no
clock but now.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime, time
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError

from builder.errors import HallmarkError
from builder.workspace import digest_file
from certification.judge import Judgement, expiry
from certification.keys import KeyPair, load_public
from certification.views.base import identity

__all__ = [
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "VALID_DAYS",
    "Certificate",
    "issue",
    "read",
    "verify",
]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://hallmark.invalid/certification/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
VALID_DAYS = 90
_LIMIT = 16 << 20


class _Part(BaseModel):
    # Aliases follow in-toto's camelCase; unknown keys are refused: they would be signed words that nobody
    # read.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, alias_generator=to_camel)


class PolicyReference(_Part):
    name: str
    version: int


class WaivedRequirement(_Part):
    """A failure that the certificate admits to."""

    requirement: str
    owner: str
    reason: str
    expires: datetime


class SupportStatement(_Part):
    what: str
    ends: datetime


class Result(_Part):
    requirement: str
    severity: str
    verdict: str
    views: tuple[str, ...] = ()


class Predicate(_Part):
    """What is certified. Times are UTC; ``expires`` is the last moment at which the certificate counts."""

    certified: bool
    recipe: str
    version: str
    plan_digest: str
    policies: tuple[PolicyReference, ...]
    catalogue_digest: str
    suites_digest: str
    tool: str
    issued: datetime
    expires: datetime
    counts: dict[str, int]
    results: tuple[Result, ...]
    waivers: tuple[WaivedRequirement, ...] = ()
    support: tuple[SupportStatement, ...] = ()
    firmware: tuple[str, ...] = ()
    subject_os: str
    substitutions: tuple[str, ...] = ()


class Subject(_Part):
    name: str
    digest: dict[str, str]


class Statement(_Part):
    # `_type` on the wire; it is read here and never made from Python.
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1, max_length=1)
    predicate_type: str
    predicate: Mapping[str, Any]


class Certificate(_Part):
    """A certificate that was verified."""

    image_name: str
    image_sha256: str
    key_id: str
    predicate: Predicate

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
    now: datetime | None = None,
) -> str:
    """Certify an image; the envelope as JSON text.

    :param substitutions: what a mirrors file put in the place of what the recipe says, a line each.

    :param now: when it is issued; default: the moment of the judgement.
    :raises HallmarkError: the judgement refuses it, or the file is not the one that was looked at.
    """
    if not judgement.certified:
        raise HallmarkError(
            f"{recipe} {version} can't be certified",
            where=image,
            details=judgement.reasons(),
            hint="see the report",
        )
    now = (now or judgement.judged).astimezone(UTC).replace(microsecond=0)
    if identity(image) != judgement.image_identity:
        raise HallmarkError(
            "the image is not the one that was looked at",
            where=image,
            why="the certificate would speak for bytes that nobody tested",
            hint="certify it again; nothing may write to an image after it was built",
        )
    last_day = expiry(judgement, issued=now.date(), days=VALID_DAYS)
    predicate = Predicate(
        certified=True,
        recipe=recipe,
        version=version,
        plan_digest=plan_digest,
        substitutions=substitutions,
        policies=tuple(PolicyReference(name=item.name, version=item.version) for item in judgement.policies),
        catalogue_digest=judgement.catalogue,
        suites_digest=judgement.suites,
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
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": image.name, "digest": {"sha256": digest_file(image)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate.model_dump(mode="json", by_alias=True),
    }
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"))
    envelope = Envelope(payload.encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer.signer())
    return json.dumps(envelope.to_dict(), indent=2) + "\n"


def verify(image: Path, certificate: Path, public_key: Path, *, now: datetime) -> Certificate:
    """Check that a certificate holds for exactly this image, now. Works offline.

    The cheap questions come first; the digest of the image last.

    :raises HallmarkError: as ``read``; and: there is no such image, or the certificate is of another one.
    """
    proof = read(certificate, public_key, now=now)
    found = digest_file(image) if image.is_file() else None
    if found is None:
        raise HallmarkError("there is no such image", where=image)
    if found != proof.image_sha256:
        raise HallmarkError(
            "the certificate is for another image",
            where=image,
            details=[f"certified sha256 {proof.image_sha256}", f"this file's   {found}"],
            why="the file was changed, cut off or damaged after certification, or the two were mixed up",
            hint="copy the image again, or use the certificate that belongs to it",
        )
    return proof


def read(certificate: Path, public_key: Path, *, now: datetime) -> Certificate:
    """What a certificate says, if it is signed by this key and counts now; no image is looked at.

    :raises HallmarkError: with its own message for each: unreadable, not signed by this key, edited, not a
        Hallmark certificate, not certified, not valid yet, expired.
    """
    envelope = _envelope(certificate)
    key = load_public(public_key)
    if key.keyid not in envelope.signatures:
        raise HallmarkError(
            "the certificate is signed with another key",
            where=certificate,
            details=[
                f"signed with {', '.join(envelope.signatures) or 'nothing'}",
                f"checked with {key.keyid}",
            ],
            hint="get the public key of whoever issued it; trust no key that came with the certificate",
        )
    try:
        envelope.verify([key], 1)
    except VerificationError:
        raise HallmarkError(
            "the signature of the certificate is wrong",
            where=certificate,
            why="somebody or something changed it after it was issued",
            hint="get the certificate again, or certify the image again",
        ) from None
    predicate, subject = _statement(envelope, certificate)
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
    expected = subject.digest.get("sha256", "")
    return Certificate(image_name=subject.name, image_sha256=expected, key_id=key.keyid, predicate=predicate)


def _envelope(path: Path) -> Envelope:
    try:
        if path.stat().st_size > _LIMIT:
            raise HallmarkError("the file is too large to be a certificate", where=path)
        data = json.loads(path.read_bytes())
        return Envelope.from_dict(data)
    except OSError as error:
        raise HallmarkError(f"the certificate can't be read: {error.strerror}", where=path) from None
    except (ValueError, KeyError, TypeError, AttributeError, FormatError, binascii.Error):
        raise HallmarkError(
            "the file is no certificate: it holds no DSSE envelope",
            where=path,
            hint="expected is the certificate.json that `hallmark certify` wrote",
        ) from None


def _statement(envelope: Envelope, path: Path) -> tuple[Predicate, Subject]:
    if envelope.payload_type != PAYLOAD_TYPE:
        raise HallmarkError(f"the envelope holds {envelope.payload_type}, no in-toto statement", where=path)
    try:
        statement = Statement.model_validate_json(envelope.payload)
        if statement.predicate_type != PREDICATE_TYPE:
            raise HallmarkError(
                f"the statement is of another kind: {statement.predicate_type}",
                where=path,
                why="a signature under another statement is no certification",
                hint=f"expected is {PREDICATE_TYPE}",
            )
        return Predicate.model_validate(statement.predicate), statement.subject[0]
    except ValidationError as error:
        raise HallmarkError(
            "the statement in the certificate is incomplete or of another version",
            where=path,
            details=[f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()][:5],
        ) from None
