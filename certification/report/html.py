"""The report that people read: one HTML file, no script, no network, light and dark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from certification.catalogue import AREA_TITLES
from certification.judge import VERDICTS, Judgement, Verdict, VerdictKind

__all__ = ["render_html"]

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_ATTENTION: tuple[VerdictKind, ...] = ("fail", "error", "waived")
_EVIDENCE_EACH = 12
_SLOWEST = 15
_EVIDENCE_TEXT = 2000
_WORDS: Mapping[VerdictKind, tuple[str, str]] = {
    # verdict: symbol, words
    "pass": ("✓", "passed"),
    "fail": ("✗", "failed"),
    "error": ("!", "error"),
    "waived": ("~", "waived"),
    "not-applicable": ("–", "not applicable"),
    "not-provable-here": ("?", "not provable here"),
}


@dataclass(frozen=True, slots=True)
class _Area:
    title: str
    verdicts: tuple[Verdict, ...]
    counts: Mapping[VerdictKind, int]

    @property
    def clean(self) -> bool:
        return not any(self.counts[kind] for kind in ("error", "fail", "waived"))


def render_html(judgement: Judgement) -> str:
    """The whole report as one document."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["word"] = lambda kind: _WORDS[kind][1]
    environment.filters["symbol"] = lambda kind: _WORDS[kind][0]
    areas = []
    for area in dict.fromkeys(verdict.requirement.area for verdict in judgement.verdicts):
        verdicts = tuple(verdict for verdict in judgement.verdicts if verdict.requirement.area == area)
        counts = {kind: sum(v.kind == kind for v in verdicts) for kind in VERDICTS}
        areas.append(_Area(AREA_TITLES[area], verdicts, counts))
    decided = [v for v in judgement.verdicts if v.kind in ("pass", "fail", "waived")]
    unbooted = [v for v in decided if any(o.view in ("format", "disk") for o in v.observations)]
    return environment.get_template("report.html.j2").render(
        judgement=judgement,
        areas=areas,
        verdicts=VERDICTS,
        attention=sorted((v for v in judgement.verdicts if v.kind in _ATTENTION), key=_urgency),
        decided=len(decided),
        unbooted=len(unbooted),
        unprovable=[v for v in judgement.verdicts if v.kind == "not-provable-here"],
        slowest=judgement.slowest[:_SLOWEST],
        seconds=sum(run.record.seconds for run in judgement.runs if run.record),
        evidence=_evidence(judgement),
    )


def _urgency(verdict: Verdict) -> tuple[bool, int, str]:
    """What refuses the certificate comes first, then failures, waivers last."""
    return not verdict.refuses, _ATTENTION.index(verdict.kind), verdict.requirement.id


def _evidence(judgement: Judgement) -> dict[str, list[dict[str, Any]]]:
    """A few records a requirement: the whole log is in evidence.jsonl beside the report."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in judgement.runs:
        if not run.evidence.exists():
            continue
        for line in run.evidence.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the line that was being written when a run was ended
            records = found.setdefault(str(record.get("requirement", "")), [])
            if len(records) < _EVIDENCE_EACH:
                records.append(_shown(record, run.name))
    return found


def _shown(record: Mapping[str, Any], view: str) -> dict[str, Any]:
    kind = record.get("kind")
    if kind == "command":
        head = f"$ {record.get('command', '')}"
        status = str(record["failed"]) if "failed" in record else f"status {record.get('status')}"
        body = "".join(str(record.get(name, {}).get("text", "")) for name in ("stdout", "stderr"))
    elif kind in ("read", "fetched"):
        head = f"{record.get('path', '')}"
        status = f"{record.get('length')} bytes" if record.get("exists") else "does not exist"
        body = str(record.get("content", f"sha256 {record['sha256']}" if "sha256" in record else ""))
    else:
        head, status = str(record.get("name", kind)), str(record.get("summary", ""))
        body = str(record.get("value", ""))
    if len(body) > _EVIDENCE_TEXT:
        body = f"{body[:_EVIDENCE_TEXT]}\n[… more in evidence.jsonl]"
    return {"view": view, "head": head[:400], "status": status, "body": body}
