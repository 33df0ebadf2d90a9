"""Package repositories and the keys that sign what comes from them.

A key is trusted by its fingerprint alone. Of a key file only the key with the pinned fingerprint is used;
whatever else the file holds is left out, so that a key slipped into the file signs nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import HallmarkError
from builder.recipe.model import Origin
from builder.run import run
from builder.secrets import NO_TLS, ClientTls

__all__ = ["ResolvedRepository", "TrustedRepository", "key_fingerprints", "trust"]

_HINT = "the vendor publishes the key and its fingerprint; put both into the recipe only if they agree"


@dataclass(frozen=True, slots=True)
class ResolvedRepository:
    """A repository that is ready to be read.

    ``baseurl`` (``file://``, ``https://``) or ``metalink`` says where; ``key`` is its public key file and
    ``fingerprint`` what that key must have (40 hexadecimal digits). ``where``: the recipe line that names it.
    ``tls``: references to what its server asks of a client; nobody has read them yet.
    """

    id: str
    key: Path
    fingerprint: str
    baseurl: str | None = None
    metalink: str | None = None
    name: str = ""
    where: Origin | None = None
    tls: ClientTls = NO_TLS


@dataclass(frozen=True, slots=True)
class TrustedRepository:
    """A repository whose key file was checked.

    ``key`` is the pinned key alone, ASCII-armoured; ``key_ids`` are the ids (16 hexadecimal digits, lower
    case) of that key and its subkeys: what a good signature may name.
    """

    id: str
    name: str
    fingerprint: str
    key: str
    key_ids: tuple[str, ...] = ()
    baseurl: str | None = None
    metalink: str | None = None
    where: Origin | None = None
    tls: ClientTls = NO_TLS

    @property
    def address(self) -> str:
        """The URL that the repository is read from."""
        return self.baseurl or self.metalink or ""


def key_fingerprints(key: Path) -> tuple[str, ...]:
    """The fingerprints of the primary keys in an OpenPGP public key file (binary or armoured).

    :raises HallmarkError: the file is missing or holds no public key.
    """
    if not key.is_file():
        raise HallmarkError("the key file does not exist", where=key, hint=_HINT)
    listing = _show_keys(key.read_bytes())
    found: list[str] = []
    primary = False
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] in ("pub", "sub"):
            primary = fields[0] == "pub"
        elif fields[0] == "fpr" and primary:
            found.append(fields[9].upper())
            primary = False
    if not found:
        raise HallmarkError("the file holds no OpenPGP public key", where=key, hint=_HINT)
    return tuple(found)


def trust(repositories: Sequence[ResolvedRepository]) -> tuple[TrustedRepository, ...]:
    """Check every key file against the pinned fingerprint and take the pinned key out of it.

    :raises HallmarkError: a key file does not hold the pinned key. Nothing was fetched by then.
    """
    if not repositories:
        raise HallmarkError(
            "the plan names no package repository",
            why="there is nothing to install from",
            hint="add one under `repositories:` in the recipe or one of its layers",
        )
    return tuple(_trust(repository) for repository in repositories)


def _trust(repository: ResolvedRepository) -> TrustedRepository:
    wanted = repository.fingerprint.replace(" ", "").upper()
    where = str(repository.where) if repository.where else repository.key
    if not (repository.baseurl or repository.metalink):
        raise HallmarkError(
            f"the repository {repository.id!r} has neither a base URL nor a metalink", where=where
        )
    found = key_fingerprints(repository.key)
    if wanted not in found:
        raise HallmarkError(
            f"the key of repository {repository.id!r} is not the pinned one",
            where=where,
            why="packages signed by another key could come from anybody; nothing was fetched",
            hint=_HINT,
            details=(f"pinned: {wanted}", *(f"found:  {item}  in {repository.key}" for item in found)),
        )
    with tempfile.TemporaryDirectory(prefix="hallmark-key-") as home:
        common = ("gpg", "--homedir", home, "--batch", "--quiet", "--no-autostart")
        run((*common, "--import", str(repository.key)))
        # No version line and minimal signatures: the same key always gives the same text.
        armoured = run(
            (
                *common,
                "--armor",
                "--no-emit-version",
                "--export-options",
                "export-minimal",
                "--export",
                wanted,
            )
        ).stdout
    return TrustedRepository(
        id=repository.id,
        name=repository.name or repository.id,
        fingerprint=wanted,
        key=armoured,
        key_ids=tuple(
            fields[4].lower()
            for fields in (line.split(":") for line in _show_keys(armoured.encode()).splitlines())
            if fields[0] in ("pub", "sub")
        ),
        baseurl=repository.baseurl,
        metalink=repository.metalink,
        where=repository.where,
        tls=repository.tls,
    )


def _show_keys(data: bytes) -> str:
    with tempfile.TemporaryDirectory(prefix="hallmark-key-") as home:
        argv = ("gpg", "--homedir", home, "--batch", "--with-colons", "--show-keys")
        return run(argv, stdin=data, check=False).stdout
