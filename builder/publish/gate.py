"""The gate: an image passes with a valid certificate for exactly its bytes, and no other way.

Nothing here talks to the network, and nothing turns it off.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from builder.errors import HallmarkError
from builder.image import vhd
from builder.recipe.model import Plan
from certification.certificate import Certificate, verify

__all__ = ["Certified", "Identity", "check"]


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
    """An image that has passed the gate. Sizes in bytes; ``virtual_size`` is the disk's, without the
    footer.
    """

    image: Path
    size: int
    virtual_size: int
    sha256: str
    certificate: Certificate
    identity: Identity

    @property
    def system(self) -> str:
        """The os-release ID that the certificate gives the image: seen in the image, not said by a recipe."""
        return self.certificate.predicate.subject_os.partition(" ")[0]

    def must_be_of(self, plan: Plan) -> None:
        """The plan decides the release's name, licence and visibility; the certificate names the plan.

        :raises HallmarkError: the certificate is of another recipe, version or plan.
        """
        predicate = self.certificate.predicate
        for what, certified, planned in (
            ("recipe", predicate.recipe, plan.recipe),
            ("version", predicate.version, plan.version),
            ("plan", predicate.plan_digest, plan.digest()),
        ):
            if certified != planned:
                raise HallmarkError(
                    f"the certificate is of another {what}",
                    where=self.image,
                    why="the release would be published under a name or a licence that nobody certified",
                    hint="the plan was edited after the build: build and certify again",
                    details=[f"certified: {certified}", f"planned: {planned}"],
                )

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


def check(image: Path, certificate: Path, public_key: Path, *, now: datetime) -> Certified:
    """Let a certified image pass.

    Cheap checks come first: a wrong format is refused in a moment, before the digest of the whole file is
    made.

    :raises HallmarkError: the image or its certificate is missing; the file is no VHD that Azure takes; the
        certificate is not signed by the key, was edited, has expired, or is of another image.
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
    if found := vhd.deviations(image):
        raise HallmarkError(
            "the image is not a VHD that Azure and Hyper-V take",
            where=image,
            why="Azure would say so only after the upload",
            hint="it was cut off or edited after the build: build and certify it again",
            details=[str(deviation) for deviation in found],
        )
    proof = verify(image, certificate, public_key, now=now)
    certified = Certified(
        image=image,
        size=identity.size,
        virtual_size=identity.size - vhd.FOOTER_SIZE,
        sha256=proof.image_sha256,
        certificate=proof,
        identity=identity,
    )
    certified.must_be_unchanged()
    return certified
