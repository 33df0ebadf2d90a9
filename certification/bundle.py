"""In-toto bundles: statements in DSSE envelopes, one a line, signed with ed25519.

Formats: in-toto Attestation Framework 1.0 (Statement v1, Bundle), DSSE 1.0.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # no explicit re-export

from builder.errors import HallmarkError
from certification.keys import KeyPair

__all__ = [
    "PAYLOAD_TYPE",
    "STATEMENT_TYPE",
    "Part",
    "Statement",
    "Subject",
    "incomplete",
    "opened",
    "payload_digest",
    "read_statement",
    "seal",
    "statement",
]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_LIMIT = 16 << 20


class Part(BaseModel):
    # Aliases follow in-toto's camelCase; unknown keys are refused: they would be signed words that nobody
    # read.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, alias_generator=to_camel)


class Subject(Part):
    # A file's name beside the certificate, never a path.
    name: str = Field(pattern=r"^[^/\\\x00.][^/\\\x00]*$")
    digest: dict[str, str]


class Statement(Part):
    # `_type` on the wire; it is read here and never made from Python.
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str
    predicate: Mapping[str, Any]

    @field_validator("subject")
    @classmethod
    def _distinct(cls, subjects: tuple[Subject, ...]) -> tuple[Subject, ...]:
        if len({subject.name for subject in subjects}) != len(subjects):
            raise ValueError("one name stands for two files")
        return subjects


def statement(subject: list[dict[str, Any]], kind: str, predicate: Mapping[str, Any]) -> bytes:
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": subject,
        "predicateType": kind,
        "predicate": predicate,
    }
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def seal(payloads: list[bytes], signer: KeyPair) -> str:
    lines = []
    for payload in payloads:
        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(signer.signer())
        lines.append(json.dumps(envelope.to_dict(), separators=(",", ":")) + "\n")
    return "".join(lines)


def payload_digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def opened(path: Path, key: SSlibKey) -> dict[str, bytes]:
    """The payloads of a bundle by predicate type; every envelope must be signed with ``key``."""
    payloads: dict[str, bytes] = {}
    for envelope in _envelopes(path):
        if key.keyid not in envelope.signatures:
            raise HallmarkError(
                "the certificate is signed with another key",
                where=path,
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
                where=path,
                why="somebody or something changed it after it was issued",
                hint="get the certificate again, or certify the image again",
            ) from None
        if envelope.payload_type != PAYLOAD_TYPE:
            raise HallmarkError(
                f"the envelope holds {envelope.payload_type}, no in-toto statement", where=path
            )
        kind = read_statement(envelope.payload, path).predicate_type
        if kind in payloads:
            raise HallmarkError(f"the certificate holds two statements of one kind: {kind}", where=path)
        payloads[kind] = envelope.payload
    return payloads


def _envelopes(path: Path) -> list[Envelope]:
    try:
        if path.stat().st_size > _LIMIT:
            raise HallmarkError("the file is too large to be a certificate", where=path)
        lines = path.read_bytes().splitlines()
        found = [Envelope.from_dict(json.loads(line)) for line in lines if line.strip()]
        # The library takes any JSON value for these.
        if found and all(isinstance(x, str) for e in found for x in (e.payload_type, *e.signatures)):
            return found
    except OSError as error:
        raise HallmarkError(f"the certificate can't be read: {error.strerror}", where=path) from None
    except (ValueError, KeyError, TypeError, AttributeError, FormatError, binascii.Error, RecursionError):
        pass  # the same answer as for an empty file
    raise HallmarkError(
        "the file is no certificate: it holds no DSSE envelope",
        where=path,
        hint="expected is the certificate.json that `hallmark certify` wrote",
    )


def read_statement(payload: bytes, path: Path) -> Statement:
    try:
        return Statement.model_validate_json(payload)
    except ValidationError as error:
        raise incomplete(error, path) from None


def incomplete(error: ValidationError, path: Path) -> HallmarkError:
    return HallmarkError(
        "the statement in the certificate is incomplete or of another version",
        where=path,
        details=[f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()][:5],
    )
