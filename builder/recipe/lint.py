"""What is allowed by the language and still wrong: rules with stable codes.

An ``error`` stops a build, a ``warning`` doesn't. Each rule is one function that looks at a plan and yields
findings; ``images/LINT.md`` has a good and a bad example of every code, which the tests run.
"""

from __future__ import annotations

from datetime import date

from builder.recipe.findings import Finding, Subject
from builder.recipe.load import Recipe
from builder.recipe.model import Plan
from builder.recipe.rules import RULES
from builder.recipe.violations import RecipeError, Violation

__all__ = ["RULES", "Finding", "lint", "refuse"]


def lint(recipe: Recipe, plan: Plan, *, today: date) -> list[Finding]:
    """Every finding of every rule, in the order of places.

    :param today: the day that ends of support are compared with.
    """
    subject = Subject(recipe, plan, today)
    found = {finding for rule in RULES for finding in rule(subject)}
    return sorted(found, key=lambda item: (str(item.where.path), item.where.line, item.code, item.what))


def refuse(recipe: Recipe, plan: Plan, *, today: date) -> None:
    """Stop a build that would be wrong; warnings don't.

    :raises RecipeError: with every finding that is an error.
    """
    errors = [
        Violation(item.code, item.where, item.what, item.why, item.fix)
        for item in lint(recipe, plan, today=today)
        if item.level == "error"
    ]
    if errors:
        raise RecipeError(recipe.name, errors)
