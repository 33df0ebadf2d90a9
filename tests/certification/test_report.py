"""The reports say everything that was judged, once, and nothing that a guest said can break them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from builder import log
from builder.certify import show_slowest
from builder.examine import tell_unseen
from certification import catalogue as catalogues
from certification import policy, report
from certification.judge import Judgement, Run, Verdict
from certification.model import Check, Observation, RunRecord, Subject, SupportEnd, Waiver

NASTY = "<script>alert('x')</script> & \x00 \x1b[31m \ud800"


@pytest.fixture
def judgement(tmp_path: Path, toy_catalogue: Path, toy_policies: Path) -> Judgement:
    catalogue = catalogues.load(toy_catalogue)
    waiver = Waiver(
        requirement="azure.two",
        scope="*",
        owner="Somebody",
        reason="Until spring it stays.",
        expires=date(2027, 3, 1),
    )
    directory = tmp_path / "look"
    directory.mkdir()
    (directory / "evidence.jsonl").write_text(
        json.dumps(
            {
                "requirement": "azure.one",
                "kind": "command",
                "command": "uname -r",
                "status": 0,
                "stdout": {"text": "6.1 <b>bold</b>"},
                "stderr": {"text": ""},
            }
        )
        + "\n"
        + json.dumps({"requirement": "azure.one", "kind": "read", "path": "/etc/x", "exists": False})
        + "\n{cut"
    )
    run = Run(
        directory,
        RunRecord(
            view="disk",
            before="b",
            after="b",
            catalogue=catalogue.digest,
            suites="s",
            started="n",
            seconds=41,
            console=("Kernel panic - not syncing", NASTY),
        ),
        (),
    )

    def verdict(name: str, kind: str, message: str = "") -> Verdict:
        ok = kind == "pass"
        checks = (Check(what="colour", expected="red", observed="red" if ok else message, ok=ok),)
        outcome = {"waived": "fail"}.get(kind, kind)
        seen = (
            (
                Observation(
                    requirement=f"azure.{name}",
                    view="disk",
                    outcome=outcome,
                    message=message,
                    checks=checks,
                    seconds=0.5,
                ),
            )
            if kind in ("pass", "fail", "error", "waived")
            else ()
        )
        return Verdict(
            requirement=catalogue[f"azure.{name}"],
            severity="must",
            kind=kind,
            message=message,
            observations=seen,
            policies=("toy",),
            waiver=waiver if kind == "waived" else None,
        )

    return Judgement(
        recipe="toy-9",
        subject=Subject(id="x", version="9", name=NASTY, families=frozenset({"rhel", "centos"}), like=True),
        verdicts=(
            verdict("one", "pass"),
            verdict("two", "waived", "it is blue"),
            verdict("three", "fail", NASTY),
            verdict("four", "error", "it broke"),
            verdict("only-seven", "not-applicable", "only for versions <8"),
            verdict("far-away", "not-provable-here", "a real machine in Azure"),
        ),
        problems=("the waiver of azure.nine waives nothing",),
        policies=policy.select(["toy"], catalogue=catalogue, directory=toy_policies).policies,
        waivers=(waiver,),
        support=(SupportEnd(what="a runtime", ends=date(2027, 1, 5)),),
        catalogue=catalogue.digest,
        suites="s",
        image_identity="b",
        runs=(run,),
        judged=datetime(2026, 11, 22, 12, tzinfo=UTC),
    )


class Page(HTMLParser):
    """Checks that what is opened is closed, and collects tags, attributes and text."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.stack.append(tag)
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_self_contained_and_complete(judgement: Judgement, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"report.{name}" for name in ("html", "junit", "json")}
    report.write(judgement, **paths)
    text = paths["html"].read_text()
    page = Page(text)
    words = " ".join(" ".join(page.words).split())
    assert (
        page.stack == [] and "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    )
    assert all(url.startswith("#") for url in page.urls) and "url(" not in text and "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {url[1:] for url in page.urls} <= set(page.ids)
    for expected in (
        "toy-9 is not certified",
        "Waived until 2027-03-01",
        "Until spring it stays.",
        "it is blue",
        "Do it.",
        "only for versions <8",
        "a real machine in Azure",
        "6.1 <b>bold</b>",
        "the waiver of azure.nine",
        "a runtime: 2027-01-05",
        "judged as Enterprise Linux",
        "uname -r",
        "Serial console, disk",
        "Kernel panic - not syncing",
        "Not provable here",
        "Where the time went",
        "must only",
    ):
        assert expected in words, expected
    for entry in judgement.verdicts:
        assert entry.requirement.id in words and entry.requirement.title in words
    assert "prefers-color-scheme: dark" in text


def test_what_was_no_image_is_not_called_certified(judgement: Judgement) -> None:
    good = replace(judgement, problems=(), verdicts=judgement.verdicts[:2])
    for source in ("machine", "recording"):
        words = " ".join(" ".join(Page(report.render_html(replace(good, source=source))).words).split())
        assert "No certificate comes of this" in words and "is certified" not in words


def test_a_certified_image_looks_certified(judgement: Judgement) -> None:
    good = replace(judgement, problems=(), verdicts=judgement.verdicts[:2])
    page = Page(report.render_html(good))
    assert "toy-9 is certified" in " ".join(" ".join(page.words).split())


def test_junit(judgement: Judgement) -> None:
    root = ElementTree.fromstring(report.render_junit(judgement))
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7",
        "failures": "1",
        "errors": "2",
        "skipped": "3",
    }
    cases = {case.get("name", "").split(":")[0]: case for case in root.iter("testcase")}
    assert len(cases) == 7 and list(cases["azure.one"]) == []
    assert cases["azure.three"].find("failure") is not None and cases["azure.four"].find("error") is not None
    skipped = cases["azure.two"].find("skipped")
    assert skipped is not None and "waived until 2027-03-01 by Somebody" in (skipped.get("message") or "")
    for suite in root.iter("testsuite"):
        assert int(suite.get("tests", "0")) == len(list(suite.iter("testcase")))


def test_json_holds_every_result_with_expected_and_observed(judgement: Judgement) -> None:
    document = json.loads(report.render_json(judgement))
    assert document["certified"] is False and len(document["results"]) == len(judgement.verdicts)
    (blue,) = [item for item in document["results"] if item["verdict"] == "waived"]
    assert (
        blue["observations"][0]["expected"] == "colour: red"
        and "it is blue" in blue["observations"][0]["observed"]
    )
    assert blue["waiver"]["owner"] == "Somebody"
    assert document["reasons"] == judgement.reasons() != []
    assert document["views"][0]["console"][0] == "Kernel panic - not syncing"
    assert {item["requirement"]: item["seconds"] for item in document["results"]}["azure.one"] == 0.5


def test_reports_are_the_same_for_the_same_judgement(judgement: Judgement) -> None:
    assert report.render_html(judgement) == report.render_html(judgement)
    assert re.search(r"2026-11-22 12:00", report.render_html(judgement))


def test_times_are_printed_by_requirement(
    judgement: Judgement, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.certify._SLOWEST", 2)
    show_slowest(judgement)
    assert re.findall(r"^ *(azure\.\S+) +disk +0\.5", capsys.readouterr().err, re.M) == [
        "azure.four",
        "azure.one",
    ]
    log.configure(verbose=True)
    show_slowest(judgement)
    lines = capsys.readouterr().err.splitlines()
    assert {line.split()[0] for line in lines[1:]} == {item.requirement.id for item in judgement.verdicts}


def test_what_could_not_be_seen_is_told(judgement: Judgement, capsys: pytest.CaptureFixture[str]) -> None:
    unseen = [
        replace(v, kind="not-provable-here", message="it takes the image: disk view")
        for v in judgement.verdicts[:2]
    ]
    tell_unseen(replace(judgement, verdicts=(*unseen, *judgement.verdicts[2:])))
    told = capsys.readouterr().err
    assert "2 requirements that take the image: disk view" in told
    assert "1 requirements that take another place than this" in told
    log.configure(verbose=True)
    tell_unseen(judgement)
    assert "azure.far-away: a real machine in Azure" in capsys.readouterr().err


def test_reasons_say_what_to_do(judgement: Judgement) -> None:
    (failed,) = [line for line in judgement.reasons() if line.startswith("azure.three (fail)")]
    assert failed.endswith("; fix: Do it.")


def test_every_process_writes_the_subject_alike() -> None:
    """A set's order depends on the process; two certificates of one image are compared by their bytes."""
    words = (
        "from certification.model import Subject;"
        "print(Subject(id='x', version='9', families={'rhel', 'centos', 'atomic'}).model_dump_json())"
    )
    program = [sys.executable, "-c", words]
    written = {subprocess.check_output(program, env={"PYTHONHASHSEED": seed}, text=True) for seed in "01"}
    assert len(written) == 1
    assert '"families":["atomic","centos","rhel"]' in written.pop()
