"""Recipes: load, merge, check, plan. Nothing here needs root or the network."""

from __future__ import annotations

from builder.recipe.lint import Finding, lint
from builder.recipe.load import Recipe, find, load, names
from builder.recipe.model import Plan
from builder.recipe.resolve import plan
from builder.recipe.violations import RecipeError, Violation

__all__ = ["Finding", "Plan", "Recipe", "RecipeError", "Violation", "find", "lint", "load", "names", "plan"]
