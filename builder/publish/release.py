"""The release record: what was published, where, on whose word, and in which state it is."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.errors import HallmarkError
from builder.publish.tags import State
from builder.recipe.model import Architecture, Generation, Licence, OutputFormat, Visibility
from builder.workspace import atomic_file
from certification.certificate import Certificate

__all__ = [
    "CertificateSummary",
    "GalleryVersion",
    "ImageFile",
    "Location",
    "Readback",
    "Release",
    "State",
    "Transition",
    "Upload",
    "WaivedRequirement",
    "whoami",
]

#: How much of the destination was compared with the file afterwards.
Readback = Literal["full", "sampled"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageFile(_Frozen):
    """A file of the release. ``size`` is its length, ``virtual_size`` the disk's, both in bytes; digests in
    hexadecimal.

    Of a container (``oci``), ``virtual_size`` is that of its layers' tars, and ``digest`` the manifest's
    SHA-256, by which a registry knows the image.
    """

    name: str
    format: OutputFormat = "vhd"
    size: int = Field(gt=0)
    virtual_size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class WaivedRequirement(_Frozen):
    """A requirement that the image fails, and who answers for publishing it all the same, until when."""

    requirement: str
    owner: str
    reason: str
    expires: date


class CertificateSummary(_Frozen):
    """What the certificate says, for readers; the file itself (digest ``sha256``) is what counts.

    ``counts`` maps each verdict (pass, fail, waived, not-applicable, error) to its number; ``firmware`` names
    the ways in which the image was booted.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    key_id: str
    policies: tuple[str, ...]
    issued: datetime
    expires: datetime
    counts: dict[str, int]
    waived: tuple[WaivedRequirement, ...] = ()
    firmware: tuple[str, ...] = ()

    @classmethod
    def of(cls, certificate: Certificate, *, sha256: str) -> CertificateSummary:
        """The summary of a verified certificate whose file has the digest ``sha256``."""
        return cls(
            sha256=sha256,
            key_id=certificate.key_id,
            policies=tuple(f"{item.name} {item.version}" for item in certificate.predicate.policies),
            issued=certificate.issued,
            expires=certificate.expires,
            counts=certificate.counts,
            waived=tuple(
                WaivedRequirement(
                    requirement=item.requirement,
                    owner=item.owner,
                    reason=item.reason,
                    expires=item.expires.date(),
                )
                for item in certificate.waivers
            ),
            firmware=certificate.firmware,
        )


class Upload(_Frozen):
    """What the last upload cost: bytes ``sent``, already ``present`` at the destination, ``skipped`` as
    zero, ``copied`` by the service from an earlier release; and how much was read back.
    """

    sent: int
    present: int
    skipped: int
    requests: int
    seconds: float
    readback: Readback = "full"
    copied: int = 0


class Location(_Frozen):
    """Where the bytes are; ``deleted`` says since when not any more. ``etag`` identifies the verified state
    of a blob. ``url`` is the VHD's; ``outputs`` maps the formats that lie beside it to theirs, ``etags`` to
    the verified states of their blobs.
    """

    destination: str
    url: str
    outputs: dict[OutputFormat, str] = {}
    etags: dict[OutputFormat, str] = {}
    container: str | None = None
    blob: str | None = None
    etag: str | None = None
    published: datetime
    upload: Upload
    deleted: datetime | None = None


class GalleryVersion(_Frozen):
    """A version of a definition in a Compute Gallery. ``id`` is its resource id; ``gallery`` is
    SUBSCRIPTION/GROUP/NAME; ``features`` are what the definition promises, as the certificate proved it;
    ``managed_images`` are the resource ids of images made beside it, one for each region.
    """

    id: str
    gallery: str
    definition: str
    generation: Generation
    regions: tuple[str, ...]
    features: dict[str, str]
    end_of_life: date | None = None
    managed_images: tuple[str, ...] = ()


class Transition(_Frozen):
    """A change of state: into which, when, by whom, for what reason.

    ``rollback`` is the version that the channel went back to, when that is what the change was part of.
    """

    state: State
    when: datetime
    who: str
    why: str
    rollback: str | None = None


class Release(_Frozen):
    """One published version of one image (``release.json``). ``image`` is its VHD; ``outputs`` hold the same
    disk in other formats, wherever they are to be had.
    """

    schema_version: Literal[1] = 1
    recipe: str
    title: str
    summary: str
    version: str
    distribution: str
    distribution_id: str
    release: str
    architecture: Architecture
    generations: tuple[Generation, ...]
    licence: Licence
    visibility: Visibility
    plan_digest: str
    image: ImageFile
    outputs: tuple[ImageFile, ...] = ()
    certificate: CertificateSummary
    locations: tuple[Location, ...] = Field(min_length=1)
    galleries: tuple[GalleryVersion, ...] = ()
    history: tuple[Transition, ...] = Field(min_length=1)

    @property
    def state(self) -> State:
        """The state that the last transition led to."""
        return self.history[-1].state

    @property
    def published(self) -> datetime:
        """When the release was staged."""
        return self.history[0].when

    @property
    def was_released(self) -> bool:
        """Whether consumers were ever meant to take it."""
        return any(change.state == "released" for change in self.history)

    def location(self, destination: str) -> Location | None:
        """Where the release is at one destination; None if it was never published there."""
        return next((place for place in self.locations if place.destination == destination), None)

    def write(self, path: Path) -> None:
        """Write the record in one piece."""
        with atomic_file(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Release:
        """Read a record back.

        :raises HallmarkError: the file is missing, or is no release record.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise HallmarkError(f"cannot read the release record: {error.strerror}", where=path) from None
        except ValidationError as error:
            first = error.errors()[0]
            raise HallmarkError(
                f"this is no release record: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                where=path,
                hint=f"put a copy of it back: the catalog has catalog/{path.parent.parent.name}/"
                f"{path.parent.name}/release.json; nothing else may know of a withdrawal",
            ) from None


def whoami() -> str:
    """Who publishes: the CI system's own word if it says so, otherwise user and host."""
    try:
        user = os.environ.get("GITHUB_ACTOR") or os.environ.get("GITLAB_USER_LOGIN") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def now_utc() -> datetime:
    """This second, in UTC."""
    return datetime.now(UTC).replace(microsecond=0)
