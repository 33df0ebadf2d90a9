"""The pytest plugin that turns testinfra tests into observations of requirements.

Load it with ``-p certification.plugin``; ``certification.observe`` does so in a process of its own. It holds
the suites to the rules: each test is bound to exactly one requirement of the catalogue; each requirement that
applies has a test in each of its views and gets a verdict; a skip without ``not_applicable(reason)`` and a
test that compared nothing are errors. What is observed goes to ``observations.jsonl`` as it happens,
``run.json`` is written last.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import HallmarkError
from certification import catalogue as catalogues
from certification.checks import Checks
from certification.model import VIEWS, Observation, Requirement, View
from certification.outcome import deadline, verdict_of
from certification.session import Session

__all__ = ["TEST_SECONDS"]

#: Seconds that one test may take.
TEST_SECONDS = 120.0
_DEAR = 3
_key = pytest.StashKey["Session"]()
_checks_key = pytest.StashKey[Checks]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hallmark", "certification of images")
    group.addoption("--hallmark-view", choices=VIEWS, help="how to look at the image")
    group.addoption("--hallmark-image", help="the VHD file; without one, only the booted view can look")
    group.addoption("--hallmark-replay", help="a recording that answers in the place of the image")
    group.addoption("--hallmark-out", help="directory for observations.jsonl, evidence.jsonl and run.json")
    group.addoption("--hallmark-ssh-config", help="booted view: ssh_config with a host named `subject`")
    group.addoption("--hallmark-variant", help="booted view: the firmware, such as bios")
    group.addoption(
        "--hallmark-elsewhere", help="comma-separated requirement ids that another booted look decides"
    )
    group.addoption("--hallmark-claim", help="what the image is called, ID:RELEASE; default: what it says")
    group.addoption("--hallmark-ostree", help="what an ostree host is said to run, as JSON")
    group.addoption("--hallmark-force-tcg", action="store_true", help="disk view: no hardware acceleration")
    group.addoption(
        "--hallmark-catalogue", default=str(catalogues.REQUIREMENTS), help="directory of requirements"
    )
    group.addoption("--hallmark-only", help="comma-separated requirement ids: look at these alone")
    group.addoption("--hallmark-asked", help="comma-separated ids of optional requirements to look at, too")
    group.addoption(
        "--hallmark-test-seconds",
        type=float,
        default=TEST_SECONDS,
        help="deadline of one test",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requirement(id, views=None): the one requirement of the catalogue that this test decides"
    )
    if not config.getoption("hallmark_view"):
        return
    if config.pluginmanager.hasplugin("pytest11.testinfra"):
        # Its own `host` fixture would quietly look at the machine that runs the tests.
        raise pytest.UsageError("testinfra's pytest plugin must not be loaded: add -p no:testinfra")
    if not config.getoption("hallmark_out"):
        raise pytest.UsageError("--hallmark-out is required with --hallmark-view")
    try:
        config.stash[_key] = Session(config)
    except HallmarkError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(_key, None)
    if session is not None:
        session.stop()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    session = config.stash.get(_key, None)
    if session is None:
        return
    kept: list[pytest.Item] = []
    served: set[str] = set()
    for item in items:
        bound = _bind(item, session)
        if bound is None:
            continue
        entry, views = bound
        if session.view not in views or not session.decides(entry):
            continue
        served.add(entry.id)
        item.user_properties.append(("requirement", entry.id))
        kept.append(item)
    for entry in session.wanted():
        if session.failure is not None:
            # Even a test that would not look at the image must not pass now.
            session.observation(entry.id, "error", str(session.failure))
            kept = []
            continue
        reason = entry.applies_to.excludes(session.subject) if session.subject is not None else None
        if reason is not None:
            session.observation(entry.id, "not-applicable", reason)
            kept = [item for item in kept if _requirement_of(item) != entry.id]
        elif entry.id not in served:
            session.observation(
                entry.id, "error", f"no test decides this requirement in the {session.view} view"
            )
    kept_set = set(map(id, kept))
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept_set])
    items[:] = kept


def _bind(item: pytest.Item, session: Session) -> tuple[Requirement, tuple[View, ...]] | None:
    """The requirement and the views of a test; None (and a problem) when it breaks the rules."""
    marks = list(item.iter_markers("requirement"))
    if len(marks) != 1:
        session.problem(
            f"test {item.nodeid} is bound to {len(marks) or 'no'} requirement{'s' * (len(marks) > 1)}"
        )
        return None
    mark = marks[0]
    if len(mark.args) != 1 or not isinstance(mark.args[0], str) or mark.args[0] not in session.catalogue:
        named = ", ".join(map(repr, mark.args))
        session.problem(f"test {item.nodeid} is bound to {named}, which the catalogue doesn't know")
        return None
    entry = session.catalogue[mark.args[0]]
    views = tuple(mark.kwargs.get("views") or entry.views)
    strange = [view for view in views if view not in entry.views]
    if strange:
        session.problem(
            f"test {item.nodeid} looks in {', '.join(strange)}, but {entry.id} is not decided there"
        )
        return None
    return entry, views


def _requirement_of(item: pytest.Item) -> str:
    return next(str(value) for name, value in item.user_properties if name == "requirement")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    session = item.config.stash.get(_key, None)
    if session is None:
        return (yield)
    with session.evidence.about(_requirement_of(item)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    session = item.config.stash.get(_key, None)
    if session is None:
        return (yield)
    # What is optional is so because it is dear.
    dear = session.catalogue[_requirement_of(item)].optional
    with deadline(session.test_seconds * (_DEAR if dear else 1)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    session = item.config.stash.get(_key, None)
    if session is None:
        return report
    identifier = _requirement_of(item)
    checks_made = item.stash.get(_checks_key, Checks())
    verdict = verdict_of(call, report, checks_made.made)
    if verdict is None:
        return report
    outcome, message, checks = verdict
    session.observation(
        identifier,
        outcome,
        message,
        checks=tuple(checks),
        supported_until=tuple(checks_made.support) if report.when == "call" else (),
        test=item.nodeid,
        seconds=round(call.duration, 3),
    )
    if outcome in ("fail", "error") and report.passed:
        report.outcome = "failed"
        report.longrepr = message
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _collection_failures.append(
            f"{report.nodeid or 'the suite'} could not be loaded: {report.longreprtext[-1500:]}"
        )


_collection_failures: list[str] = []


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    run = session.config.stash.get(_key, None)
    if run is None:
        return
    for text in _collection_failures:
        run.problem(text)
    _collection_failures.clear()
    for entry in run.wanted():
        if entry.id not in run.seen:
            run.observation(entry.id, "error", "the run ended without a verdict for this requirement")
    run.finish(suites=catalogues.suites_digest(session.config.rootpath))
    if run.problems or any(item.outcome in ("fail", "error") for item in _read_back(run.out)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _read_back(out: Path) -> Iterator[Observation]:
    for line in (out / "observations.jsonl").read_text(encoding="utf-8").splitlines():
        yield Observation.model_validate_json(line)


@pytest.fixture(scope="session")
def hallmark(pytestconfig: pytest.Config) -> Session:
    """The running look at the image."""
    return pytestconfig.stash[_key]


@pytest.fixture(scope="session")
def image(hallmark: Session) -> Any:
    """The image's bytes: size, footer, partition tables, ESP (``certification.views.format.ImageBytes``)."""
    return hallmark.opened.image


@pytest.fixture(scope="session")
def host(hallmark: Session) -> Any:
    """The guest as a testinfra Host: the unbooted disk, or the machine over ssh."""
    return hallmark.opened.host


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Checks:
    """Comparisons that record what was expected and what was seen."""
    checks = Checks()
    request.node.stash[_checks_key] = checks
    return checks
