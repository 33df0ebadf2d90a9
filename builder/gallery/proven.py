"""What a certificate proves about an image, in the words of a Compute Gallery.

Nothing here comes from a recipe: a promise that nobody looked at makes machines that fail. The
features' names and values: Microsoft Learn, "Store and share images in an Azure Compute Gallery"; REST
reference, Gallery Images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from builder.errors import HallmarkError
from builder.recipe.model import Generation
from certification.certificate import Certificate
from certification.provenance import Provenance

__all__ = ["GENERATION_NAMES", "GalleryArchitecture", "Proven", "prove"]

GalleryArchitecture = Literal["x64", "Arm64"]
GENERATION_NAMES: dict[Generation, Literal["V1", "V2"]] = {1: "V1", 2: "V2"}

#: Which firmware must have booted the image, and which requirement it must have met, for each generation.
_BOOT: dict[Generation, tuple[str, str]] = {
    1: ("bios", "azure.gen1-bios-boot"),
    2: ("uefi", "azure.gen2-esp"),
}
#: That the image is of one architecture, looked at unbooted and booted; which, its packages say.
_ONE_ARCHITECTURE = "azure.x86-64"
_ARCHITECTURES: dict[str, GalleryArchitecture] = {"x86_64": "x64", "aarch64": "Arm64"}
_ACCELERATED = ("azure.accelnet-drivers", "azure.sriov-unmanaged")
_NVME = ("azure.nvme-initramfs",)
_SIGNED_CHAIN = ("azure.secureboot-chain-offline",)


@dataclass(frozen=True, slots=True)
class Proven:
    """What was seen: the generations that booted, the architecture, and what the drivers and the boot chain
    allow.
    """

    generations: tuple[Generation, ...]
    architecture: GalleryArchitecture
    accelerated_networking: bool
    nvme: bool
    trusted_launch: bool

    def features(self, generation: Generation) -> dict[str, str]:
        """The features of a gallery definition. Disk controllers and Trusted Launch exist in generation 2
        only.
        """
        found = {"IsAcceleratedNetworkSupported": str(self.accelerated_networking)}
        if generation == 2:
            found["DiskControllerTypes"] = "SCSI, NVMe" if self.nvme else "SCSI"
            if self.trusted_launch:
                # "Supported", not "TrustedLaunch": such a definition serves machines without it too.
                found["SecurityType"] = "TrustedLaunchSupported"
        return found


def prove(certificate: Certificate, *, where: Path) -> Proven:
    """Derive the promises of a gallery definition from a verified certificate.

    A waived requirement is no proof, and neither is one that was not looked at.

    :raises HallmarkError: the certificate proves no architecture, or no generation.
    """
    passed = {item.requirement for item in certificate.predicate.results if item.verdict == "pass"}
    booted = set(certificate.firmware)
    generations = tuple(
        number for number, (firmware, needed) in _BOOT.items() if firmware in booted and needed in passed
    )
    packaged = _packaged(certificate.provenance)
    architecture = _ARCHITECTURES.get(packaged) if _ONE_ARCHITECTURE in passed else None
    if not generations or architecture is None:
        missing = [needed for _, needed in _BOOT.values() if needed not in passed]
        missing += [needed for needed in (_ONE_ARCHITECTURE,) if needed not in passed]
        raise HallmarkError(
            "the certificate doesn't prove which machines the image boots on",
            where=where,
            why="a gallery would offer it for machines on which nobody tried it",
            hint="certify the image with the policy azure-marketplace",
            details=[f"booted with: {', '.join(sorted(booted)) or 'nothing'}"]
            + [f"architecture of the packages that it was made of: {packaged or 'unknown'}"]
            + [f"not proven: {name}" for name in missing],
        )
    return Proven(
        generations=generations,
        architecture=architecture,
        accelerated_networking=passed.issuperset(_ACCELERATED),
        nvme=passed.issuperset(_NVME),
        trusted_launch="uefi-secure" in booted and passed.issuperset(_SIGNED_CHAIN),
    )


def _packaged(provenance: Provenance | None) -> str:
    """The architecture of the packages in the signed provenance, as rpm calls it; several, comma between."""
    resources = provenance.build_definition.resolved_dependencies if provenance is not None else ()
    packages = (item.uri for item in resources if item.uri is not None and item.uri.startswith("pkg:rpm/"))
    found = {name for uri in packages for name in parse_qs(urlsplit(uri).query).get("arch", ())}
    return ", ".join(sorted(found - {"noarch"}))
