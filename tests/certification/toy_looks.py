"""Looks at an image of the toy catalogue, recorded as the plugin does, and what is judged of them.

The fixture is offered to every test of certification by its conftest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from certification import catalogue as catalogues
from certification.judge import Judgement, Source, judge
from certification.model import Check, Observation, RunRecord, Subject, SupportEnd

__all__ = ["CHECK", "SAMPLE", "WAIVER", "Looks", "kinds", "looks"]

WAIVER = """
  - requirement: azure.{name}
    scope: {scope}
    owner: Somebody
    reason: It takes until spring to replace that part.
    expires: {expires}
"""
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SAMPLE = Subject(id="hallmark-sample", version="9", families=frozenset({"rhel", "centos"}), like=True)
CHECK = Check(what="x", expected="1", observed="2", ok=False)


class Looks:
    """Writes the records of looks as the plugin does."""

    def __init__(self, root: Path, catalogue: Path, policies: Path) -> None:
        self.root, self.policies = root, policies
        self.catalogue = catalogues.load(catalogue)
        self.paths: list[Path] = []

    def look(
        self,
        view: Any,
        outcomes: dict[str, Any],
        *,
        variant: str | None = None,
        complete: bool = True,
        support: tuple[SupportEnd, ...] = (),
        checks: tuple[Check, ...] = (),
        **record: Any,
    ) -> None:
        directory = self.root / f"{view}-{variant}-{len(self.paths)}"
        directory.mkdir(parents=True)
        lines = [
            Observation(
                requirement=f"azure.{name}",
                view=view,
                variant=variant,
                outcome=outcome,
                message=f"{name} in {view}" if outcome != "pass" else "",
                checks=(*checks, CHECK) if outcome == "fail" else checks,
                supported_until=support,
            ).model_dump_json()
            for name, outcome in outcomes.items()
        ]
        (directory / "observations.jsonl").write_text("\n".join(lines) + "\n")
        if complete:
            fields = {
                "view": view,
                "variant": variant,
                "subject": None if view == "format" else SAMPLE,
                "before": "b",
                "after": "b",
                "catalogue": self.catalogue.digest,
                "suites": "s",
                "started": "now",
                "seconds": 1,
            }
            (directory / "run.json").write_text(RunRecord(**{**fields, **record}).model_dump_json())
        self.paths.append(directory / "observations.jsonl")

    def good(self, *, disk: str = "pass", **changes: Any) -> None:
        """Four looks in which everything is as it should be, with ``changes`` to the format view, and what
        the ``disk`` view says.
        """
        self.look("format", {"one": "pass", "two": "pass", "four": "pass", "only-seven": "pass", **changes})
        self.look("disk", {"one": disk})
        self.look("booted", {"three": "pass", "four": "pass"}, variant="bios")
        self.look("booted", {"three": "pass", "four": "pass"}, variant="uefi")

    def judge(self, waivers: str | None = None, *, source: Source = "image") -> Judgement:
        file = None
        if waivers is not None:
            file = self.root / "waivers.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(waivers)
        return judge(
            self.paths,
            policies=["toy"],
            waivers=file,
            recipe="sample-9",
            now=NOW,
            catalogue=self.catalogue,
            policy_directory=self.policies,
            source=source,
        )


@pytest.fixture
def looks(tmp_path: Path, toy_catalogue: Path, toy_policies: Path) -> Looks:
    return Looks(tmp_path / "looks", toy_catalogue, toy_policies)


def kinds(judgement: Judgement) -> dict[str, str]:
    return {verdict.requirement.id.removeprefix("azure."): verdict.kind for verdict in judgement.verdicts}
