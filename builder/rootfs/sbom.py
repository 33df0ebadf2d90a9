"""``sbom.cdx.json``: a CycloneDX 1.6 bill of materials of the image's packages.

Everything in it follows from the plan and the packages; two builds of one plan give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from builder.errors import HallmarkError
from builder.recipe.model import Plan
from builder.rootfs.manifest import Package
from builder.workspace import atomic_file

__all__ = ["purl", "render", "validate", "write"]


def purl(package: Package, plan: Plan) -> str:
    """The package URL (purl-spec, type ``rpm``)."""
    distribution = plan.distribution
    qualifiers = {"arch": package.arch, "distro": f"{distribution.id}-{distribution.release}"}
    if package.epoch:
        qualifiers["epoch"] = str(package.epoch)
    if package.repository:
        qualifiers["repository_id"] = package.repository
    if package.source:
        qualifiers["upstream"] = package.source
    tail = "&".join(f"{key}={quote(value, safe='.-_~')}" for key, value in sorted(qualifiers.items()))
    version = quote(f"{package.version}-{package.release}", safe=".-_~")
    return f"pkg:rpm/{quote(distribution.id)}/{quote(package.name, safe='.-_~')}@{version}?{tail}"


def write(plan: Plan, packages: Sequence[Package], path: Path) -> None:
    """Render, validate against the CycloneDX 1.6 schema, and write.

    :raises HallmarkError: the document does not satisfy the schema.
    """
    text = render(plan, packages)
    validate(text)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(plan: Plan, packages: Sequence[Package]) -> str:
    """The bill of materials as JSON text."""
    # Imported here: it takes half a second, and most commands never make an SBOM.
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    licences = LicenseFactory()
    identity = f"{plan.recipe}@{plan.version}"
    system = Component(
        name=plan.recipe,
        version=plan.version,
        type=ComponentType.OPERATING_SYSTEM,
        description=plan.summary,
        bom_ref=identity,
    )
    components = []
    for item in packages:
        reference = purl(item, plan)
        components.append(
            Component(
                name=item.name,
                version=(f"{item.epoch}:" if item.epoch else "") + f"{item.version}-{item.release}",
                type=ComponentType.LIBRARY,
                bom_ref=reference,
                purl=PackageURL.from_string(reference),
                licenses=[licences.make_from_string(item.licence)] if item.licence else None,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=item.sha256)] if item.sha256 else None,
                supplier=OrganizationalEntity(name=item.vendor) if item.vendor else None,
                properties=[
                    # The digest is of the signed package header, not of the .rpm file.
                    Property(name="hallmark:digest-of", value="rpm header"),
                    Property(name="hallmark:signature-key", value=item.signature_key or "none"),
                    Property(name="hallmark:installed-size", value=str(item.size)),
                ],
            )
        )
    bom = Bom(
        components=components,
        metadata=BomMetaData(component=system, timestamp=datetime.fromtimestamp(plan.source_date_epoch, UTC)),
        serial_number=uuid5(NAMESPACE_URL, f"urn:hallmark:{identity}:{plan.digest()}"),
    )
    bom.register_dependency(system, components)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def validate(text: str) -> None:
    """Hold a document against the strict CycloneDX 1.6 schema.

    :raises HallmarkError: it does not satisfy it.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise HallmarkError(
            "the bill of materials does not satisfy CycloneDX 1.6",
            why="tools that read it would refuse it",
            details=str(problem).splitlines()[:5],
        )
