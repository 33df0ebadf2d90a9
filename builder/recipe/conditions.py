"""Release windows: ``when: {release: ">=9.6, <9.8"}``.

A release with a minor number is compared number by number (9.10 is newer than 9.6). A release without one
(CentOS Stream, the sample distribution) means the newest of its major: ``9`` fulfils ``>=9.6`` and not
``<9.8``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Context", "check_specifier", "holds", "release_matches"]

_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([0-9]{1,4})(?:\.([0-9]{1,4}))?\s*\Z")
_NEWEST = 1 << 30
_OPERATORS: dict[str, Callable[[tuple[int, int], tuple[int, int]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a recipe says about itself, for conditions to look at."""

    distribution: str
    release: str
    architecture: str
    licence: str


def check_specifier(text: str) -> str:
    """Return ``text`` if it is a specifier.

    :raises ValueError: it isn't.
    """
    for clause in text.split(","):
        if not _CLAUSE.match(clause):
            raise ValueError(
                f"{clause.strip()!r} is not a comparison such as '>=9.6'; separate several with commas"
            )
    return text


def release_matches(release: str, specifier: str) -> bool:
    """Whether a release (``9`` or ``9.6``) fulfils every clause of a specifier.

    A clause that names a major only (``>=10``, ``==9``) looks at the major only.
    """
    major, _, minor = release.partition(".")
    for clause in specifier.split(","):
        found = _CLAUSE.match(clause)
        if found is None:
            raise ValueError(f"not a specifier: {specifier!r}")
        sign, want_major, want_minor = found.groups()
        if want_minor is None:
            have, want = (int(major), 0), (int(want_major), 0)
        else:
            have, want = (int(major), int(minor) if minor else _NEWEST), (int(want_major), int(want_minor))
        if not _OPERATORS[sign](have, want):
            return False
    return True


def holds(when: Mapping[str, Any], context: Context) -> bool:
    """Whether a window's ``when`` holds. ``when`` was validated before."""
    return (
        ("release" not in when or release_matches(context.release, str(when["release"])))
        and ("distribution" not in when or context.distribution in when["distribution"])
        and ("architecture" not in when or context.architecture == when["architecture"])
        and ("licence" not in when or context.licence == when["licence"])
    )
