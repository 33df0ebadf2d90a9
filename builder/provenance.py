"""Says how an image was built, for the provenance that is signed with its certificate."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib.metadata import version as installed_version

from builder.ostree import Commit
from builder.recipe import Plan
from builder.rootfs import manifest, sbom
from builder.stages import read_stamp
from builder.workspace import Artefacts, digest_file
from certification.provenance import Build, Builder, Metadata, Provenance, Resource, RunDetails

__all__ = ["BUILDER", "BUILD_TYPE", "describe"]

BUILD_TYPE = "https://hallmark.invalid/build/v1"
#: Who builds, unless ``HALLMARK_BUILDER_ID`` names somebody else (the URL of a CI system's runner, say).
BUILDER = "https://hallmark.invalid/builder/unnamed"


def describe(artefacts: Artefacts, plan: Plan) -> Provenance:
    """The provenance of an image that was built: its plan, its packages and where they came from.

    The digest of a package is that of its signed header (``rpmHeaderSha256``), not of the .rpm file.
    """
    data = plan.model_dump(mode="json")
    lock = data.get("lock_digest")
    parameters = {
        "recipe": plan.recipe,
        "version": plan.version,
        "plan": plan.digest(),
        "policies": list(plan.certification.policies),
        **({"lock": lock} if lock else {}),
        "substitutions": data.get("substitutions", []),
    }
    dependencies = [
        Resource(
            name=repository.id,
            uri=repository.baseurl or repository.metalink or f"hallmark:{repository.embedded}",
            annotations={"keyFingerprint": repository.fingerprint},
        )
        for repository in plan.repositories
    ]
    if lock:
        dependencies.append(Resource(name="lock", digest={"sha256": str(lock)}))
    dependencies += [
        Resource(
            name=item.name,
            uri=sbom.purl(item, plan),
            digest={"rpmHeaderSha256": item.sha256} if item.sha256 else {},
            annotations={"signatureKey": item.signature_key} if item.signature_key else {},
        )
        for item in manifest.load(artefacts.packages)
    ]
    products = [
        Resource(name=path.name, digest={"sha256": digest_file(path)})
        for path in (artefacts.packages, artefacts.sbom)
    ]
    if plan.ostree is not None:
        commit = Commit.load(artefacts.commit)
        system = Resource(
            name=commit.ref,
            uri=plan.ostree.source or plan.ostree.url,
            digest={"ostreeCommit": commit.checksum},
            annotations={"signatureKeys": ", ".join(commit.signers)} if commit.signers else {},
        )
        (products if plan.composed else dependencies).append(system)
    stamp = read_stamp(artefacts, "image")
    output = stamp.outputs.get(artefacts.output(plan.image_format).name) if stamp is not None else None
    return Provenance(
        build_definition=Build(
            build_type=BUILD_TYPE,
            external_parameters=parameters,
            resolved_dependencies=tuple(dependencies),
        ),
        run_details=RunDetails(
            builder=Builder(
                id=os.environ.get("HALLMARK_BUILDER_ID") or BUILDER,
                version={"hallmark": installed_version("hallmark")},
            ),
            metadata=Metadata(
                invocation_id=f"{plan.recipe}/{plan.version}",
                finished_on=datetime.fromtimestamp(output.mtime_ns // 10**9, UTC) if output else None,
            ),
            byproducts=tuple(products),
        ),
    )
