"""``python -m certification.mutants [ID…]``: judge mutants of the latest image, print killed or survived."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.looks import ostree_claim_of
from builder.recipe import Plan
from builder.vm.acceleration import probe
from builder.workspace import Artefacts, Workspace
from certification import catalogue
from certification.model import OstreeClaim, View
from certification.mutants import engine, model

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Judge the mutants named in ``arguments``, or all; 1 when one survives."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description="Test the tests of images.")
    parser.add_argument("id", nargs="*", help="judge these mutants alone (default: all)")
    parser.add_argument("--image", type=Path, help="an undamaged VHD (default: the recipe's latest)")
    parser.add_argument("--recipe", default=os.environ.get("HALLMARK_RECIPE", model.DEFAULT_RECIPE))
    parser.add_argument("--keep", type=Path, help="keep each look's observations and evidence here")
    parser.add_argument(
        "--apart", action="store_true", help="a look for each mutant: strict, and takes hours"
    )
    options = parser.parse_args(arguments)
    try:
        return _judge(options)
    except HallmarkError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _judge(options: argparse.Namespace) -> int:
    mutants = model.load(catalogue.load()).of(options.recipe)
    unknown = sorted(set(options.id) - {mutant.id for mutant in mutants})
    if unknown:
        raise HallmarkError(
            f"{options.recipe} has no mutant {', '.join(unknown)}",
            where=model.MUTANTS,
            hint="with --recipe, those of another image are judged",
        )
    if not mutants:
        raise HallmarkError(f"{options.recipe} has no mutants", where=model.MUTANTS)
    chosen = [mutant for mutant in mutants if not options.id or mutant.id in options.id]
    space = Workspace.default()
    image, recorded = _subject(options, space)
    ostree = _claim(image)
    force_tcg = probe(cache=space.cache).force_tcg
    work = options.keep or Path(tempfile.mkdtemp(prefix="mutants-", dir=space.work))
    views: list[View] = sorted({mutant.view for mutant in chosen})
    try:
        good = {
            view: engine.baseline(
                view,
                image,
                work=work,
                force_tcg=force_tcg,
                recorded=recorded and recorded / view,
                ostree=ostree,
            )
            for view in views
        }
        findings = engine.examine(
            chosen, image, good=good, work=work, force_tcg=force_tcg, apart=options.apart, ostree=ostree
        )
    finally:
        if options.keep is None:
            shutil.rmtree(work, ignore_errors=True)
    verdicts = [verdict for finding in findings for verdict in finding.verdicts]
    width = max(len(verdict.mutant.id) for verdict in verdicts)
    for verdict in sorted(verdicts, key=lambda item: item.mutant.id):
        state = "killed" if verdict.killed else "SURVIVED"
        print(f"{verdict.mutant.id:{width}}  {state:8}  {verdict.reason or ', '.join(verdict.mutant.red)}")
    for line in (line for finding in findings for line in finding.strange):
        print(f"changed although no mutant may change it: {line}")
    killed = sum(verdict.killed for verdict in verdicts)
    log.info(f"{killed} of {len(verdicts)} mutants killed, in {len(findings)} looks at damaged copies")
    return 0 if all(finding.clean for finding in findings) else 1


def _subject(options: argparse.Namespace, space: Workspace) -> tuple[Path, Path | None]:
    if options.image is not None:
        return options.image, None
    latest = space.latest(options.recipe)
    if latest is None:
        raise HallmarkError(
            f"there is no image of {options.recipe}",
            where=space.build,
            hint=f"make one: ./ci/nox -s release -- {options.recipe}",
        )
    return latest.image, latest.root / "observations"


def _claim(image: Path) -> OstreeClaim | None:
    """What an ostree host is said to run by the plan that lies beside its image."""
    place = Artefacts(image.parent)
    if not place.plan.exists():
        return None
    return ostree_claim_of(place, Plan.model_validate_json(place.plan.read_bytes()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
