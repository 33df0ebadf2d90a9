"""The verbs that only look at recipes: lint, plan, explain, schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from builder import log
from builder.errors import HallmarkError
from builder.recipe import schema
from builder.recipe.explain import explain
from builder.recipe.lint import lint
from builder.recipe.load import Recipe, find, load, names
from builder.recipe.model import Plan
from builder.recipe.resolve import plan

__all__ = ["explain_command", "lint_command", "plan_command", "schema_command"]


def lint_command(recipes: Sequence[str]) -> int:
    """Check recipes (all of them if none is named) and print every finding; 1 if one is an error."""
    today = datetime.now(UTC).date()
    bad = False
    for name in recipes or names():
        try:
            recipe, draft = _draft(name)
        except HallmarkError as error:
            log.event("lint", recipe=name, error=str(error))
            print(error)
            bad = True
            continue
        findings = lint(recipe, draft, today=today)
        for finding in findings:
            log.event("finding", recipe=name, code=finding.code, level=finding.level, message=str(finding))
            print(finding)
        errors = sum(finding.level == "error" for finding in findings)
        bad = bad or errors > 0
        print(f"{recipe.name}: {errors} errors, {len(findings) - errors} warnings", file=sys.stderr)
    return 1 if bad else 0


def plan_command(recipes: Sequence[str]) -> int:
    """Print the plans of recipes (all of them if none is named) as one JSON object by name."""
    plans = {draft.recipe: draft.model_dump(mode="json") for _, draft in map(_draft, recipes or names())}
    print(json.dumps(plans, indent=2, ensure_ascii=False))
    return 0


def explain_command(name: str, path: str = "") -> int:
    """Print every effective value of a recipe, at or below a dotted path, with where it comes from."""
    for item in explain(load(find(name)), path):
        print(item)
    return 0


def schema_command() -> int:
    """Write ``images/recipe.schema.json``."""
    log.info(f"wrote {schema.write()}")
    return 0


def _draft(name: str) -> tuple[Recipe, Plan]:
    """The plan that a build started today would begin with."""
    recipe = load(find(name))
    now = datetime.now(UTC)
    major = recipe.context.release.partition(".")[0]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    version = f"{major}.{now:%Y%m%d}.0"
    return recipe, plan(recipe, version=version, source_date_epoch=int(midnight.timestamp()))
