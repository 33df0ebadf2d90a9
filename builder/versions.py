"""Which version a build gets: ``MAJOR.YYYYMMDD.N``.

The same inputs find their version again, so that an interrupted run goes on and an unchanged one has nothing
to do. What repositories have is an input, too: a digest, a lock or a commit says what that is, or else the
day. Anything else gets a new number: a version that was published is never built twice.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

from builder.errors import HallmarkError
from builder.recipe.lock import Lock
from builder.recipe.model import Plan
from builder.workspace import Artefacts, Workspace, atomic_file

__all__ = ["VERSION", "begun", "choose", "day_taken", "epoch_of", "newest", "parse"]

VERSION = re.compile(r"^(?P<major>[0-9]+)\.(?P<date>[0-9]{8})\.(?P<n>[0-9]+)$")
_MARK = "inputs"
#: The format: reproducible-builds.org, SOURCE_DATE_EPOCH. Ten digits reach beyond what a filesystem holds.
_SECONDS = re.compile(r"[0-9]{1,10}\Z")


def parse(version: str) -> tuple[int, int, int]:
    """The three numbers of a version, in the order in which versions sort.

    :raises HallmarkError: the text is not ``MAJOR.YYYYMMDD.N``.
    """
    match = VERSION.match(version)
    if match is None:
        raise HallmarkError(
            f"{version!r} is not a version",
            why="a Compute Gallery accepts three whole numbers only, and consumers sort by them",
            hint="write it as MAJOR.YYYYMMDD.N, for example 9.20261122.0",
        )
    return int(match["major"]), int(match["date"]), int(match["n"])


def epoch_of(version: str) -> int:
    """The time that every file of a version gets: SOURCE_DATE_EPOCH, or midnight (UTC) of its date.

    :raises HallmarkError: either isn't a time.
    """
    override = os.environ.get("SOURCE_DATE_EPOCH")
    if override:
        if not _SECONDS.match(override):
            raise HallmarkError(
                f"SOURCE_DATE_EPOCH is {override!r}",
                why="it is the time that every file of the image gets",
                hint="set it to whole seconds since 1970-01-01 UTC, or unset it",
            )
        return int(override)
    date = str(parse(version)[1])
    try:
        return int(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise HallmarkError(f"{date} in version {version} is not a date", hint="use YYYYMMDD") from None


def begun(workspace: Workspace, recipe: str) -> list[Artefacts]:
    """Every version of a recipe that was begun, finished or not, the newest first."""
    places = [path for path in (workspace.build / recipe).glob("*") if VERSION.match(path.name)]
    places = [path for path in places if path.is_dir() and not path.is_symlink()]
    return [Artefacts(path) for path in sorted(places, key=lambda path: parse(path.name), reverse=True)]


def newest(workspace: Workspace, recipe: str) -> Artefacts | None:
    """The newest version of a recipe that was begun, finished or not."""
    return next(iter(begun(workspace, recipe)), None)


def day_taken(plan: Plan, lock: Lock | None, *, now: datetime) -> str:
    """The day (UTC, YYYY-MM-DD) on which a build takes what it is made of; "" where any day gives the same.

    A lock, the recipe's commit, or the digest of the embedded repository says what that is. Else it is
    whatever the repositories have, security updates included, and nobody knows before they were asked.
    """
    if lock is not None:
        return ""
    if plan.ostree is not None and not plan.composed:
        known = plan.ostree.commit is not None
    else:
        known = all(repository.embedded is not None for repository in plan.repositories)
    return "" if known else now.strftime("%Y-%m-%d")


def choose(
    workspace: Workspace,
    recipe: str,
    *,
    major: int,
    inputs: str,
    wanted: str | None = None,
    fresh: bool = False,
) -> Artefacts:
    """The place of the version for these inputs; it is made and marked with them.

    :param inputs: the digest of everything that decides what the image holds.
    :param wanted: a version that the user insists on.
    :param fresh: a new number, also where the last version has these inputs.
    :raises HallmarkError: the wanted version was published with other inputs.
    """
    if wanted is not None:
        parse(wanted)
        place = workspace.artefacts(recipe, wanted)
        if _published(place) and _inputs(place) != inputs:
            raise HallmarkError(
                f"version {wanted} of {recipe} is published and its inputs have changed since",
                why="a published version must always mean the same bytes",
                hint="leave --version out: the next number is taken",
            )
        return _mark(place, inputs)
    last = newest(workspace, recipe)
    if last is not None and _inputs(last) == inputs and not fresh:
        return last
    date = int(datetime.now(UTC).strftime("%Y%m%d"))
    number = 0
    if last is not None and parse(last.root.name)[1] >= date:
        _, date, number = parse(last.root.name)
        number += 1
    return _mark(workspace.artefacts(recipe, f"{major}.{date}.{number}"), inputs)


def _published(place: Artefacts) -> bool:
    return place.release.exists()


def _inputs(place: Artefacts) -> str | None:
    mark = place.stages / _MARK
    return mark.read_text() if mark.exists() else None


def _mark(place: Artefacts, inputs: str) -> Artefacts:
    for directory in (place.root, place.stages, place.log):
        _make(directory)
    with atomic_file(place.stages / _MARK) as temporary:
        temporary.write_text(inputs)
    return place


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HallmarkError(f"cannot make the directory: {error.strerror}", where=directory) from None
