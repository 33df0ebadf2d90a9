"""The reports that programs read."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from certification.catalogue import AREA_TITLES
from certification.judge import Judgement, Verdict

__all__ = ["render_json", "render_junit"]

# What XML 1.0 can't hold, not even as a character reference.
_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_json(judgement: Judgement) -> str:
    """Everything that was judged, as one JSON document."""
    document: dict[str, Any] = {
        "schema": 1,
        "recipe": judgement.recipe,
        "certified": judgement.certified,
        "judged": judgement.judged.isoformat(timespec="seconds"),
        "subject": judgement.subject.model_dump(mode="json") if judgement.subject else None,
        "policies": [{"name": policy.name, "version": policy.version} for policy in judgement.policies],
        "catalogue": judgement.catalogue,
        "suites": judgement.suites,
        "counts": dict(judgement.counts),
        "problems": list(judgement.problems),
        "reasons": judgement.reasons(),
        "support": [item.model_dump(mode="json") for item in judgement.support],
        "source": judgement.source,
        "views": [
            {
                "name": run.name,
                "seconds": run.record.seconds if run.record else None,
                "complete": run.record is not None,
                "console": list(run.record.console) if run.record else [],
                "recorded": run.record.recorded if run.record else None,
            }
            for run in judgement.runs
        ],
        "results": [_result(verdict) for verdict in judgement.verdicts],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def render_junit(judgement: Judgement) -> str:
    """JUnit XML: a suite an area, a case a requirement; a waived failure is a skip that says so."""
    root = ElementTree.Element("testsuites", name=f"hallmark {judgement.recipe}")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for area in dict.fromkeys(verdict.requirement.area for verdict in judgement.verdicts):
        verdicts = [verdict for verdict in judgement.verdicts if verdict.requirement.area == area]
        numbers = {
            "tests": len(verdicts),
            "failures": sum(v.kind == "fail" for v in verdicts),
            "errors": sum(v.kind == "error" for v in verdicts),
            "skipped": sum(v.kind in ("waived", "not-applicable", "not-provable-here") for v in verdicts),
        }
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=AREA_TITLES[area],
            timestamp=judgement.judged.isoformat(timespec="seconds"),
            time=f"{sum(v.seconds for v in verdicts):.3f}",
        )
        for name, number in numbers.items():
            suite.set(name, str(number))
            totals[name] += number
        for verdict in verdicts:
            _case(suite, area, verdict)
    if judgement.problems:
        suite = ElementTree.SubElement(
            root, "testsuite", name="The certification itself", tests=str(len(judgement.problems))
        )
        suite.set("errors", str(len(judgement.problems)))
        for number, problem in enumerate(judgement.problems, 1):
            case = ElementTree.SubElement(
                suite, "testcase", classname="certification", name=f"problem {number}"
            )
            ElementTree.SubElement(case, "error", message=_speakable(problem))
        totals["tests"] += len(judgement.problems)
        totals["errors"] += len(judgement.problems)
    for name, number in totals.items():
        root.set(name, str(number))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, area: str, verdict: Verdict) -> None:
    entry = verdict.requirement
    case = ElementTree.SubElement(
        suite, "testcase", classname=area, name=f"{entry.id}: {entry.title}", time=f"{verdict.seconds:.3f}"
    )
    message = _speakable(verdict.message)
    text = _speakable(
        f"{verdict.message}\n\nwhy: {entry.rationale}\nfix: {entry.remedy}\nseverity: {verdict.severity}"
    )
    if verdict.kind == "fail":
        ElementTree.SubElement(case, "failure", message=message, type=verdict.severity).text = text
    elif verdict.kind == "error":
        ElementTree.SubElement(case, "error", message=message).text = text
    elif verdict.kind == "waived" and verdict.waiver is not None:
        waiver = verdict.waiver
        reason = f"waived until {waiver.expires} by {waiver.owner}: {waiver.reason} ({verdict.message})"
        ElementTree.SubElement(case, "skipped", message=_speakable(reason))
    elif verdict.kind in ("not-applicable", "not-provable-here"):
        ElementTree.SubElement(case, "skipped", message=_speakable(f"{verdict.kind}: {verdict.message}"))


def _result(verdict: Verdict) -> dict[str, Any]:
    entry = verdict.requirement
    return {
        "requirement": entry.id,
        "title": entry.title,
        "area": entry.area,
        "severity": verdict.severity,
        "verdict": verdict.kind,
        "message": verdict.message,
        "disagreement": verdict.disagreement,
        "seconds": round(verdict.seconds, 3),
        "policies": list(verdict.policies),
        "waiver": verdict.waiver.model_dump(mode="json") if verdict.waiver else None,
        "observations": [
            {
                "view": observation.view,
                "variant": observation.variant,
                "outcome": observation.outcome,
                "message": observation.message,
                "expected": observation.expected,
                "observed": observation.observed,
                "seconds": observation.seconds,
            }
            for observation in verdict.observations
        ],
    }


def _speakable(text: str) -> str:
    return _UNSPEAKABLE.sub("�", text)
