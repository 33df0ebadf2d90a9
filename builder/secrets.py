"""Secrets as references: ``env:NAME`` and ``file:PATH``, followed at the last moment.

A recipe, a plan and a certificate hold the reference; the value is read by the stage that needs it, is
registered with the redaction before anything is done with it, and lives in memory only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import HallmarkError
from builder.redaction import register_secret

# Every command reads recipes, whose language imports this module; few need the library, which loads slowly.
if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "NO_TLS",
    "REFERENCE",
    "ClientTls",
    "SecretReference",
    "TlsFiles",
    "in_memory",
    "resolve",
    "resolve_tls",
]

#: ``env:`` and the name of an environment variable, or ``file:`` and an absolute path (or one below ``~/``).
REFERENCE = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:(/|~/)[^\x00\r\n]+)$"
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is: ``text`` is ``env:NAME`` or ``file:PATH``, ``where`` the line that says so."""

    text: str
    where: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(REFERENCE, self.text):
            raise ValueError("a secret is written as env:NAME or file:/absolute/path")


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How a repository knows its client, and what its server's certificate is checked against."""

    certificate: SecretReference | None = None
    key: SecretReference | None = None
    authority: SecretReference | None = None


NO_TLS = ClientTls()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The same, read: PEM texts. They are kept out of every representation."""

    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    authority: str | None = field(default=None, repr=False)


def resolve(reference: SecretReference, what: str) -> str:
    """Read a secret and register it, so that it is never shown.

    :param what: what it is, for the error ("the client key of repository 'rhel-9-baseos'").
    :raises HallmarkError: the variable or the file is missing, empty or not text. The value is never part
        of it.
    """
    kind, _, place = reference.text.partition(":")
    if kind == "env":
        value = os.environ.get(place, "")
        problem = f"the environment variable {place} is {'empty' if place in os.environ else 'not set'}"
        hint = f'set it for this command, for example {place}="$(cat FILE)"'
    else:
        path = Path(place).expanduser()
        value, problem = _read(path)
        hint = "put it there, readable for the user who builds, or change the reference"
    if not value.strip():
        raise HallmarkError(
            f"{what} cannot be read: {problem}",
            where=reference.where or None,
            why=f"it is the secret {reference.text}; a recipe names secrets and never holds them",
            hint=hint,
        )
    register_secret(value)
    return value


@contextmanager
def in_memory(text: str) -> Iterator[str]:
    """The path of a file for programs that want a secret in one; it is in memory only, and as long as the
    block or this process lasts.
    """
    handle = os.memfd_create("hallmark")
    try:
        os.write(handle, text.encode())
        yield f"/proc/{os.getpid()}/fd/{handle}"
    finally:
        os.close(handle)


def resolve_tls(tls: ClientTls, owner: str, *, now: datetime | None = None) -> TlsFiles:
    """Read a repository's TLS files and check that they can work.

    :param owner: whose they are, for errors ("repository 'rhel-9-baseos'").
    :param now: an aware time that the certificate must cover; default: now.
    :raises HallmarkError: one is missing, is no PEM, has ended, or key and certificate are no pair.
    """
    now = now or datetime.now(UTC)
    authority = resolve(tls.authority, f"the certificate authority of {owner}") if tls.authority else None
    if authority is not None and tls.authority is not None:
        _certificate(authority, tls.authority, f"the certificate authority of {owner}")
    if tls.certificate is None or tls.key is None:
        return TlsFiles(authority=authority)
    what = f"the client certificate of {owner}"
    text = resolve(tls.certificate, what)
    certificate = _certificate(text, tls.certificate, what)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise HallmarkError(
            f"{what} is not valid now: from {certificate.not_valid_before_utc:%Y-%m-%d} "
            f"to {certificate.not_valid_after_utc:%Y-%m-%d}",
            where=tls.certificate.where or None,
            why="the server would refuse it",
            hint="renew it (subscription-manager refresh renews entitlement certificates), then update "
            + tls.certificate.text,
        )
    key = resolve(tls.key, f"the client key of {owner}")
    if _public_key(key, tls.key, f"the client key of {owner}") != _public_bytes(certificate.public_key()):
        raise HallmarkError(
            f"the client key of {owner} does not belong to its certificate",
            where=tls.key.where or None,
            why="the server would refuse the connection",
            hint=f"{tls.certificate.text} and {tls.key.text} must be the two halves of one pair",
        )
    return TlsFiles(certificate=text, key=key, authority=authority)


def _read(path: Path) -> tuple[str, str]:
    """The text of a file and what is wrong with it."""
    try:
        if path.stat().st_size > _LARGEST:
            return "", f"{path} has more than {_LARGEST} bytes"
        return path.read_text(encoding="utf-8"), f"{path} is empty"
    except OSError as error:
        return "", f"{path}: {error.strerror}"
    except UnicodeDecodeError:
        return "", f"{path} is not text"


def _certificate(text: str, reference: SecretReference, what: str) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        raise _no_pem(reference, what, "CERTIFICATE") from None


def _public_key(text: str, reference: SecretReference, what: str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        return _public_bytes(serialization.load_pem_private_key(text.encode(), None).public_key())
    except (ValueError, UnsupportedAlgorithm):
        raise _no_pem(reference, what, "PRIVATE KEY") from None
    except TypeError:
        raise HallmarkError(
            f"{what} is encrypted with a passphrase",
            where=reference.where or None,
            why="nobody is there to type it during a build",
            hint="give the key without a passphrase, from a store that protects it",
        ) from None


def _public_bytes(key: object) -> bytes:
    from cryptography.hazmat.primitives import serialization

    dump = getattr(key, "public_bytes")  # noqa: B009 - the union of key types has no common base
    data: bytes = dump(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data


def _no_pem(reference: SecretReference, what: str, kind: str) -> HallmarkError:
    return HallmarkError(
        f"{what} is not a {kind.lower()} in PEM form",
        where=reference.where or None,
        why=f"{reference.text} must hold a block that begins with -----BEGIN … {kind}-----",
        hint="point the reference at the PEM text itself; an environment variable holds the text, not a path",
    )
