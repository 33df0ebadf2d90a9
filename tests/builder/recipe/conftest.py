"""Fixtures for the tests of recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recipe_tree import RecipeTree

from builder.recipe import RecipeError, Violation, load


@pytest.fixture
def tree(tmp_path: Path) -> RecipeTree:
    return RecipeTree(tmp_path)


@pytest.fixture
def violations(tree: RecipeTree) -> Callable[[Path], tuple[Violation, ...]]:
    def run(path: Path) -> tuple[Violation, ...]:
        with pytest.raises(RecipeError) as caught:
            load(path)
        return caught.value.violations

    return run
