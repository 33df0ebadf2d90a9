"""The ``check`` fixture: comparisons that always say what was expected and what was seen.

A failing comparison doesn't end the test: a test that looks at every kernel reports every bad one. The
plugin turns the test into a failure when it ends. Each method returns whether the comparison held.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from datetime import date
from typing import Any, NoReturn

import pytest
from _pytest.outcomes import Skipped

from certification.evidence import printable, scrub
from certification.model import Check, SupportEnd

__all__ = ["Checks", "NotApplicable", "not_applicable", "requirement"]

_SHOWN = 600


class NotApplicable(Skipped):
    """The requirement is not about this image; raised by ``not_applicable`` only."""


def not_applicable(reason: str) -> NoReturn:
    """End the test: the requirement doesn't apply to this image, because of ``reason`` (say what was
    seen).
    """
    if not reason.strip():
        raise ValueError("not_applicable() needs a reason")
    raise NotApplicable(reason)


def requirement(identifier: str, *, views: Collection[str] | None = None) -> pytest.MarkDecorator:
    """Bind a test to the requirement ``identifier``.

    :param views: the views that this test serves, when they are fewer than those of the requirement (then
        another test must serve the others).
    """
    if views is None:
        return pytest.mark.requirement(identifier)
    return pytest.mark.requirement(identifier, views=tuple(views))


class Checks:
    """Collects the comparisons of one test."""

    def __init__(self) -> None:
        self.made: list[Check] = []
        self.support: list[SupportEnd] = []

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.made if not check.ok]

    def record(self, what: str, *, expected: Any, observed: Any, ok: bool) -> bool:
        """A comparison that the test made itself. ``expected`` may be a sentence."""
        wanted, seen = _show(expected), _show(observed)
        self.made.append(Check(what=printable(what), expected=wanted, observed=seen, ok=bool(ok)))
        return bool(ok)

    def equal(self, what: str, *, expected: Any, observed: Any) -> bool:
        """``observed`` is exactly ``expected``."""
        return self.record(what, expected=expected, observed=observed, ok=observed == expected)

    def differs(self, what: str, *, unwanted: Any, observed: Any) -> bool:
        """``observed`` is anything but ``unwanted``."""
        return self.record(
            what, expected=f"anything but {_show(unwanted)}", observed=observed, ok=observed != unwanted
        )

    def one_of(self, what: str, *, expected: Collection[Any], observed: Any) -> bool:
        """``observed`` is one of ``expected``."""
        return self.record(
            what, expected=f"one of {_show(expected)}", observed=observed, ok=observed in expected
        )

    def contains(self, what: str, *, expected: Any, observed: Collection[Any] | str) -> bool:
        """``expected`` is in ``observed`` (a collection, or text)."""
        return self.record(
            what, expected=f"contains {_show(expected)}", observed=observed, ok=expected in observed
        )

    def contains_all(self, what: str, *, expected: Iterable[Any], observed: Collection[Any]) -> bool:
        """Every one of ``expected`` is in ``observed``; the message names what is missing."""
        wanted = list(expected)
        missing = [item for item in wanted if item not in observed]
        shown = f"missing: {_show(missing)}" if missing else f"all {len(wanted)} present"
        return self.record(what, expected=f"has {_show(wanted)}", observed=shown, ok=not missing)

    def excludes(self, what: str, *, unwanted: Iterable[Any], observed: Collection[Any]) -> bool:
        """None of ``unwanted`` is in ``observed``; the message names what is there."""
        wanted = list(unwanted)
        present = [item for item in wanted if item in observed]
        shown = f"present: {_show(present)}" if present else "none of them"
        return self.record(what, expected=f"has none of {_show(wanted)}", observed=shown, ok=not present)

    def empty(self, what: str, *, observed: Collection[Any]) -> bool:
        """``observed`` has no element (for lists of offenders)."""
        return self.record(what, expected="none", observed=observed if observed else "none", ok=not observed)

    def at_least(self, what: str, *, expected: Any, observed: Any) -> bool:
        """``observed`` ≥ ``expected``."""
        return self.record(
            what, expected=f"at least {_show(expected)}", observed=observed, ok=observed >= expected
        )

    def at_most(self, what: str, *, expected: Any, observed: Any) -> bool:
        """``observed`` ≤ ``expected``."""
        return self.record(
            what, expected=f"at most {_show(expected)}", observed=observed, ok=observed <= expected
        )

    def matches(self, what: str, *, pattern: str, observed: str) -> bool:
        """The whole of ``observed`` matches the regular expression ``pattern``."""
        found = re.fullmatch(pattern, observed, re.DOTALL) is not None
        return self.record(what, expected=f"matches {pattern}", observed=observed, ok=found)

    def supported_until(self, what: str, *, ends: date, today: date) -> bool:
        """``ends``, the last day of support of something baked in, is not over; the certificate ends then
        too.
        """
        self.support.append(SupportEnd(what=what, ends=ends))
        return self.record(what, expected=f"supported on {today}", observed=f"until {ends}", ok=today <= ends)

    def unique(self, what: str, *, observed: str) -> bool:
        """``observed`` is there, and every machine has another one; only its fingerprint is kept."""
        shown = hashlib.sha256(observed.encode()).hexdigest()[:16] if observed else "none"
        ok = bool(observed)
        expected = "another one on every machine"
        self.made.append(
            Check(what=f"fingerprint of {what}", expected=expected, observed=shown, ok=ok, unique=ok)
        )
        return ok

    def true(self, what: str, *, observed: bool, expected: str = "yes", otherwise: str = "no") -> bool:
        """``observed`` is true; ``expected`` and ``otherwise`` put both answers into words."""
        return self.record(what, expected=expected, observed=expected if observed else otherwise, ok=observed)


def _show(value: Any) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, (set, frozenset)):
        text = _show(sorted(value, key=str))
    elif isinstance(value, (list, tuple)):
        text = ", ".join(_show(item) for item in value) or "none"
    elif isinstance(value, bytes):
        text = value.hex(" ") if len(value) <= 32 else f"{value[:32].hex(' ')} … ({len(value)} bytes)"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif value is None:
        text = "nothing"
    else:
        text = str(value)
    text = scrub(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 40]} … ({len(text)} characters)"
