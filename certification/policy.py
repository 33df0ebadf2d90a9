"""Policies: which requirements an image is judged by, and how severe each is.

A recipe names its policies. What any of them selects is judged; the highest severity that one gives counts.
Where sources contradict each other, the policy's ``decisions`` say which one it follows, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from builder.errors import HallmarkError
from builder.workspace import digest_file
from certification.catalogue import Catalogue, load_yaml
from certification.model import Model, Severity

__all__ = ["POLICIES", "Decision", "Policy", "Selected", "load", "optional", "select"]

POLICIES = Path(__file__).resolve().parent / "policies"
_RANK: Mapping[Severity, int] = {"info": 0, "should": 1, "must": 2}


class Selector(Model):
    """Requirements by area and severity, by exact id, or by the start of the id; the conditions add up."""

    areas: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ("must", "should", "info")


class Override(Model):
    """Another severity than the catalogue's, and why."""

    severity: Severity
    reason: str = Field(min_length=20)


class Decision(Model):
    """How the policy settles a conflict between sources."""

    conflict: str
    decision: str
    reason: str = Field(min_length=20)


class Policy(Model):
    """One file of ``policies/``. ``exclude`` maps an id to the reason why it isn't part of this policy.

    ``digest`` is the file's SHA-256.
    """

    name: str
    version: int = Field(ge=1)
    title: str
    summary: str
    select: tuple[Selector, ...] = Field(min_length=1)
    exclude: Mapping[str, str] = {}
    severity: Mapping[str, Override] = {}
    decisions: tuple[Decision, ...] = ()
    # Of the file, by whoever reads it: never from the file itself.
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Selected:
    """The requirements to judge: severity and the naming policies by id."""

    policies: tuple[Policy, ...]
    severities: Mapping[str, Severity]
    origins: Mapping[str, tuple[str, ...]]


def load(name: str, *, catalogue: Catalogue, directory: Path = POLICIES) -> Policy:
    """Read one policy.

    :raises HallmarkError: there is no such policy, or it names requirements that the catalogue doesn't know.
    """
    path = directory / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in directory.glob("*.yaml"))) or "none"
        raise HallmarkError(f"there is no policy {name!r}", where=path, hint=f"there are: {known}")
    value, _ = load_yaml(path)
    try:
        policy = Policy.model_validate(value)
    except ValidationError as error:
        details = [f"{'.'.join(map(str, e['loc'])) or 'policy'}: {e['msg']}" for e in error.errors()]
        raise HallmarkError("the policy is not well-formed", where=path, details=details) from None
    if policy.name != name:
        raise HallmarkError(f"the policy calls itself {policy.name!r}, its file {name!r}", where=path)
    policy = policy.model_copy(update={"digest": digest_file(path)})
    named = {*policy.exclude, *policy.severity, *(item for part in policy.select for item in part.ids)}
    unknown = sorted(named - set(catalogue.requirements))
    if unknown:
        raise HallmarkError(
            "the policy names requirements that the catalogue doesn't know", where=path, details=unknown
        )
    for part in policy.select:
        if not any(_matches(part, entry.id, entry.area, entry.severity) for entry in catalogue):
            raise HallmarkError("a selector of the policy selects nothing", where=path, details=[str(part)])
    return policy


def select(names: Sequence[str], *, catalogue: Catalogue, directory: Path = POLICIES) -> Selected:
    """What the policies ``names`` judge together.

    :raises HallmarkError: no policy is named, or one can't be read.
    """
    if not names:
        raise HallmarkError(
            "no policy is named",
            why="an image that is judged by nothing is not certified",
            hint="name one in the recipe",
        )
    policies = tuple(load(name, catalogue=catalogue, directory=directory) for name in dict.fromkeys(names))
    severities: dict[str, Severity] = {}
    origins: dict[str, tuple[str, ...]] = {}
    for policy in policies:
        for entry in catalogue:
            if entry.id in policy.exclude:
                continue
            if not any(_matches(part, entry.id, entry.area, entry.severity) for part in policy.select):
                continue
            override = policy.severity.get(entry.id)
            severity = override.severity if override else entry.severity
            if entry.id not in severities or _RANK[severity] > _RANK[severities[entry.id]]:
                severities[entry.id] = severity
            origins[entry.id] = (*origins.get(entry.id, ()), policy.name)
    return Selected(policies, severities, origins)


def optional(names: Sequence[str], *, catalogue: Catalogue, directory: Path = POLICIES) -> tuple[str, ...]:
    """The optional requirements that the policies ``names`` ask for, sorted.

    :raises HallmarkError: no policy is named, or one can't be read.
    """
    selected = select(names, catalogue=catalogue, directory=directory)
    return tuple(sorted(name for name in selected.severities if catalogue[name].optional))


def _matches(part: Selector, identifier: str, area: str, severity: Severity) -> bool:
    if identifier in part.ids:
        return True
    if severity not in part.severities or not (part.areas or part.prefixes):
        return False
    return area in part.areas or identifier.startswith(part.prefixes)
