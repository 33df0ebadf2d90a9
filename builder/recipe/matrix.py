"""Recipes as the jobs of a CI system."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict

from builder.recipe.load import Recipe
from builder.recipe.model import Generation, Plan
from builder.recipe.support import SupportEnd, ends_of

__all__ = ["Job", "matrix"]

_SOON_DAYS = 90


class Job(BaseModel):
    """One image to build.

    ``name`` is what the other verbs take, ``recipe`` the product line, ``variant`` the value on each axis.
    ``processor`` is the least that an x86_64 runner must have. ``eol`` is ``supported``, ``ending`` (within
    90 days) or ``ended``; ``support`` tells of what, the earliest end first. ``also`` are further variants
    that are the same image under another name and need no job of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    recipe: str
    title: str
    variant: dict[str, str]
    kind: Literal["packages", "ostree", "container"]
    distribution: str
    release: str
    architecture: str
    processor: str | None
    generations: tuple[Generation, ...]
    outputs: tuple[str, ...]
    licence: str
    visibility: str
    policies: tuple[str, ...]
    targets: tuple[str, ...]
    eol: Literal["supported", "ending", "ended"]
    support: tuple[SupportEnd, ...]
    also: tuple[str, ...] = ()


def matrix(drafts: Iterable[tuple[Recipe, Plan]], *, today: date) -> list[Job]:
    """One job for every image, in the order of the drafts.

    :param today: the day that ends of support are compared with.
    """
    jobs: dict[str, Job] = {}
    for recipe, plan in drafts:
        content = plan.content_digest()
        known = jobs.get(content)
        if known is None:
            jobs[content] = _job(recipe, plan, today)
        elif recipe.name not in (known.name, *known.also):
            jobs[content] = known.model_copy(update={"also": (*known.also, recipe.name)})
    return list(jobs.values())


def _job(recipe: Recipe, plan: Plan, today: date) -> Job:
    support = ends_of(
        distribution=plan.distribution.id,
        name=plan.distribution.name,
        release=plan.distribution.release,
        channels=tuple(runtime.channel for runtime in plan.dotnet),
    )
    left = min(((item.ends - today).days for item in support), default=_SOON_DAYS)
    return Job(
        name=recipe.name,
        recipe=recipe.family,
        title=recipe.title,
        variant=dict(recipe.values),
        kind="ostree" if plan.ostree else "container" if plan.container else "packages",
        distribution=plan.distribution.id,
        release=plan.distribution.release,
        architecture=plan.architecture,
        processor=plan.processor,
        generations=plan.disk.generations,
        outputs=plan.outputs,
        licence=plan.licence,
        visibility=plan.visibility,
        policies=plan.certification.policies,
        targets=plan.certification.targets,
        eol="ended" if left < 0 else "ending" if left < _SOON_DAYS else "supported",
        support=support,
    )
