"""From a certified image to the catalog; and the whole way in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from builder import log
from builder.bootable import must_boot_of
from builder.built import existing
from builder.certify import certify, key_directory
from builder.errors import HallmarkError
from builder.pipeline import Pipeline
from builder.recipe import Plan, find
from builder.stages import StageReport
from builder.workspace import Artefacts, Workspace
from certification import certificate, keys

if TYPE_CHECKING:
    from builder.publish.clear import Litter
    from builder.publish.release import Readback, State

__all__ = [
    "catalog_stage",
    "change_state",
    "clear",
    "offer",
    "publish_stage",
    "release",
    "rollback",
    "verify",
]


def publish_stage(
    workspace: Workspace,
    artefacts: Artefacts,
    plan: Plan,
    *,
    destination: str | None,
    readback: Readback = "full",
) -> StageReport:
    """Publish an image. The gate and the destination are asked every time: no local record can replace them.

    :raises HallmarkError: there is no valid certificate for these bytes, or the destination refuses.
    """
    from builder.publish.publish import publish

    if not artefacts.certificate.exists():
        raise HallmarkError(
            f"{plan.recipe} {plan.version} has no certificate",
            where=artefacts.certificate,
            why="only a certified image can be published",
            hint=f"certify it first: hallmark certify {plan.recipe}",
        )
    before = artefacts.release.read_bytes() if artefacts.release.exists() else b""
    began = time.monotonic()
    with log.step(f"publish to {destination or 'the default destination'}"):
        publish(
            artefacts,
            plan=plan,
            destination=destination,
            readback=readback,
            public_key=keys.pair_in(key_directory()).public,
            workspace=workspace,
        )
    state: Literal["done", "up to date"] = (
        "up to date" if artefacts.release.read_bytes() == before else "done"
    )
    return StageReport("publish", state, time.monotonic() - began)


def change_state(
    workspace: Workspace, recipe: str, state: State, *, version: str | None, why: str, who: str | None = None
) -> None:
    """Promote, deprecate or withdraw a release, and tell it in the catalog.

    :raises HallmarkError: see ``builder.publish.states.change``.
    """
    from builder.publish import states

    actor = states.Actor.of(why=why, who=who, public_key=keys.pair_in(key_directory()).public)
    with workspace.lock(recipe), log.step(f"{recipe} {version or ''}".strip() + f": {state}"):
        states.change(workspace, recipe, state, version=version, actor=actor)
    catalog_stage(workspace)


def rollback(workspace: Workspace, channel: str, *, to: str | None, why: str, who: str | None = None) -> None:
    """Take the current release of a channel back, and tell it in the catalog.

    :raises HallmarkError: see ``builder.publish.states.rollback``.
    """
    from builder.publish import states

    actor = states.Actor.of(why=why, who=who, public_key=keys.pair_in(key_directory()).public)
    with workspace.lock(channel), log.step(f"roll {channel} back"):
        target, _ = states.rollback(workspace, channel, to=to, actor=actor)
    catalog_stage(workspace)
    log.info(f"{channel}: current is {target.version}")


def offer(
    workspace: Workspace,
    recipe: str,
    *,
    version: str | None,
    gallery: str,
    regions: Sequence[str],
    publisher: str,
    end_of_life: date | None,
    storage_account: str | None,
    managed_images: bool,
) -> None:
    """Offer a release in a Compute Gallery.

    :raises HallmarkError: see ``builder.gallery.publish``.
    """
    from builder.gallery import Offer, arm, parse_gallery, parse_region
    from builder.gallery import publish as publish_to_gallery
    from builder.publish.records import one

    wanted = Offer(
        gallery=parse_gallery(gallery),
        regions=tuple(parse_region(text) for text in regions),
        publisher=publisher,
        end_of_life=end_of_life,
        storage_account=storage_account,
        managed_images=managed_images,
    )
    artefacts, _ = one(workspace, recipe, version)
    with (
        workspace.lock(recipe),
        log.step(f"offer in {wanted.gallery}"),
        arm.connect(wanted.gallery.subscription) as client,
    ):
        key = keys.pair_in(key_directory()).public
        publish_to_gallery(client, artefacts, wanted, public_key=key, now=datetime.now(UTC))
    catalog_stage(workspace)


def clear(workspace: Workspace, *, destination: str | None, gallery: str | None, apply: bool) -> list[Litter]:
    """What may be cleared away from a destination and a gallery; with ``apply`` it is.

    :raises HallmarkError: see ``builder.publish.clear.clear`` and ``builder.gallery.clear``.
    """
    from builder.publish.clear import clear as clear_destination
    from builder.publish.destination import DEFAULT, parse

    now = datetime.now(UTC).replace(microsecond=0)
    with workspace.lock("gc"):
        found = clear_destination(workspace, parse(destination or DEFAULT), apply=apply, now=now)
        if gallery:
            from builder.gallery import arm, parse_gallery
            from builder.gallery import clear as clear_gallery

            address = parse_gallery(gallery)
            with arm.connect(address.subscription) as client:
                found += clear_gallery(client, workspace, address, apply=apply, now=now)
    if apply and found:
        catalog_stage(workspace)
    return found


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
    mirrors: Path | None,
    reports: list[StageReport],
) -> None:
    """Build, certify, publish, catalog. ``reports`` grows by every stage, up to the one that failed."""
    must_boot_of(recipe)
    pipeline = Pipeline(workspace, recipe, wanted_version=version, mirrors=mirrors, reports=reports)
    artefacts = pipeline.build()
    artefacts, plan = existing(workspace, recipe, version=artefacts.root.name)
    with workspace.lock(plan.recipe):
        reports += certify(workspace, artefacts, plan, images=find(recipe).parent)
        reports.append(publish_stage(workspace, artefacts, plan, destination=destination))
        workspace.set_latest(plan.recipe, plan.version)
        report, page = catalog_stage(workspace)
        reports.append(report)
    log.info(f"image:       {artefacts.output(plan.image_format)}")
    log.info(f"certificate: {artefacts.certificate}")
    log.info(f"report:      {artefacts.report_html}")
    log.info(f"catalog:     {page}")


def verify(image: Path, certificate_file: Path, key: Path | None) -> int:
    """Check an image against its certificate and say what it certifies."""
    public = key or keys.public_half(key_directory())
    found = certificate.verify(image, certificate_file, public, now=datetime.now(UTC))
    log.info(f"{image}: certified as {found.recipe} {found.version} until {found.expires:%Y-%m-%d}")
    log.info(f"policies: {', '.join(f'{item.name} {item.version}' for item in found.predicate.policies)}")
    for waiver in found.waivers:
        log.info(f"waived: {waiver.requirement} until {waiver.expires:%Y-%m-%d} by {waiver.owner}")
    if found.provenance is None:
        log.warn("the certificate says nothing about how the image was built")
    else:
        made_of = found.provenance.build_definition.resolved_dependencies
        lock = f", lock {found.predicate.lock_digest[:16]}…" if found.predicate.lock_digest else ""
        log.info(f"built by {found.provenance.builder} from {len(made_of)} packages and repositories{lock}")
        for item in found.predicate.substitutions:
            log.warn(f"substituted: {item}")
    return 0
