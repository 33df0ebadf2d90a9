"""``hallmark``: the command line. It parses, calls one function, and turns errors into text and a status.

Exit status: 0 success, 1 the work could not be done, 2 the command line is wrong, 3 ``diff`` found a
difference, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from builder import log
from builder.errors import EXIT_FAILURE, HallmarkError
from builder.recipe.mirrors import SETTING
from builder.redaction import install_excepthook, redact
from builder.stages import StageReport
from builder.vm.firmware import FIRMWARES
from builder.workspace import Workspace

__all__ = ["main", "parser"]

Verb = Callable[[argparse.Namespace, Workspace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the value is the process's exit status."""
    install_excepthook()
    options = parser().parse_args(arguments)
    log.configure(mode="json" if options.json else None, verbose=options.verbose)
    try:
        workspace = Workspace.default(build=options.build_dir, cache=options.cache_dir)
        verb: Verb = options.verb
        return verb(options, workspace)
    except HallmarkError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        log.warn("interrupted; the next run goes on from the last complete stage")
        return 130
    except BrokenPipeError:
        return EXIT_FAILURE


def _complain(error: HallmarkError) -> None:
    text = redact(str(error))
    log.event(
        "error",
        what=redact(error.what),
        where=str(error.where or ""),
        why=error.why or "",
        fix=error.hint or "",
    )
    log.console.print(f"[bold red]error:[/bold red] {escape(text)}")


def _doctor(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder import doctor

    return doctor.report(doctor.examine(workspace=workspace))


def _sample_distribution(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder import sampledistro

    sample = sampledistro.ensure(cache=workspace.cache)
    print(sample.path)
    return 0


def _lint(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.lint_command(options.recipes)


def _plan(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.plan_command(options.recipes, options.repositories)


def _explain(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.explain_command(options.recipe, options.path, options.repositories)


def _matrix(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.matrix_command(options.recipes)


def _schema(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.recipe import cli

    return cli.schema_command()


def _lock(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.lock.command import lock_command

    return lock_command(
        workspace,
        options.recipe,
        update=options.update,
        check=options.check,
        mirrors=options.repositories,
    )


def _diff(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder import diff

    return diff.diff_command(options.before, options.after, json=options.json, whole=options.verbose)


def _build(options: argparse.Namespace, workspace: Workspace) -> int:
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
    log.info(f"image: {artefacts.image}")
    return 0


def _boot(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.pipeline import existing
    from builder.vm import interactive
    from builder.vm.acceleration import probe

    image = Path(options.image)
    if not image.is_file():
        image = existing(workspace, options.image)[0].image
    return interactive(
        image,
        firmware=options.firmware,
        work=workspace.work,
        logs=workspace.work,
        acceleration=probe(cache=workspace.cache),
    )


def _certify(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.certify import certify
    from builder.pipeline import existing
    from builder.recipe import find

    if options.replay or options.hosts:
        from builder import examine

        return examine.command(options, workspace)
    if options.policy or options.waivers or options.out or options.key:
        raise HallmarkError(
            "--policy, --waivers, --out and --key go with --replay and --hosts",
            why="an image is judged by what its recipe says; nothing on the command line can lower that",
        )
    if not options.recipe:
        raise HallmarkError(
            "no recipe is named", hint="hallmark certify RECIPE, --replay FILE or --hosts URL"
        )
    artefacts, plan = existing(workspace, options.recipe, version=options.version)
    with workspace.lock(plan.recipe):
        reports = certify(workspace, artefacts, plan, images=find(options.recipe).parent)
    _table(reports)
    log.info(f"report: {artefacts.report_html}")
    log.info(f"certificate: {artefacts.certificate}")
    return 0


def _requirement(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder import examine
    from builder.pipeline import existing

    artefacts, plan = existing(workspace, options.recipe, version=options.version)
    good = examine.requirement(workspace, artefacts, plan, options.requirement, every_view=options.every_view)
    return 0 if good else EXIT_FAILURE


def _publish(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.pipeline import existing
    from builder.release import publish_stage

    artefacts, plan = existing(workspace, options.recipe, version=options.version)
    with workspace.lock(plan.recipe):
        _table(
            [
                publish_stage(
                    workspace, artefacts, plan, destination=options.destination, readback=options.read_back
                )
            ]
        )
    return 0


def _state(options: argparse.Namespace, workspace: Workspace) -> int:
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


def _gallery(options: argparse.Namespace, workspace: Workspace) -> int:
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
        managed_image=options.managed_image,
    )
    return 0


def _gc(options: argparse.Namespace, workspace: Workspace) -> int:
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


def _rollback(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.release import rollback

    rollback(workspace, options.channel, to=options.to, why=options.why, who=options.who)
    return 0


def _catalog(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.release import catalog_stage

    _, page = catalog_stage(workspace)
    log.info(f"catalog: {page}")
    return 0


def _verify(options: argparse.Namespace, workspace: Workspace) -> int:
    from builder.release import verify

    return verify(options.image, options.certificate, options.key)


def _release(options: argparse.Namespace, workspace: Workspace) -> int:
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


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="hallmark",
        description="Turns recipes into certified RHEL, CentOS and Atomic Host images for Azure and Hyper-V.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON event a line on standard output")
    common.add_argument("-v", "--verbose", action="store_true", help="show every command that is run")
    common.add_argument("--build-dir", type=Path, metavar="DIR", help="where artefacts go (default: build/)")
    common.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="the package cache (default: ~/.cache/hallmark)"
    )
    verbs = top.add_subparsers(title="verbs", required=True, metavar="VERB")

    def verb(name: str, function: Verb, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(verb=function)
        return sub

    def recipe(sub: argparse.ArgumentParser, **more: Any) -> None:
        text = "a full name (sample-9, rhel-9-payg) or a path (mine.yaml:payg)"
        sub.add_argument("recipe", help=text, **more)
        sub.add_argument(
            "--version", metavar="X.Y.Z", help="MAJOR.YYYYMMDD.N instead of the one that is next"
        )

    def mirrored(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument(
            "--repositories",
            type=Path,
            metavar="FILE",
            default=os.environ.get(SETTING) or None,
            help="mirrors: other addresses for the repositories (default: the variable " + SETTING + ")",
        )
        return sub

    def reason(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--why", required=True, help="the reason: it is kept in the release record")
        sub.add_argument("--who", help="who decided it (default: you)")

    verb("doctor", _doctor, "examine this host and explain each miss with its remedy")
    verb("sample-distribution", _sample_distribution, "make the sample distribution; print its path")
    for name, function, text in (
        ("lint", _lint, "check recipes: every violation with file and line"),
        ("plan", _plan, "print what recipes would build, as JSON"),
        ("matrix", _matrix, "print every variant of recipes as jobs for a CI system, as JSON"),
    ):
        sub = verb(name, function, text)
        (mirrored(sub) if function is _plan else sub).add_argument(
            "recipes",
            nargs="*",
            metavar="recipe",
            help="names or paths (default: every variant of every recipe)",
        )
    sub = verb("explain", _explain, "print every value of a recipe with the line that it comes from")
    mirrored(sub)
    sub.add_argument("recipe", help="a full name (sample-9, rhel-9-payg) or a path (mine.yaml:payg)")
    sub.add_argument("path", nargs="?", default="", help="a dotted path (disk.size_mib); default: everything")
    verb("schema", _schema, "write images/recipe.schema.json, which editors use")
    sub = verb(
        "diff", _diff, "print what differs between two recipes, locks or images (status 3 if anything)"
    )
    for name in ("before", "after"):
        sub.add_argument(name, help="a recipe's name or path, a .lock.yaml file, or the directory of a build")
    sub = mirrored(
        verb("lock", _lock, "pin the exact package set of a recipe, which its builds then install")
    )
    sub.add_argument("recipe", help="a full name (sample-9, rhel-9-payg) or a path (mine.yaml:payg)")
    choice = sub.add_mutually_exclusive_group()
    choice.add_argument(
        "--update",
        nargs="*",
        metavar="PACKAGE",
        help="renew these packages and what they pull, or, if none is named, all",
    )
    choice.add_argument(
        "--check", action="store_true", help="write nothing; fail when the repositories give other packages"
    )
    sub = verb("build", _build, "build a recipe's image")
    recipe(mirrored(sub))
    sub.add_argument(
        "--bootstrap",
        choices=("direct", "two-stage"),
        help="who installs the packages: this host's dnf, or the release's own rpm (default: by release)",
    )
    sub = verb("boot", _boot, "boot an image in QEMU (the image is not changed) and give a shell in it")
    sub.add_argument("image", help="a recipe's name (its newest image) or a VHD file")
    sub.add_argument("--firmware", choices=FIRMWARES, default="uefi")
    sub = verb("certify", _certify, "examine an image and issue its certificate; or only examine and judge")
    recipe(sub, nargs="?")
    other = sub.add_mutually_exclusive_group()
    other.add_argument(
        "--replay",
        type=Path,
        metavar="PATH",
        help="judge what was recorded of an image, without it: its evidence.jsonl or observations directory",
    )
    other.add_argument(
        "--hosts", nargs="+", metavar="URL", help="running machines: ssh://USER@HOST[:PORT][?identity=FILE]"
    )
    sub.add_argument(
        "--policy", action="append", metavar="NAME", help="with --replay and --hosts: judge by this policy"
    )
    sub.add_argument("--waivers", type=Path, metavar="FILE", help="with --policy: the waivers that hold")
    sub.add_argument("--out", type=Path, metavar="DIR", help="with --replay and --hosts: where reports go")
    sub.add_argument("--key", type=Path, help="with --replay: the public key of the certificate beside it")
    sub = verb("requirement", _requirement, "look at one requirement in the newest image of a recipe")
    sub.add_argument("requirement", help="the id of a requirement (azure.x86-64)")
    recipe(sub, nargs="?", default="sample-9")
    sub.add_argument("--every-view", action="store_true", help="not only in the quickest view that can tell")
    for name, function, text in (
        ("publish", _publish, "publish a certified image"),
        ("release", _release, "build, certify and publish a recipe, then write the catalog"),
    ):
        sub = verb(name, function, text)
        recipe(mirrored(sub) if function is _release else sub)
        sub.add_argument(
            "--destination",
            metavar="URL",
            help="azurite (default), azure://ACCOUNT/CONTAINER or file:///DIRECTORY",
        )
        if name == "publish":
            sub.add_argument(
                "--read-back",
                choices=("full", "sampled"),
                default="full",
                help="compare every byte with the file (default), or a sample of it",
            )
    sub = verb("gallery", _gallery, "offer a release that is in Azure in a Compute Gallery")
    recipe(sub)
    sub.add_argument("--gallery", required=True, metavar="SUBSCRIPTION/GROUP/NAME")
    sub.add_argument("--publisher", required=True, help="who offers it: the publisher of new definitions")
    sub.add_argument(
        "--region",
        action="append",
        default=[],
        metavar="NAME[=REPLICAS]",
        help="replicate to this region; may be given often (default: the gallery's own)",
    )
    sub.add_argument("--end-of-life", type=date.fromisoformat, metavar="YYYY-MM-DD")
    sub.add_argument(
        "--storage-account", metavar="ID", help="its resource id, if it is in another resource group"
    )
    sub.add_argument(
        "--managed-image", action="store_true", help="make managed images too, for ManageIQ and others"
    )
    for name, state, text in (
        ("promote", "released", "release a published image to its consumers: its certificate must be valid"),
        ("deprecate", "deprecated", "advise against a release for new machines"),
        ("withdraw", "withdrawn", "take a release back for good"),
    ):
        sub = verb(name, _state, text)
        recipe(sub)
        reason(sub)
        sub.set_defaults(state=state)
    sub = verb("rollback", _rollback, "go back to the release before the current one of a recipe")
    sub.add_argument("channel", help="the recipe's name")
    sub.add_argument("--to", metavar="X.Y.Z", help="the version to go back to")
    reason(sub)
    sub = verb("gc", _gc, "show what may be cleared away at a destination; delete it with --apply")
    sub.add_argument("--destination", metavar="URL", help="azurite (default) or azure://ACCOUNT/CONTAINER")
    sub.add_argument("--gallery", metavar="SUBSCRIPTION/GROUP/NAME", help="look into this gallery too")
    sub.add_argument("--apply", action="store_true", help="delete it")
    verb("catalog", _catalog, "write the catalog of every release")
    sub = verb(
        "verify", _verify, "check an image against its certificate: offline, with the public key alone"
    )
    sub.add_argument("image", type=Path)
    sub.add_argument("certificate", type=Path)
    sub.add_argument("--key", type=Path, help="the public key (default: this machine's own)")
    return top


if __name__ == "__main__":
    sys.exit(main())
