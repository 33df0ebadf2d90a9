"""Examines the host before a build does: what is there, what is missing, and what to do about it."""

from __future__ import annotations

from builder.doctor.finding import Finding
from builder.doctor.host import examine, report

__all__ = ["Finding", "examine", "report"]
