"""What the end of one test means for its requirement."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from builder.errors import HallmarkError
from certification.checks import NotApplicable
from certification.evidence import scrub
from certification.model import Check, Outcome

__all__ = ["TestTookTooLong", "deadline", "verdict_of"]


class TestTookTooLong(Exception):
    """A test passed its own deadline; the guest hangs or the test waits for something that doesn't come."""

    __test__ = False


def verdict_of(
    call: pytest.CallInfo[None], report: pytest.TestReport, made: list[Check]
) -> tuple[Outcome, str, list[Check]] | None:
    """What one phase of a test means; None: nothing (yet)."""
    error = call.excinfo.value if call.excinfo is not None else None
    failed = [check for check in made if not check.ok]
    if hasattr(report, "wasxfail"):
        return "error", "the test is marked as expected to fail; use a waiver instead", made
    if report.when == "teardown":
        return None if error is None else ("error", f"after the test: {_brief(error)}", [])
    if isinstance(error, NotApplicable):
        if failed:
            return "fail", _sentence(failed), made
        return "not-applicable", str(error.msg), made
    if isinstance(error, pytest.skip.Exception) or report.skipped:
        return "error", f"the test was skipped without not_applicable(): {_brief(error)}", made
    if report.when == "setup":
        return None if error is None else ("error", f"before the test: {_brief(error)}", [])
    if isinstance(error, AssertionError):
        text = scrub(str(error)).strip()
        bare = Check(what="assertion", expected="holds", observed=text[:600] or "doesn't hold", ok=False)
        return "fail", _sentence([*failed, bare]), [*made, bare]
    if error is not None:
        return "error", _brief(error), made
    if failed:
        return "fail", _sentence(failed), made
    if not made:
        return "error", "the test compared nothing: it could not have failed", []
    return "pass", "", made


def _sentence(failed: list[Check]) -> str:
    return "; ".join(
        f"{check.what}: expected {check.expected}, observed {check.observed}" for check in failed
    )


def _brief(error: BaseException | None) -> str:
    if error is None:
        return "no reason given"
    if isinstance(error, HallmarkError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:2000]


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise ``TestTookTooLong`` in the block after ``seconds`` (main thread; a call into C ends first)."""

    def ring(_number: int, _frame: object) -> None:
        raise TestTookTooLong(f"the test took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
