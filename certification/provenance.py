"""How an image was built, as SLSA provenance v1 says it (slsa.dev/spec/v1.0/provenance).

The words are SLSA's; what a build puts into them is for whoever builds to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from certification.bundle import Part, incomplete

__all__ = ["SLSA", "Build", "Builder", "Metadata", "Provenance", "Resource", "RunDetails"]

SLSA = "https://slsa.dev/provenance/v1"


class Resource(Part):
    """in-toto's ResourceDescriptor: something that went into the build or came out of it."""

    name: str
    uri: str | None = None
    digest: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class Build(Part):
    """SLSA's BuildDefinition: what was asked for, and everything that it was made of."""

    build_type: str
    external_parameters: Mapping[str, Any]
    internal_parameters: Mapping[str, Any] = {}
    resolved_dependencies: tuple[Resource, ...]


class Builder(Part):
    """Who built: an identity that the reader trusts or not, and versions by name."""

    id: str
    version: Mapping[str, str]


class Metadata(Part):
    invocation_id: str
    finished_on: datetime | None = None


class RunDetails(Part):
    builder: Builder
    metadata: Metadata
    byproducts: tuple[Resource, ...] = ()


class Provenance(Part):
    """The predicate. ``lock`` is an external parameter of a build by Hallmark."""

    build_definition: Build
    run_details: RunDetails

    @classmethod
    def from_predicate(cls, predicate: Mapping[str, Any], *, where: Path) -> Provenance:
        """Read a predicate that was signed.

        :raises HallmarkError: it isn't as ``predicate`` makes it.
        """
        try:
            return cls.model_validate(predicate)
        except ValidationError as error:
            raise incomplete(error, where) from None

    def predicate(self) -> dict[str, Any]:
        """The predicate as JSON values."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def builder(self) -> str:
        """The builder's identity."""
        return self.run_details.builder.id

    @property
    def lock_digest(self) -> str | None:
        """The SHA-256 of the lock that the packages were taken from; None without one."""
        digest = self.build_definition.external_parameters.get("lock")
        return str(digest) if digest else None
