"""The verbs that only look at recipes: lint, plan, explain, matrix, schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.recipe import schema
from builder.recipe.explain import explain
from builder.recipe.lint import Finding, lint
from builder.recipe.load import Recipe, Reference, expand, find, load, names
from builder.recipe.matrix import Job, matrix
from builder.recipe.mirrors import substitute, tell
from builder.recipe.model import Plan
from builder.recipe.resolve import plan
from builder.recipe.violations import RecipeError, Violation

__all__ = ["explain_command", "lint_command", "matrix_command", "plan_command", "schema_command"]


def lint_command(recipes: Sequence[str]) -> int:
    """Check every variant of recipes (all of them if none is named), print every violation and finding; 1 if
    one is an error.
    """
    today = datetime.now(UTC).date()
    return 1 if [name for name in recipes or names() if not _lint(name, today)] else 0


def _lint(name: str, today: date) -> bool:
    """Check one recipe; False if something is wrong."""
    wrong: dict[Violation, None] = {}
    found: dict[Finding, list[str]] = {}
    count = 0
    try:
        references = expand(find(name))
        count = len(references)
        for reference in references:
            try:
                recipe, draft = _draft(reference)
            except RecipeError as error:
                wrong |= dict.fromkeys(error.violations)
                continue
            for finding in lint(recipe, draft, today=today):
                found.setdefault(finding, []).append(recipe.name)
    except RecipeError as error:
        wrong |= dict.fromkeys(error.violations)
    except HallmarkError as error:
        log.result(error, kind="lint", recipe=name, error=str(error))
        return False
    for violation in wrong:
        _tell(name, violation, "error", str(violation), [])
    for finding, where in found.items():
        everywhere = wrong or len(where) == count
        text = str(finding) if everywhere else f"{finding} [{', '.join(where)}]"
        _tell(name, finding, finding.level, text, where)
    errors = len(wrong) + sum(finding.level == "error" for finding in found)
    several = f", {count} variants" if count > 1 else ""
    print(f"{name}: {errors} errors, {len(wrong) + len(found) - errors} warnings{several}", file=sys.stderr)
    return not errors


def _tell(name: str, item: Violation | Finding, level: str, text: str, variants: list[str]) -> None:
    log.result(
        text,
        kind="finding",
        recipe=name,
        variants=variants,
        code=item.code,
        level=level,
        file=str(item.where.path),
        line=item.where.line,
        column=item.where.column,
        what=item.what,
        why=item.why,
        fix=item.fix,
    )


def plan_command(recipes: Sequence[str], mirrors: Path | None = None) -> int:
    """Print the plans of recipes (every variant of all of them if none is named) as one JSON object by full
    name.

    :param mirrors: a mirrors file: every substitution is printed beside the plan.
    """
    references = [find(name) for name in recipes] or _everything()
    plans = {}
    for reference in references:
        _, draft = _draft(reference, mirrors)
        plans[draft.recipe] = draft.model_dump(mode="json")
        tell(draft)
    print(json.dumps(plans, indent=2, ensure_ascii=False))
    return 0


def explain_command(name: str | None, path: str = "", mirrors: Path | None = None) -> int:
    """Print every effective value of a recipe (of every variant of all of them if none is named), at or below
    a dotted path, with where it comes from.
    """
    for reference in [find(name)] if name else _everything():
        recipe = substitute(load(reference), mirrors)
        if not name:
            log.result(f"# {recipe.name}", kind="recipe", recipe=recipe.name)
        for item in explain(recipe, path):
            log.result(
                item,
                kind="value",
                recipe=recipe.name,
                path=item.path,
                value=item.value,
                where=str(item.where),
                overrode=[{"value": value, "where": str(where)} for value, where in item.overrode],
            )
    return 0


def matrix_command(recipes: Sequence[str]) -> int:
    """Print every variant of recipes (all of them if none is named) as the jobs of a CI system: one JSON
    object with ``include``, as GitHub Actions reads it.
    """
    references = [item for name in recipes for item in expand(find(name))] or _everything()
    jobs: list[Job] = matrix(map(_draft, references), today=datetime.now(UTC).date())
    print(
        json.dumps({"include": [job.model_dump(mode="json") for job in jobs]}, indent=2, ensure_ascii=False)
    )
    return 0


def schema_command() -> int:
    """Write ``images/recipe.schema.json``."""
    log.info(f"wrote {schema.write()}")
    return 0


def _everything() -> list[Reference]:
    return [reference for name in names() for reference in expand(find(name))]


def _draft(reference: Reference, mirrors: Path | None = None) -> tuple[Recipe, Plan]:
    """The plan that a build started today would begin with."""
    recipe = substitute(load(reference), mirrors)
    now = datetime.now(UTC)
    major = recipe.context.release.partition(".")[0]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    version = f"{major}.{now:%Y%m%d}.0"
    return recipe, plan(recipe, version=version, source_date_epoch=int(midnight.timestamp()))
