"""``hallmark lock``: make, check and update the lock of a recipe."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.lock import drift
from builder.lock.commit import lock_commit
from builder.lock.resolve import resolve
from builder.pipeline import Pipeline
from builder.recipe import Plan
from builder.recipe.lock import (
    Lock,
    LockedPackage,
    inputs_digest,
    load_lock,
    lock_path,
    of_plan,
    save_lock,
)
from builder.recipe.violations import did_you_mean
from builder.workspace import Workspace

__all__ = ["lock_command"]


def lock_command(
    workspace: Workspace,
    recipe: str,
    *,
    update: Sequence[str] | None = None,
    check: bool = False,
    mirrors: Path | None = None,
) -> int:
    """Make or change the lock of a recipe, or say how the repositories differ from it.

    Without ``update`` and ``check``, what is locked stays, and only what the recipe newly asks for is added.

    :param update: names and globs of packages to renew with what they pull; an empty list renews everything.
    :param mirrors: a mirrors file: where this site keeps what the recipe asks for.
    :param check: write nothing; the value is 1 when the repositories would give another package set.
    :raises HallmarkError: there is no lock to check, it is stale, or the repositories can't be resolved.
    """
    pipeline = Pipeline(workspace, recipe, mirrors=mirrors)
    loaded, plan = pipeline.draft()
    images = loaded.root
    path = lock_path(images, plan.recipe)
    if plan.ostree is not None and not plan.composed:
        return lock_commit(workspace, plan, images, update=update is not None, check=check)
    if check:
        lock = of_plan(plan, images)
        if lock is None:
            raise HallmarkError(
                f"{plan.recipe} has no lock", where=path, hint=f"make one: `hallmark lock {plan.recipe}`"
            )
        return _report(lock, _resolve(pipeline, plan, images, keep=None, free=frozenset()))
    everything = update is not None and not update
    old = load_lock(path) if path.is_file() and not everything else None
    if update and old is None:
        raise HallmarkError(
            f"{plan.recipe} has no lock that could be updated",
            where=path,
            hint=f"`hallmark lock {plan.recipe}`",
        )
    if old is not None and update is None and old.inputs == inputs_digest(plan):
        log.info(f"{path} fits the recipe; `--update` takes newer packages")
        return 0
    free = _names(old, update or ()) if old else frozenset()
    packages = _resolve(pipeline, plan, images, keep=old.packages if old else None, free=free)
    if old is not None:
        _refuse_disguises(old, packages, free=free)
    _write(plan, packages, path)
    return 0


def _resolve(
    pipeline: Pipeline,
    plan: Plan,
    images: Path,
    *,
    keep: Sequence[LockedPackage] | None,
    free: frozenset[str],
) -> tuple[LockedPackage, ...]:
    workspace = pipeline.workspace
    work = workspace.work / f"{plan.recipe}-lock"
    with workspace.lock(plan.recipe):
        repositories = pipeline.repositories(plan, images=images)
        # What a killed run left: plain files, for nothing is mounted here.
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            with log.step("resolve packages") as step:
                packages = resolve(
                    plan,
                    repositories,
                    work=work,
                    log_file=workspace.work / f"{plan.recipe}-lock.log",
                    cache=workspace.cache / "dnf",
                    keep=keep,
                    free=free,
                )
                step.note = f"{len(packages)} packages"
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return packages


def _refuse_disguises(old: Lock, packages: Sequence[LockedPackage], *, free: frozenset[str]) -> None:
    """Nobody asked for these to change, and their names say that they did not.

    :raises HallmarkError: a package that should stay has another digest under its old name.
    """
    kept = [package for package in old.packages if package.name not in free]
    moves = [move for move in drift.compare(kept, packages) if move.kind == "digest differs"]
    if moves:
        raise HallmarkError(
            f"locked packages of {old.recipe} changed under their old names: {len(moves)}",
            why="whoever may publish there changed them without saying so; the lock was not written",
            hint="find out why; to accept them, name them after `--update`",
            details=drift.table(moves),
        )


def _report(lock: Lock, packages: Sequence[LockedPackage]) -> int:
    """Say how the repositories differ from the lock; the exit status for CI."""
    moves = _tell(lock.packages, packages)
    if not moves:
        log.info(f"the repositories give exactly the {len(lock.packages)} packages of the lock")
        return 0
    log.warn(f"{len(moves)} packages moved; to accept that: hallmark lock {lock.recipe} --update")
    return 1


def _tell(before: Sequence[LockedPackage], after: Sequence[LockedPackage]) -> tuple[drift.Move, ...]:
    moves = drift.compare(before, after)
    for move in moves:
        log.event("drift", move=move.kind, package=move.package, locked=move.locked, now=move.now)
    if moves:
        log.console.print("\n".join(drift.table(moves)), markup=False)
    return moves


def _write(plan: Plan, packages: tuple[LockedPackage, ...], path: Path) -> None:
    """Write the lock unless it says the same already: its digest is part of every build's inputs."""
    inputs = inputs_digest(plan)
    before = load_lock(path) if path.is_file() else None
    if before is not None:
        _tell(before.packages, packages)
        if (before.inputs, before.packages) == (inputs, packages):
            log.info(f"{path} is up to date: {len(packages)} packages")
            return
    when = datetime.now(UTC).replace(microsecond=0)
    save_lock(Lock(recipe=plan.recipe, when=when, inputs=inputs, packages=packages), path)
    log.info(f"wrote {path}: {len(packages)} packages")


def _names(lock: Lock, patterns: Sequence[str]) -> frozenset[str]:
    """The names of locked packages that the patterns mean.

    :raises HallmarkError: a pattern means none.
    """
    held = sorted({package.name for package in lock.packages})
    found: set[str] = set()
    for pattern in patterns:
        matching = fnmatch.filter(held, pattern)
        if not matching:
            raise HallmarkError(
                f"the lock of {lock.recipe} has no package {pattern!r}",
                hint=did_you_mean(pattern, held)
                or "name a package of the lock; what the recipe newly asks for is "
                f"added by `hallmark lock {lock.recipe}`",
            )
        found |= set(matching)
    return frozenset(found)
