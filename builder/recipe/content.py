"""What a plan says of its content: repositories, packages, keys, and the lines that ask for them.

``builder.recipe.model`` has them all beside the rest of the plan; import them from there.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from builder.secrets import REFERENCE, ClientTls, SecretReference

__all__ = [
    "Frozen",
    "Origin",
    "PackageRequest",
    "Packages",
    "Repository",
    "Secret",
    "SigningKey",
    "Substitution",
    "TlsClient",
]


class Frozen(BaseModel):
    """A part of a plan: it never changes, and has no word that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(Frozen):
    """The place in a recipe or layer that a value comes from.

    ``path`` is relative to the ``images`` directory when the file lies in it, ``line`` counts from 1 (0:
    unknown).
    """

    path: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


class Substitution(Frozen):
    """Something that a mirrors file put in the place of what the recipe says; None: nothing."""

    what: str
    was: str | None
    now: str | None
    where: Origin

    def __str__(self) -> str:
        return f"{self.what}: {self.was or 'nothing'} → {self.now or 'nothing'}"


class Secret(Frozen):
    """A reference to a secret (``env:NAME`` or ``file:PATH``); the secret itself is in no plan."""

    secret: Annotated[str, Field(pattern=REFERENCE)]
    where: Origin


class TlsClient(Frozen):
    """What a place knows its clients by and is known by: ``client_certificate`` and ``client_key`` (both or
    none) and ``ca`` are PEM files.
    """

    client_certificate: Secret | None = None
    client_key: Secret | None = None
    ca: Secret | None = None

    @property
    def tls(self) -> ClientTls:
        """The references, none of them followed."""
        given = (self.client_certificate, self.client_key, self.ca)
        return ClientTls(*(SecretReference(item.secret, str(item.where)) if item else None for item in given))


class Repository(TlsClient):
    """One package repository.

    Exactly one of ``embedded`` (the name of a repository that Hallmark makes itself), ``baseurl`` and
    ``metalink`` is set; URLs have their variables replaced already. ``key`` is the public key file, relative
    to ``images/``; ``fingerprint`` is what its primary key must have (40 hexadecimal digits, upper case).
    """

    id: str
    name: str
    embedded: str | None = None
    baseurl: str | None = None
    metalink: str | None = None
    key: str
    fingerprint: str
    where: Origin


class PackageRequest(Frozen):
    """A package, package glob or ``@group`` to install, and the line that asks for it."""

    name: str
    where: Origin


class Packages(Frozen):
    """``exclude`` holds names and globs that the package manager must not install, not even as a
    dependency.
    """

    install: tuple[PackageRequest, ...]
    exclude: tuple[str, ...] = ()


class SigningKey(Frozen):
    """The secret key that signs commits: a reference to a secret, or the key of an embedded repository."""

    secret: Annotated[str, Field(pattern=REFERENCE)] | None = None
    embedded: str | None = None
    where: Origin
