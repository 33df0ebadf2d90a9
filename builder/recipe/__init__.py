"""Recipes: load, merge, check, plan. Nothing here needs root or the network."""

from __future__ import annotations

from builder.recipe.lint import Finding, lint, refuse
from builder.recipe.load import Recipe, Reference, expand, find, load, name_of, names
from builder.recipe.mirrors import substitute, tell
from builder.recipe.model import Plan
from builder.recipe.resolve import plan
from builder.recipe.violations import RecipeError, Violation

__all__ = [
    "Finding",
    "Plan",
    "Recipe",
    "RecipeError",
    "Reference",
    "Violation",
    "expand",
    "find",
    "lint",
    "load",
    "name_of",
    "names",
    "plan",
    "refuse",
    "substitute",
    "tell",
]
