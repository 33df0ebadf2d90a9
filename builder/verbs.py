"""What each verb of the command line does: read the options, call one function, print its result.

Imports are made where they are needed, so that a verb starts without the libraries of the others.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from builder import log
from builder.errors import EXIT_FAILURE, HallmarkError
from builder.stages import StageReport
from builder.workspace import Workspace

__all__ = [
    "boot",
    "build",
    "catalog",
    "certify",
    "diff",
    "doctor",
    "explain",
    "gallery",
    "gc",
    "lint",
    "lock",
    "matrix",
    "plan",
    "publish",
    "release",
    "requirement",
    "rollback",
    "sample_distribution",
    "schema",
    "state",
    "verify",
]


def doctor(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder import doctor

    return doctor.report(doctor.examine(workspace=workspace))


def sample_distribution(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder import sampledistro

    sample = sampledistro.ensure(cache=workspace.cache)
    print(sample.path)
    return 0


def lint(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.lint_command(options.recipes)


def plan(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.plan_command(options.recipes, options.repositories)


def explain(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.explain_command(options.recipe, options.path or "", options.repositories)


def matrix(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.matrix_command(options.recipes)


def schema(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.schema_command()


def lock(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.lock.command import lock_command

    return lock_command(
        workspace,
        options.recipe,
        update=options.update,
        check=options.check,
        mirrors=options.repositories,
    )


def diff(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder import diff

    return diff.diff_command(options.before, options.after, json=options.json, whole=options.verbose)


def build(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.built import existing
    from builder.pipeline import Pipeline

    pipeline = Pipeline(
        workspace,
        options.recipe,
        wanted_version=options.version,
        mirrors=options.repositories,
        bootstrap=options.bootstrap,
    )
    try:
        artefacts = pipeline.build()
    finally:
        _table(pipeline.reports)
    artefacts, plan = existing(workspace, options.recipe, version=artefacts.root.name)
    log.info(f"image: {artefacts.output(plan.image_format)}")
    return 0


def boot(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.bootable import must_boot
    from builder.built import existing
    from builder.vm.acceleration import probe
    from builder.vm.shell import interactive

    image = Path(options.image)
    if not os.path.isfile(image):  # noqa: PTH113  # a name that is too long for a file is none
        artefacts, plan = existing(workspace, options.image)
        image = artefacts.output(plan.image_format)
        if plan.container is not None:
            raise HallmarkError(
                "a container isn't booted", where=image, hint=f"run it: podman run --rm oci-archive:{image}"
            )
        must_boot(plan)
    return interactive(
        image,
        firmware=options.firmware,
        work=workspace.work,
        acceleration=probe(cache=workspace.cache),
    )


def certify(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.built import existing
    from builder.certify import certify
    from builder.recipe import find

    if options.replay or options.hosts:
        from builder import examine

        return examine.command(options, workspace)
    if options.policy or options.waivers or options.out or options.key:
        raise HallmarkError(
            "--policy, --waivers, --out and --key go with --replay and --hosts",
            why="an image is judged by what its recipe says; nothing on the command line can lower that",
        )
    if not options.recipes:
        raise HallmarkError(
            "no recipe is named", hint="hallmark certify RECIPE, --replay FILE or --hosts URL"
        )
    if len(options.recipes) > 1:
        return _certify_several(options, workspace)
    (recipe,) = options.recipes
    artefacts, plan = existing(workspace, recipe, version=options.version)
    with workspace.lock(plan.recipe):
        reports = certify(workspace, artefacts, plan, images=find(recipe).parent)
    _table(reports)
    log.info(f"report: {artefacts.report_html}")
    log.info(f"certificate: {artefacts.certificate}")
    return 0


def _certify_several(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.certify import certify_several

    if options.version:
        raise HallmarkError("--version is of one recipe", hint="certify each version by itself")
    table = Table("image", "result", "seconds", "report", box=None, padding=(0, 2))
    table.columns[2].justify = "right"
    outcomes = certify_several(workspace, options.recipes)
    for one in outcomes:
        log.event(
            "certified" if one.problem is None else "not-certified",
            image=one.recipe,
            seconds=round(one.seconds, 3),
            why=one.problem.what if one.problem else "",
            report=str(one.report or ""),
        )
        result = "[green]certified[/green]" if one.problem is None else "[red]not certified[/red]"
        table.add_row(one.recipe, result, f"{one.seconds:.1f}", str(one.report or "none"))
    log.console.print(table)
    return EXIT_FAILURE if any(one.problem for one in outcomes) else 0


def requirement(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder import examine
    from builder.built import existing

    artefacts, plan = existing(workspace, options.recipe, version=options.version)
    good = examine.requirement(workspace, artefacts, plan, options.requirement, every_view=options.every_view)
    return 0 if good else EXIT_FAILURE


def publish(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.built import existing
    from builder.release import publish_stage

    artefacts, plan = existing(workspace, options.recipe, version=options.version, certified=True)
    with workspace.lock(plan.recipe):
        _table(
            [
                publish_stage(
                    workspace, artefacts, plan, destination=options.destination, readback=options.read_back
                )
            ]
        )
    return 0


def state(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import name_of
    from builder.release import change_state

    change_state(
        workspace,
        name_of(options.recipe),
        options.state,
        version=options.version,
        why=options.why,
        who=options.who,
    )
    return 0


def gallery(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import name_of
    from builder.release import offer

    offer(
        workspace,
        name_of(options.recipe),
        version=options.version,
        gallery=options.gallery,
        regions=options.region,
        publisher=options.publisher,
        end_of_life=options.end_of_life,
        storage_account=options.storage_account,
        managed_images=options.managed_images,
    )
    return 0


def gc(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.release import clear

    found = clear(workspace, destination=options.destination, gallery=options.gallery, apply=options.apply)
    table = Table("what", "where", "why", "MiB", box=None, padding=(0, 2))
    for item in found:
        log.event("litter", what=item.what, where=item.where, why=item.why, size=item.size)
        table.add_row(item.what, item.where, item.why, f"{item.size / (1 << 20):,.0f}")
    if found:
        log.console.print(table)
    word = "deleted" if options.apply else "may be deleted: run it again with --apply"
    log.info(f"{len(found)} {word}" if found else "nothing is to be cleared away")
    return 0


def rollback(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.release import rollback

    rollback(workspace, options.channel, to=options.to, why=options.why, who=options.who)
    return 0


def catalog(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.release import catalog_stage

    _, page = catalog_stage(workspace)
    log.info(f"catalog: {page}")
    return 0


def verify(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.release import verify

    return verify(options.image, options.certificate, options.key)


def release(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.release import release

    reports: list[StageReport] = []
    try:
        release(
            workspace,
            options.recipe,
            version=options.version,
            destination=options.destination,
            mirrors=options.repositories,
            reports=reports,
        )
    finally:
        _table(reports)
    return 0


def _table(reports: Sequence[StageReport]) -> None:
    """Print the stages of this run with their times."""
    if not reports:
        return
    log.event("stages", stages=[{"name": r.name, "state": r.state, "seconds": r.seconds} for r in reports])
    table = Table("stage", "state", "seconds", box=None, padding=(0, 2))
    table.columns[2].justify = "right"
    for report in reports:
        style = "green" if report.state == "done" else "dim"
        table.add_row(report.name, f"[{style}]{report.state}[/{style}]", f"{report.seconds:.1f}")
    log.console.print(table)
