"""Writes what was judged: HTML for people, JUnit XML for CI systems, JSON for programs."""

from __future__ import annotations

from pathlib import Path

from builder.workspace import atomic_file
from certification.judge import Judgement
from certification.report.html import render_html
from certification.report.machine import render_json, render_junit

__all__ = ["render_html", "render_json", "render_junit", "write"]


def write(judgement: Judgement, *, html: Path, junit: Path, json: Path) -> None:
    """Write all three; each file appears under its name complete or not at all."""
    for path, text in (
        (html, render_html(judgement)),
        (junit, render_junit(judgement)),
        (json, render_json(judgement)),
    ):
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")
