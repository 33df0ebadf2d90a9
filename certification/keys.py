"""The ed25519 key pair that signs certificates: made once, kept private, and known by its public half."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # no explicit re-export

from builder.errors import HallmarkError
from builder.workspace import atomic_file

__all__ = ["KeyPair", "ensure", "load_public", "pair_in", "public_half"]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a pair of PEM files: PKCS #8 without a passphrase (mode 0600), and SubjectPublicKeyInfo."""

    private: Path
    public: Path

    def signer(self) -> CryptoSigner:
        """A signer for DSSE envelopes.

        :raises HallmarkError: the private key can't be read, is readable by others, or is no ed25519 key.
        """
        key = _load_private(self.private)
        if self.private.stat().st_mode & 0o077:
            raise HallmarkError(
                "the signing key can be read by others",
                where=self.private,
                why="whoever can read it can certify anything",
                hint=f"chmod 600 {self.private}; if somebody may have read it, make a new pair",
            )
        public = load_public(self.public)
        _must_match(key, public, self)
        return CryptoSigner(key, public)


def ensure(directory: Path) -> KeyPair:
    """The key pair in ``directory``; made now if there is none.

    :raises HallmarkError: the directory can't be written, a key can't be read or is none, the two don't
        belong together, or only the public half is there.
    """
    pair = pair_in(directory)
    if pair.private.exists():
        private = _load_private(pair.private)
        if pair.public.exists():
            _must_match(private, load_public(pair.public), pair)
        else:
            _write(pair.public, _public_pem(private), 0o644)
        return pair
    if pair.public.exists():
        raise HallmarkError(
            "the public key is there and its private key is not",
            where=pair.private,
            why="a new pair would make every certificate that was signed with the old one look forged",
            hint="bring the private key back, or move the public key away to begin anew",
        )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HallmarkError(
            f"cannot make the directory for keys: {error.strerror}", where=directory
        ) from None
    key = Ed25519PrivateKey.generate()
    # The public half last: a pair without it is completed, one without the private half is refused.
    _write(pair.private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(pair.public, _public_pem(key), 0o644)
    return pair


def public_half(directory: Path) -> Path:
    """The public key in ``directory``, to check certificates with. Nothing is made: who only checks has no
    use for a key that signs.

    :raises HallmarkError: there is none.
    """
    public = pair_in(directory).public
    if not public.exists():
        raise HallmarkError(
            "this machine has no key to check certificates with",
            where=public,
            hint="give the key of whoever issued the certificate with --key",
        )
    return public


def load_public(path: Path) -> SSlibKey:
    """The public key in a PEM file; its key id is the digest that securesystemslib gives it.

    :raises HallmarkError: it can't be read or is no ed25519 key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise HallmarkError(
            f"the public key can't be read: {error.strerror}",
            where=path,
            hint="bring the key of whoever issued the certificate there, or give it with --key",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise HallmarkError("this is no public key in PEM form", where=path) from None
    if not isinstance(key, Ed25519PublicKey):
        raise HallmarkError("the public key is no ed25519 key", where=path)
    return SSlibKey.from_crypto(key)


def pair_in(directory: Path) -> KeyPair:
    """The places of a pair in ``directory``, whether it is there or not."""
    return KeyPair(directory / "certificate-key.pem", directory / "certificate-key.pub.pem")


def _load_private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise HallmarkError(f"the signing key can't be read: {error.strerror}", where=path) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise HallmarkError("this is no private key without a passphrase", where=path) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise HallmarkError("the signing key is no ed25519 key", where=path)
    return key


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _must_match(private: Ed25519PrivateKey, public: SSlibKey, pair: KeyPair) -> None:
    if SSlibKey.from_crypto(private.public_key()).keyid != public.keyid:
        raise HallmarkError(
            "the public key isn't the one of the private key",
            where=pair.public,
            why="nobody could check what this pair signs",
            details=[f"the private key: {pair.private}"],
            hint="bring the right public key back, or move it away: it is made again from the private key",
        )


def _write(path: Path, data: bytes, mode: int) -> None:
    previous = os.umask(0o077)
    try:
        with atomic_file(path, mode=mode) as temporary:
            temporary.write_bytes(data)
    finally:
        os.umask(previous)
