"""When what is baked into an image goes out of support, and what that means for its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from certification.model import SupportEnd

if TYPE_CHECKING:
    from certification.judge import Judgement, Run, Verdict

__all__ = ["ends", "expiry", "recorded_on", "unanswered"]


def ends(runs: Sequence[Run]) -> tuple[SupportEnd, ...]:
    """Every last day that the looks came upon, the first one first."""
    found = {item for run in runs for observation in run.observations for item in observation.supported_until}
    return tuple(sorted(found, key=lambda item: (item.ends, item.what)))


def recorded_on(runs: Sequence[Run], now: datetime) -> date:
    """The day as of which recordings are judged: that of the first look in them."""
    days = [
        datetime.fromisoformat(run.record.recorded).date()
        for run in runs
        if run.record and run.record.recorded
    ]
    return min(days, default=now.date())


def unanswered(runs: Sequence[Run], verdicts: Sequence[Verdict], *, as_of: date) -> list[str]:
    """What is out of support, and what no verdict is about: none of the policies asks, or it ended since the
    look. A verdict that refuses speaks for itself, and one that is waived somebody answers for.
    """
    named = {
        item
        for verdict in verdicts
        if verdict.refuses or verdict.kind == "waived"
        for observation in verdict.observations
        for item in observation.supported_until
    }
    return [
        f"the support of {item.what} ended on {item.ends}, and nobody answers for that"
        for item in ends(runs)
        if item.ends < as_of and item not in named
    ]


def expiry(judgement: Judgement, *, issued: date, days: int) -> date:
    """The last day of a certificate: ``days`` from ``issued``, or earlier where support or a waiver ends.

    What is already over is waived, or there would be no certificate (``unanswered``), and doesn't count.
    """
    limits = [issued + timedelta(days=days)]
    limits += [item.ends for item in judgement.support if item.ends >= issued]
    limits += [waiver.expires for waiver in judgement.waivers]
    return min(limits)
