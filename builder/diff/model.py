"""Two sides and what differs between them: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["SECTIONS", "Change", "Difference", "Section", "Side", "compare"]

#: Every section, in the order in which people read them.
SECTIONS = (
    "settings",
    "repositories",
    "packages",
    "kernel arguments",
    "kernel modules",
    "services",
    "users",
    "groups",
    "scripts",
    "files",
    "sizes",
    "requirements",
)

Section = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: values by name in each section. ``missing``: sections it can't fill, and why."""

    name: str
    sections: Mapping[str, Section]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One section's differences; ``changed`` has the values of both sides."""

    added: Section
    removed: Section
    changed: Mapping[str, tuple[str, str]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs. ``changes`` has the sections with a difference, ``not_compared`` a reason by section."""

    before: str
    after: str
    changes: Mapping[str, Change]
    not_compared: Mapping[str, str]

    @property
    def equal(self) -> bool:
        """Nothing that was compared differs."""
        return not self.changes

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "before": self.before,
            "after": self.after,
            "equal": self.equal,
            "sections": {
                name: {
                    "added": dict(change.added),
                    "removed": dict(change.removed),
                    "changed": {key: list(values) for key, values in change.changed.items()},
                }
                for name, change in self.changes.items()
            },
            "not_compared": dict(self.not_compared),
        }


def compare(before: Side, after: Side) -> Difference:
    """Compare two sides section by section; names come sorted."""
    changes = {}
    reasons = {}
    for section in SECTIONS:
        one, two = before.sections.get(section), after.sections.get(section)
        if one is None and two is None and section not in {*before.missing, *after.missing}:
            continue
        if one is None or two is None:
            side = before if one is None else after
            reasons[section] = f"{side.name}: {side.missing.get(section, 'it has none')}"
            continue
        change = Change(
            added={key: two[key] for key in sorted(two.keys() - one.keys())},
            removed={key: one[key] for key in sorted(one.keys() - two.keys())},
            changed={
                key: (one[key], two[key]) for key in sorted(one.keys() & two.keys()) if one[key] != two[key]
            },
        )
        if change:
            changes[section] = change
    return Difference(before.name, after.name, changes, reasons)
