"""The gate: an image passes with a valid certificate for exactly its bytes, and no other way.

Nothing here talks to the network, and nothing turns it off.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from builder.errors import HallmarkError
from builder.image import container, vhd
from builder.publish import preflight
from builder.publish.licence import guard
from builder.recipe.model import Plan
from certification import catalogue, policy
from certification.certificate import Certificate, read, verify
from certification.model import POLICY_OF_TARGET

__all__ = ["Certified", "Identity", "check", "must_satisfy"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is and when it was last touched; ctime can't be set back by a program."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Identity:
        status = path.stat()
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Certified:
    """An image that has passed the gate.

    Sizes in bytes; ``virtual_size`` is the disk's, without the footer, or that of a container's layers as
    tars; ``digest`` is that of a container's manifest.
    """

    image: Path
    size: int
    virtual_size: int
    sha256: str
    certificate: Certificate
    identity: Identity
    digest: str | None = None

    def further(self) -> dict[Path, str]:
        """The image's further outputs beside it, each with the digest that the certificate gives it."""
        subjects = self.certificate.subjects.items()
        return {self.image.with_name(name): digest for name, digest in subjects if digest != self.sha256}

    def must_be_unchanged(self) -> None:
        """The gate judged these bytes; make sure that they are still the ones in the file.

        :raises HallmarkError: the file was written to, or replaced.
        """
        if Identity.of(self.image) != self.identity:
            raise HallmarkError(
                "the image was changed while it was being published",
                where=self.image,
                why="the certificate speaks for the bytes that were there before",
                hint="stop whatever writes to it, build and certify again, then publish",
            )


def check(image: Path, certificate: Path, public_key: Path, *, plan: Plan, now: datetime) -> Certified:
    """Let a certified image pass.

    Cheap checks come first: whatever is wrong with the format, the certificate or the licence is refused in a
    moment, and then other bytes than the certified ones, before the digest of the whole file is made.

    :raises HallmarkError: the image or its certificate is missing; the file is no VHD that Azure takes, or no
        whole OCI archive; the certificate is not signed by the key, was edited, has expired, lacks a policy
        that the plan or one of its targets asks for or has an old version of it, is of another plan or image;
        or the licence does not allow the visibility.
    """
    for path, what, hint in (
        (image, "image", "build it: hallmark build RECIPE"),
        (certificate, "certificate", "certify the image: hallmark certify RECIPE"),
        (public_key, "public key", "give the key that certificates are checked with"),
    ):
        if not path.is_file():
            raise HallmarkError(
                f"there is no {what}", where=path, why="nothing uncertified can be published", hint=hint
            )
    identity = Identity.of(image)
    contents = container.read(image) if plan.container is not None else None
    if contents is None:
        preflight.examine(image, plan.disk.generations)
    proof = read(certificate, public_key, now=now)
    _must_be_of(plan, proof, image)
    must_satisfy(proof, _asked(plan), where=certificate)
    # What the image itself is, as the certificate saw it: a recipe may say anything.
    system = proof.predicate.subject_os.partition(" ")[0]
    guard(system, name=system, licence=plan.licence, visibility=plan.visibility, where=plan.recipe)
    certified = Certified(
        image=image,
        size=identity.size,
        virtual_size=contents.unpacked if contents else identity.size - vhd.FOOTER_SIZE,
        sha256=verify(image, certificate, public_key, now=now).image_sha256,
        certificate=proof,
        identity=identity,
        digest=contents.digest if contents else None,
    )
    certified.must_be_unchanged()
    return certified


def must_satisfy(proof: Certificate, policies: tuple[str, ...], *, where: Path) -> None:
    """The certificate speaks about every policy, in the version that is in force today or a later one.

    :raises HallmarkError: a policy is missing, was tightened since, or doesn't exist.
    """
    certified = {item.name: item.version for item in proof.predicate.policies}
    for name in policies:
        version = _in_force(name)
        if certified.get(name, 0) < version:
            found = f"version {certified[name]} of it" if name in certified else "not at all"
            raise HallmarkError(
                f"the certificate doesn't speak for the policy {name}, version {version}",
                where=where,
                why=f"it was judged by {found}: what the policy asks for today was never looked at",
                hint="certify the image again: hallmark certify RECIPE",
            )


def _asked(plan: Plan) -> tuple[str, ...]:
    """What the plan names, and what the places take where its image is meant to run."""
    chosen = plan.certification
    return tuple(dict.fromkeys((*chosen.policies, *(POLICY_OF_TARGET[target] for target in chosen.targets))))


@cache
def _in_force(name: str) -> int:
    """The version of a policy that images are judged by today."""
    return policy.load(name, catalogue=catalogue.load()).version


def _must_be_of(plan: Plan, proof: Certificate, image: Path) -> None:
    """The plan decides the release's name, licence and visibility; the certificate names the plan."""
    predicate = proof.predicate
    for what, certified, planned in (
        ("recipe", predicate.recipe, plan.recipe),
        ("version", predicate.version, plan.version),
        ("plan", predicate.plan_digest, plan.digest()),
    ):
        if certified != planned:
            raise HallmarkError(
                f"the certificate is of another {what}",
                where=image,
                why="the release would be published under a name or a licence that nobody certified",
                hint="the plan was edited after the build: build and certify again",
                details=[f"certified: {certified}", f"planned: {planned}"],
            )
