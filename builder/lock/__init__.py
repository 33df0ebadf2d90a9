"""Making, checking and updating locks; ``builder.recipe.lock`` is what a lock is."""

from __future__ import annotations
