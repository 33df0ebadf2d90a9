"""The grammar of the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from builder import verbs
from builder.recipe.mirrors import SETTING
from builder.vm.firmware import FIRMWARES
from builder.workspace import Workspace

__all__ = ["Verb", "parser"]

Verb = Callable[[argparse.Namespace, Workspace], int]


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
    group = top.add_subparsers(title="verbs", required=True, metavar="VERB")

    def verb(name: str, function: Verb, text: str) -> argparse.ArgumentParser:
        sub = group.add_parser(name, help=text, description=text, parents=[common])
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

    verb("doctor", verbs.doctor, "examine this host and explain each miss with its remedy")
    verb("sample-distribution", verbs.sample_distribution, "make the sample distribution; print its path")
    for name, function, text in (
        ("lint", verbs.lint, "check recipes: every violation with file and line"),
        ("plan", verbs.plan, "print what recipes would build, as JSON"),
        ("matrix", verbs.matrix, "print every variant of recipes as jobs for a CI system, as JSON"),
    ):
        sub = verb(name, function, text)
        (mirrored(sub) if function is verbs.plan else sub).add_argument(
            "recipes",
            nargs="*",
            metavar="recipe",
            help="names or paths (default: every variant of every recipe)",
        )
    sub = verb("explain", verbs.explain, "print every value of a recipe with the line that it comes from")
    mirrored(sub)
    sub.add_argument(
        "recipe", nargs="?", help="a full name or a path (mine.yaml:payg); default: every variant of all"
    )
    sub.add_argument("path", nargs="?", help="a dotted path (disk.size_mib); default: everything")
    verb("schema", verbs.schema, "write images/recipe.schema.json, which editors use")
    sub = verb(
        "diff", verbs.diff, "print what differs between two recipes, locks or images (status 3 if anything)"
    )
    for name in ("before", "after"):
        sub.add_argument(name, help="a recipe's name or path, a .lock.yaml file, or the directory of a build")
    sub = mirrored(
        verb("lock", verbs.lock, "pin the exact package set of a recipe, which its builds then install")
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
    sub = verb("build", verbs.build, "build a recipe's image")
    recipe(mirrored(sub))
    sub.add_argument(
        "--bootstrap",
        choices=("direct", "two-stage"),
        help="who installs the packages: this host's dnf, or the release's own rpm (default: by release)",
    )
    sub = verb("boot", verbs.boot, "boot an image in QEMU (the image is not changed) and give a shell in it")
    sub.add_argument("image", help="a recipe's name (its newest image) or a VHD file")
    sub.add_argument("--firmware", choices=FIRMWARES, default="uefi")
    sub = verb("certify", verbs.certify, "examine images and certify them; or only examine and judge")
    sub.add_argument(
        "recipes",
        nargs="*",
        metavar="recipe",
        help="full names (sample-9, rhel-9-payg) or paths (mine.yaml:payg); several share this host's looks",
    )
    sub.add_argument("--version", metavar="X.Y.Z", help="of one recipe: not its newest image")
    other = sub.add_mutually_exclusive_group()
    other.add_argument(
        "--replay",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="judge what was recorded of images, without them: an evidence.jsonl or observations directory",
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
    sub = verb("requirement", verbs.requirement, "look at one requirement in the newest image of a recipe")
    sub.add_argument("requirement", help="the id of a requirement (azure.x86-64)")
    recipe(sub, nargs="?", default="sample-9")
    sub.add_argument("--every-view", action="store_true", help="not only in the quickest view that can tell")
    for name, function, text in (
        ("publish", verbs.publish, "publish a certified image"),
        ("release", verbs.release, "build, certify and publish a recipe, then write the catalog"),
    ):
        sub = verb(name, function, text)
        recipe(mirrored(sub) if function is verbs.release else sub)
        sub.add_argument(
            "--destination",
            metavar="URL",
            help="azurite (default), azure://ACCOUNT/CONTAINER, file:///DIRECTORY or oci://HOST/NAMESPACE",
        )
        if name == "publish":
            sub.add_argument(
                "--read-back",
                choices=("full", "sampled"),
                default="full",
                help="compare every byte with the file (default), or a sample of it",
            )
    sub = verb("gallery", verbs.gallery, "offer a release that is in Azure in a Compute Gallery")
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
        "--managed-images",
        action="store_true",
        help="also make a managed image in each region, for ManageIQ and others",
    )
    for name, state, text in (
        ("promote", "released", "release a published image to its consumers: its certificate must be valid"),
        ("deprecate", "deprecated", "advise against a release for new machines"),
        ("withdraw", "withdrawn", "take a release back for good"),
    ):
        sub = verb(name, verbs.state, text)
        recipe(sub)
        reason(sub)
        sub.set_defaults(state=state)
    sub = verb("rollback", verbs.rollback, "go back to the release before the current one of a recipe")
    sub.add_argument("channel", help="the recipe's name")
    sub.add_argument("--to", metavar="X.Y.Z", help="the version to go back to")
    reason(sub)
    sub = verb("gc", verbs.gc, "show what may be cleared away at a destination; delete it with --apply")
    sub.add_argument("--destination", metavar="URL", help="azurite (default) or azure://ACCOUNT/CONTAINER")
    sub.add_argument("--gallery", metavar="SUBSCRIPTION/GROUP/NAME", help="look into this gallery too")
    sub.add_argument("--apply", action="store_true", help="delete it")
    verb("catalog", verbs.catalog, "write the catalog of every release")
    sub = verb(
        "verify", verbs.verify, "check an image against its certificate: offline, with the public key alone"
    )
    sub.add_argument("image", type=Path)
    sub.add_argument("certificate", type=Path)
    sub.add_argument("--key", type=Path, help="the public key (default: this machine's own)")
    return top
