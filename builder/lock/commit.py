"""The lock of a recipe that takes an ostree commit: which one."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.ostree.fetch import newest
from builder.ostree.stages import public_key
from builder.recipe import Plan
from builder.recipe.lock import Lock, inputs_digest, load_lock, lock_path, save_lock
from builder.workspace import Workspace

__all__ = ["lock_commit"]


def lock_commit(workspace: Workspace, plan: Plan, images: Path, *, update: bool, check: bool) -> int:
    """Make, check or renew the lock; what is locked stays unless ``update``.

    :returns: the exit status: 1 when ``check`` found that the repository has another commit.
    :raises HallmarkError: there is no lock to check, or the commit can't be found or isn't signed as pinned.
    """
    path = lock_path(images, plan.recipe)
    old = load_lock(path) if path.is_file() else None
    inputs = inputs_digest(plan)
    if check and old is None:
        raise HallmarkError(
            f"{plan.recipe} has no lock", where=path, hint=f"make one: `hallmark lock {plan.recipe}`"
        )
    if old is not None and not update and not check and old.inputs == inputs:
        log.info(f"{path} fits the recipe; `--update` takes the newest commit")
        return 0
    work = workspace.work / f"{plan.recipe}-lock"
    with workspace.lock(plan.recipe):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            with log.step("look for the commit"):
                found = newest(plan, key=public_key(plan, images), work=work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    locked = old.ostree if old is not None else None
    if check:
        if locked == found.checksum:
            log.info(f"the repository's newest commit is the lock's, {found.checksum[:12]}")
            return 0
        log.warn(f"the repository has {found.checksum[:12]}, version {found.version or 'unknown'}")
        return 1
    if locked != found.checksum or old is None or old.inputs != inputs:
        when = datetime.now(UTC).replace(microsecond=0)
        lock = Lock(recipe=plan.recipe, when=when, inputs=inputs, ostree=found.checksum, packages=())
        save_lock(lock, path)
        log.info(f"wrote {path}: commit {found.checksum[:12]}, version {found.version or 'unknown'}")
    return 0
