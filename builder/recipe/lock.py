"""Locks: the exact package set of a recipe, ``images/locks/<recipe>.lock.yaml``.

A lock is made by ``hallmark lock`` (``builder.lock``), kept beside the recipes, and honoured by every build.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from builder.errors import HallmarkError, Where
from builder.recipe.model import Plan
from builder.workspace import atomic_file, digest_json

__all__ = [
    "Lock",
    "LockedPackage",
    "inputs_digest",
    "load_lock",
    "lock_path",
    "of_plan",
    "save_lock",
]

_HEAD = "# Written by `hallmark lock {recipe}`, which also checks and updates it. Do not edit.\n"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LockedPackage(BaseModel):
    """One package of a lock.

    ``sha256`` is the digest of the whole .rpm file; ``repository`` the id of the repository that has it;
    ``key`` the id (16 hexadecimal digits, lower case) of the key that signed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    epoch: int = 0
    version: str
    release: str
    arch: str
    sha256: Sha256
    repository: str
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]

    @property
    def evr(self) -> str:
        """Epoch if it isn't 0, version and release."""
        return (
            f"{self.epoch}:{self.version}-{self.release}" if self.epoch else f"{self.version}-{self.release}"
        )

    @property
    def nevra(self) -> str:
        """Name, epoch if it isn't 0, version, release and architecture, as dnf writes them."""
        return f"{self.name}-{self.evr}.{self.arch}"


class Lock(BaseModel):
    """A lock file.

    ``inputs`` is the ``inputs_digest`` of the plan that it was made for, ``when`` the time it was written
    (UTC); ``ostree`` the commit (64 hexadecimal digits) of a recipe that is made from one. ``packages`` are
    sorted by name and architecture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    recipe: str
    when: datetime
    inputs: Sha256
    ostree: Sha256 | None = None
    packages: tuple[LockedPackage, ...]

    @model_validator(mode="after")
    def _each_once(self) -> Lock:
        seen: set[str] = set()
        for package in self.packages:
            if package.nevra in seen:
                raise ValueError(f"{package.nevra} is in it twice")
            seen.add(package.nevra)
        return self


def lock_path(images: Path, recipe: str) -> Path:
    """Where the lock of a recipe is, whether there is one or not."""
    return images / "locks" / f"{recipe}.lock.yaml"


def inputs_digest(plan: Plan) -> str:
    """A digest of what decides which packages belong to a plan: a lock made for another one is stale.

    Addresses of repositories don't count: a mirror has the same packages, which the lock's digests prove.
    """
    system = plan.ostree
    commit = {} if system is None or system.compose else {"ostree": [system.ref, system.fingerprint]}
    return digest_json(
        {
            **commit,
            "architecture": plan.architecture,
            "distribution": [plan.distribution.id, plan.distribution.release, plan.distribution.releasever],
            "install": sorted({request.name for request in plan.packages.install}),
            "exclude": sorted(set(plan.packages.exclude)),
            "repositories": sorted([item.id, item.fingerprint] for item in plan.repositories),
        }
    )


def load_lock(path: Path) -> Lock:
    """Read a lock file.

    :raises HallmarkError: it cannot be read, or is not a lock that this version of Hallmark understands.
    """
    try:
        data: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        return Lock.model_validate(data)
    except OSError as error:
        raise HallmarkError(f"cannot read the lock: {error.strerror}", where=path) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _damaged(path, "it is not YAML", line=mark.line + 1 if mark else 0) from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in problem["loc"])
        raise _damaged(path, f"{place}: {problem['msg']}" if place else problem["msg"]) from None


def save_lock(lock: Lock, path: Path) -> None:
    """Write a lock file: one line a package, so that a change of one shows as one."""
    data = lock.model_dump(mode="json")
    data["packages"] = [
        item.model_dump(exclude={"epoch"} if not item.epoch else None) for item in lock.packages
    ]
    text = yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False, default_flow_style=None, width=10_000)
    with atomic_file(path) as temporary:
        temporary.write_text(_HEAD.format(recipe=lock.recipe) + text, encoding="utf-8")


def of_plan(plan: Plan, images: Path) -> Lock | None:
    """The lock that a build of this plan must honour; None when the recipe has none.

    :raises HallmarkError: the recipe asks for other packages than when the lock was made.
    """
    path = lock_path(images, plan.recipe)
    if not path.is_file():
        return None
    lock = load_lock(path)
    if lock.recipe != plan.recipe:
        raise _damaged(path, f"it is the lock of {lock.recipe}, not of {plan.recipe}")
    if lock.inputs == inputs_digest(plan):
        return lock
    held = {package.name for package in lock.packages}
    asked = [request for request in plan.packages.install if not set(request.name) & set("@*?[")]
    raise HallmarkError(
        f"the lock of {plan.recipe} is stale: the recipe's packages, repositories or release changed since",
        where=path,
        why="a locked build installs what the lock says, and that is no longer what the recipe asks for",
        hint=f"run `hallmark lock {plan.recipe}`: it keeps what it can; `--update` takes everything anew"
        + ("; or leave out the mirrors file, which changes the recipe" if plan.substitutions else ""),
        details=[f"not in the lock: {item.name} ({item.where})" for item in asked if item.name not in held][
            :10
        ],
    )


def _damaged(path: Path, problem: str, *, line: int = 0) -> HallmarkError:
    return HallmarkError(
        f"this is not a lock that can be used: {problem}",
        where=Where(path, line),
        why="nobody can tell which packages it means",
        hint="take it back from version control, or delete it and run `hallmark lock`",
    )
