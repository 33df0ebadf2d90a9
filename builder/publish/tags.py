"""The tags of everything that Hallmark makes in a cloud, so that it can be found again and cleared away.

Blob metadata and resource tags have the same names and values. What lacks them isn't ours: never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    # An upload needs the tags only; the models of plans are larger than all that it needs.
    from builder.recipe.model import Plan

__all__ = ["BUILD", "CHANNEL", "EXPIRES", "RECIPE", "VERSION", "State", "channel", "expiry", "of", "renewed"]

#: What a release is to its consumers; the record and the tags say it.
State = Literal["staged", "released", "deprecated", "withdrawn"]

RECIPE = "hallmark_recipe"
VERSION = "hallmark_version"
BUILD = "hallmark_build"
#: The release's state, as the destination knows it.
CHANNEL = "hallmark_channel"
#: The first day on which it may be cleared away, unless it is released; absent: never.
EXPIRES = "hallmark_expires"


def of(plan: Plan, *, state: State, expires: datetime) -> dict[str, str]:
    """The tags of a release; what is staged expires with its certificate: later it can't be released."""
    until = {EXPIRES: f"{expires:%Y-%m-%d}"} if state == "staged" else {}
    return {
        RECIPE: plan.recipe,
        VERSION: plan.version,
        BUILD: plan.digest()[:16],
        CHANNEL: state,
        **until,
    }


def channel(found: Mapping[str, str]) -> State | None:
    """The state in the tags; None when there is none that we know."""
    said = found.get(CHANNEL)
    return next((state for state in get_args(State) if state == said), None)


def renewed(found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str] | None:
    """All the tags of something that is there already, with the expiry of today's certificate; None if it has
    that.

    Only what is staged expires with its certificate; what was said of a release later stays as it is.
    """
    until = wanted.get(EXPIRES)
    if until is None or found.get(CHANNEL) != "staged" or found.get(EXPIRES) == until:
        return None
    return {**found, EXPIRES: until}


def expiry(found: Mapping[str, str]) -> date | None:
    """The day in the tags; None when there is none, or none that can be read."""
    try:
        return date.fromisoformat(found.get(EXPIRES, ""))
    except ValueError:
        return None
