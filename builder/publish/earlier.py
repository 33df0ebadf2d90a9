"""What is known of a version from before: its record here, or else what its blob says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from azure.storage.blob import BlobClient

from builder import log
from builder.errors import HallmarkError
from builder.publish import tags
from builder.publish.parcel import (
    COMPLETE,
    already_published,
    look,
    must_not_be_withdrawn,
    state_in,
)
from builder.publish.release import Release, State, Transition
from builder.publish.storage import explained
from builder.recipe.model import Plan

__all__ = ["begun", "recorded", "told"]


def recorded(path: Path, plan: Plan, *, sha256: str) -> Release | None:
    """The record of an earlier run for the same bytes; None when nothing was recorded.

    It is never replaced by a new one: it may be all that knows of a withdrawal.

    :param sha256: of the image that is to be published.
    :raises HallmarkError: it can't be read, says that the version was withdrawn, or is of other bytes.
    """
    if not path.exists():
        return None
    found = Release.read(path)
    if found.state == "withdrawn":
        taken = found.history[-1]
        raise HallmarkError(
            f"{found.recipe} {found.version} was withdrawn on {taken.when:%Y-%m-%d} by {taken.who}",
            where=path,
            why=f"it must not come back under the same version: {taken.why}",
            hint="build a new version: hallmark build RECIPE --version X.Y.Z",
        )
    if found.image.sha256 != sha256:
        raise already_published(plan.recipe, plan.version, str(path), there=found.image.sha256, here=sha256)
    return found


def told(blob: BlobClient, plan: Plan) -> State | None:
    """The state that a finished blob of the release has by its own word; None when there is none.

    :raises HallmarkError: it was withdrawn, or the service is not reachable.
    """
    where = str(blob.url).partition("?")[0]
    with explained("look at the blob", where):
        found = look(blob)
    if found is None:
        return None
    must_not_be_withdrawn(found, recipe=plan.recipe, version=plan.version, where=where)
    return tags.channel(found.metadata or {}) if state_in(found) == COMPLETE else None


def begun(state: State, *, when: datetime, who: str, why: str) -> tuple[Transition, ...]:
    """The history of a release without a record: staged now, or already what its blob says."""
    staged = Transition(state="staged", when=when, who=who, why=why)
    if state == "staged":
        return (staged,)
    log.warn(f"there was no record of this release: its blob says that it is {state}")
    lost = f"the blob says so; there was no record of it on {when:%Y-%m-%d}"
    return (staged, Transition(state=state, when=when, who=who, why=lost))
