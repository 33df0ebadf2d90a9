"""The rules that the plugin holds suites to, each shown refusing; real pytest processes on a real small
VHD.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.workspace import PROJECT
from certification.judge import Run, load_run
from certification.model import Observation
from certification.observe import give_up, observe

HEAD = "import pytest\nfrom certification.checks import requirement, not_applicable\n"

# One test a requirement, so that one process shows every rule.
CASES: dict[str, tuple[str, str, str]] = {
    # id: (body, outcome, part of the message)
    "passes": ("check.equal('colour', expected=1, observed=1)", "pass", ""),
    "fails": (
        "check.equal('colour', expected='red', observed='blue')",
        "fail",
        "colour: expected red, observed blue",
    ),
    "fails-twice": (
        "check.empty('first', observed=['x']); check.at_least('second', expected=3, observed=2)",
        "fail",
        "first: expected none, observed x; second: expected at least 3, observed 2",
    ),
    "bare-assert": ("assert 1 + 1 == 3, 'sums are wrong'", "fail", "sums are wrong"),
    "compares-nothing": ("pass", "error", "compared nothing"),
    "skips": ("pytest.skip('not today')", "error", "skipped without not_applicable"),
    "skip-mark": ("check.true('x', observed=True)", "error", "skipped without not_applicable"),
    "xfail-mark": ("check.true('x', observed=False)", "error", "expected to fail"),
    "not-applicable": ("not_applicable('there is no tape drive')", "not-applicable", "no tape drive"),
    "na-after-failure": (
        "check.true('x', observed=False); not_applicable('never mind')",
        "fail",
        "x: expected yes",
    ),
    "na-without-reason": ("not_applicable(' ')", "error", "needs a reason"),
    "crashes": ("check.true('x', observed=True); {}['key']", "error", "KeyError"),
    "bad-fixture": ("check.true('x', observed=True)", "error", "before the test"),
    "bad-teardown": ("check.true('x', observed=True)", "error", "after the test"),
    "no-guest": ("check.true('x', observed=host.file('/').exists)", "error", "has no guest"),
    "hangs": ("import time; time.sleep(60)", "error", "took longer than"),
    "secret": (
        "check.equal('shadow', expected='x', observed='root:$6$salt$verysecrethash:1')",
        "fail",
        "$6$***",
    ),
    "reads-image": ("check.equal('size', expected=0, observed=image.disk_size % 1048576)", "pass", ""),
}
MARKS = {"skip-mark": "@pytest.mark.skip(reason='later')\n", "xfail-mark": "@pytest.mark.xfail\n"}
FIXTURES = {
    "bad-fixture": "broken, ",
    "bad-teardown": "leaking, ",
    "no-guest": "host, ",
    "reads-image": "image, ",
}


def entry(name: str, **more: object) -> dict[str, object]:
    return {
        "id": f"azure.{name}",
        "title": name,
        "severity": "must",
        "area": "azure",
        "views": ["format"],
        "rationale": "Because.",
        "remedy": "Do it.",
        "source": ["A book"],
        **more,
    }


def write_catalogue(directory: Path, entries: list[dict[str, object]]) -> Path:
    directory.mkdir()
    (directory / "azure.yaml").write_text(json.dumps({"requirements": entries}))
    return directory


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory, plain_image: Path) -> tuple[Run, list[Observation]]:
    """One run over all cases and a few tests that break the rules of binding."""
    work = tmp_path_factory.mktemp("rules")
    entries = [entry(name) for name in CASES] + [entry("untested"), entry("disk-only", views=["disk"])]
    catalogue = write_catalogue(work / "catalogue", entries)
    suites = work / "suites"
    suites.mkdir()
    (suites / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef broken(): raise OSError('no tape')\n"
        "@pytest.fixture\ndef leaking():\n    yield\n    raise OSError('tape full')\n"
    )
    text = HEAD
    for number, (name, (body, _, _)) in enumerate(CASES.items()):
        text += f"\n{MARKS.get(name, '')}@requirement('azure.{name}')\n"
        text += f"def test_{number}({FIXTURES.get(name, '')}check):\n    {body}\n"
    text += "\ndef test_bound_to_nothing(check): check.true('x', observed=True)\n"
    text += "\n@requirement('azure.unheard-of')\ndef test_unknown(check): check.true('x', observed=True)\n"
    text += "\n@requirement('azure.passes')\n@requirement('azure.fails')\ndef test_two(check): pass\n"
    text += "\n@requirement('azure.passes', views=['booted'])\ndef test_strange_view(check): pass\n"
    text += "\n@requirement('azure.disk-only')\ndef test_elsewhere(check): raise RuntimeError('not here')\n"
    (suites / "test_toy.py").write_text(text)
    out = work / "out"
    before = plain_image.read_bytes()
    observe(
        "format", plain_image, out=out, logs=work / "log", suites=suites, catalogue=catalogue, test_seconds=1
    )
    assert plain_image.read_bytes() == before
    run = load_run(out)
    return run, list(run.observations)


@pytest.mark.parametrize("name", CASES)
def test_every_ending_of_a_test_has_its_verdict(rules: tuple[Run, list[Observation]], name: str) -> None:
    _, outcome, message = CASES[name]
    own = [item for item in rules[1] if item.requirement == f"azure.{name}"]
    worst = next((item for item in own if item.outcome == "error"), own[0])
    assert (worst.outcome, message in worst.message) == (outcome, True), worst
    assert name == "bad-teardown" or len(own) == 1
    for item in own:
        assert item.outcome != "fail" or (item.expected and item.observed)


def test_a_requirement_without_a_test_is_an_error(rules: tuple[Run, list[Observation]]) -> None:
    (item,) = [item for item in rules[1] if item.requirement == "azure.untested"]
    assert item.outcome == "error" and "no test decides" in item.message


def test_what_another_view_decides_is_not_run_here(rules: tuple[Run, list[Observation]]) -> None:
    assert not [item for item in rules[1] if item.requirement == "azure.disk-only"]


def test_tests_that_break_the_binding_are_problems(rules: tuple[Run, list[Observation]]) -> None:
    record = rules[0].record
    assert record is not None
    problems = "\n".join(record.problems)
    assert "test_bound_to_nothing is bound to no requirement" in problems
    assert "test_unknown is bound to 'azure.unheard-of', which the catalogue doesn't know" in problems
    assert "test_two is bound to 2 requirements" in problems
    assert "test_strange_view looks in booted, but azure.passes is not decided there" in problems
    assert len(record.problems) == 4


def test_evidence_belongs_to_the_requirement_that_was_looked_at(rules: tuple[Run, list[Observation]]) -> None:
    records = [json.loads(line) for line in rules[0].evidence.read_text().splitlines()]
    assert all(record["view"] == "format" and "requirement" in record for record in records)
    assert "verysecrethash" not in rules[0].evidence.read_text()


def toy(tmp_path: Path, body: str, names: tuple[str, ...] = ("one", "two")) -> tuple[Path, Path]:
    suites = tmp_path / "suites"
    suites.mkdir()
    (suites / "test_toy.py").write_text(HEAD + body)
    return suites, write_catalogue(tmp_path / "catalogue", [entry(name) for name in names])


GOOD = "\n@requirement('azure.one')\ndef test_one(check): check.true('x', observed=True)\n"


@pytest.mark.parametrize(
    ("body", "deadline", "problem"),
    [
        (
            GOOD + "\n@requirement('azure.two')\ndef test_two(check): import os; os.kill(os.getpid(), 11)\n",
            60.0,
            "ended with status -11",
        ),
        (
            GOOD + "\n@requirement('azure.two')\ndef test_two(check):\n    import signal, time\n"
            "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGTERM])\n"
            "    time.sleep(60)\n",
            5.0,
            "took longer than 5 s",
        ),
    ],
    ids=["crash", "hang"],
)
def test_a_run_that_dies_leaves_errors_and_keeps_what_it_saw(
    tmp_path: Path, plain_image: Path, body: str, deadline: float, problem: str
) -> None:
    suites, catalogue = toy(tmp_path, body)
    out = tmp_path / "out"
    observe(
        "format",
        plain_image,
        out=out,
        logs=tmp_path / "log",
        suites=suites,
        catalogue=catalogue,
        deadline=deadline,
    )
    run = load_run(out)
    assert run.record is not None and problem in run.record.problems[0]
    assert {item.requirement: item.outcome for item in run.observations} == {
        "azure.one": "pass",
        "azure.two": "error",
    }


def test_a_suite_that_cannot_be_imported_decides_nothing(tmp_path: Path, plain_image: Path) -> None:
    suites, catalogue = toy(tmp_path, GOOD + "\nimport no_such_module\n")
    out = tmp_path / "out"
    observe("format", plain_image, out=out, logs=tmp_path / "log", suites=suites, catalogue=catalogue)
    run = load_run(out)
    assert run.record is not None and any("no_such_module" in problem for problem in run.record.problems)
    assert {item.outcome for item in run.observations} == {"error"} and len(run.observations) == 2


def test_an_image_that_cannot_be_opened_decides_nothing(tmp_path: Path) -> None:
    image = tmp_path / "image.vhd"
    image.write_bytes(b"conectix" * 64)
    suites, catalogue = toy(tmp_path, GOOD, ("one",))
    out = tmp_path / "out"
    observe("format", image, out=out, logs=tmp_path / "log", suites=suites, catalogue=catalogue)
    run = load_run(out)
    assert run.record is not None and "too few for a VHD" in run.record.problems[0]
    assert [item.outcome for item in run.observations] == ["error"]


def test_testinfras_own_plugin_is_refused(tmp_path: Path, plain_image: Path) -> None:
    suites, catalogue = toy(tmp_path, GOOD, ("one",))
    argv = [sys.executable, "-m", "pytest", "-p", "certification.plugin", "--hallmark-view", "format"]
    argv += ["--hallmark-image", str(plain_image), "--hallmark-out", str(tmp_path / "out"), "-c", "/dev/null"]
    argv += ["--hallmark-catalogue", str(catalogue), str(suites)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 4 and "must not be loaded" in done.stderr


@pytest.mark.parametrize("elsewhere", [(), ("azure.first",)])
def test_what_another_look_decides_is_left_out(
    tmp_path: Path, plain_image: Path, elsewhere: tuple[str, ...]
) -> None:
    catalogue = write_catalogue(tmp_path / "catalogue", [entry("always"), entry("first", once=True)])
    suites = tmp_path / "suites"
    suites.mkdir()
    tests = (f"@requirement('azure.{n}')\ndef test_{n}(check): check.true('x', observed=True)\n"
             for n in ("always", "first"))  # fmt: skip
    (suites / "test_toy.py").write_text(HEAD + "".join(tests))
    out = tmp_path / "out"
    given: dict[str, Any] = {"suites": suites, "catalogue": catalogue, "elsewhere": elsewhere}
    observe("format", plain_image, out=out, logs=tmp_path, **given)
    run = load_run(out)
    assert run.record is not None and run.record.elsewhere == elsewhere and run.record.problems == ()
    seen = {item.requirement: item.outcome for item in run.observations}
    assert seen == {"azure.always": "pass", **({} if elsewhere else {"azure.first": "pass"})}


@pytest.mark.parametrize(
    ("given", "looked_at"),
    [({}, {"one"}), ({"asked": ("azure.two",)}, {"one", "two"}), ({"only": ("azure.two",)}, {"two"})],
)
def test_what_is_optional_is_looked_at_when_somebody_asks(
    tmp_path: Path, plain_image: Path, given: dict[str, tuple[str, ...]], looked_at: set[str]
) -> None:
    suites, _ = toy(tmp_path, GOOD + GOOD.replace("one", "two"))
    catalogue = write_catalogue(tmp_path / "optional", [entry("one"), entry("two", optional=True)])
    out = tmp_path / "out"
    observe("format", plain_image, out=out, logs=tmp_path, suites=suites, catalogue=catalogue, **given)
    run = load_run(out)
    assert run.record is not None and run.record.problems == ()
    assert {item.requirement for item in run.observations} == {f"azure.{name}" for name in looked_at}
    # A look that died says the same about what it was meant to decide.
    for name in ("observations.jsonl", "run.json"):
        (out / name).unlink()
    give_up("no power", view="format", image=None, out=out, suites=suites, catalogue=catalogue, **given)
    assert {item.requirement for item in load_run(out).observations} == {
        f"azure.{name}" for name in looked_at
    }
