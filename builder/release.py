"""From a certified image to the catalog; and the whole way in one call."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from builder import log
from builder.certify import certify, key_directory
from builder.errors import HallmarkError
from builder.pipeline import Pipeline, existing
from builder.recipe import Plan, find
from builder.stages import StageReport, code_digest, read_stamp, run_stage
from builder.workspace import Artefacts, Workspace, digest_file
from certification import certificate, keys

__all__ = ["catalog_stage", "publish_stage", "release", "verify"]


def publish_stage(
    workspace: Workspace, artefacts: Artefacts, plan: Plan, *, destination: str | None
) -> StageReport:
    """Publish an image, unless exactly this image is published there already.

    :raises HallmarkError: there is no valid certificate for these bytes, or the destination refuses.
    """
    from builder.publish import publish

    if not artefacts.certificate.exists():
        raise HallmarkError(
            f"{plan.recipe} {plan.version} has no certificate",
            where=artefacts.certificate,
            why="only a certified image can be published",
            hint=f"certify it first: hallmark certify {plan.recipe}",
        )
    target = destination or "azurite"
    image = read_stamp(artefacts, "image")

    def make() -> None:
        publish(
            artefacts,
            plan=plan,
            destination=target,
            public_key=keys.ensure(key_directory()).public,
            workspace=workspace,
        )

    return run_stage(
        artefacts,
        "publish",
        title=f"publish to {target}",
        inputs={
            "image": image.model_dump_json(exclude={"seconds"}) if image else "",
            "certificate": digest_file(artefacts.certificate),
            "destination": target,
            "code": code_digest("builder/publish"),
        },
        outputs=(artefacts.release,),
        make=make,
    )


def catalog_stage(workspace: Workspace) -> tuple[StageReport, Path]:
    """Write the catalog of every release in the workspace; the page's path comes with the report."""
    from builder import catalog

    began = time.monotonic()
    with log.step("catalog"):
        page = catalog.write(workspace)
    return StageReport("catalog", "done", time.monotonic() - began), page


def release(
    workspace: Workspace,
    recipe: str,
    *,
    version: str | None,
    destination: str | None,
    reports: list[StageReport],
) -> None:
    """Build, certify, publish, catalog. ``reports`` grows by every stage, up to the one that failed."""
    pipeline = Pipeline(workspace, recipe, wanted_version=version, reports=reports)
    artefacts = pipeline.build()
    artefacts, plan = existing(workspace, recipe, version=artefacts.root.name)
    with workspace.lock(plan.recipe):
        reports += certify(workspace, artefacts, plan, images=find(recipe).parent)
        reports.append(publish_stage(workspace, artefacts, plan, destination=destination))
        workspace.set_latest(plan.recipe, plan.version)
        report, page = catalog_stage(workspace)
        reports.append(report)
    log.info(f"image:       {artefacts.image}")
    log.info(f"certificate: {artefacts.certificate}")
    log.info(f"report:      {artefacts.report_html}")
    log.info(f"catalog:     {page}")


def verify(image: Path, certificate_file: Path, key: Path | None) -> int:
    """Check an image against its certificate and say what it certifies."""
    public = key or keys.ensure(key_directory()).public
    found = certificate.verify(image, certificate_file, public, now=datetime.now(UTC))
    log.info(f"{image}: certified as {found.recipe} {found.version} until {found.expires:%Y-%m-%d}")
    return 0
