"""Measure the stages on this machine and print them side by side.

    ./ci/nox -s bench              a release from a warm package cache, again unchanged, one file changed
    ./ci/nox -s bench -- build     builds only: no machine is booted
    ./ci/nox -s bench -- upload    one image uploaded in several ways (tests/bench_upload.py)

Every figure is a whole process from start to end, all of them from this one run; read the ratios, not the
seconds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from builder.run import die_with_parent
from builder.workspace import PROJECT
from tests import bench_upload

__all__ = ["main"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command line: its length in seconds, its status, and what each stage did."""

    title: str
    seconds: float
    status: int
    stages: dict[str, tuple[str, float]] = field(default_factory=dict)


def main(words: list[str]) -> int:
    """Run the cases and print the table; the value is 1 when a case failed."""
    if words[:1] == ["upload"]:
        return bench_upload.main(words[1:])
    verb = words[0] if words else "release"
    space = Path(tempfile.mkdtemp(prefix="hallmark-bench-", dir="/var/tmp"))
    try:
        recipe = _recipe(space, "first")
        _measure("warm the package cache", ["sample-distribution"], space)
        runs = [_measure(f"{verb}, nothing there yet", [verb, str(recipe)], space)]
        runs.append(_measure(f"{verb}, nothing changed", [verb, str(recipe)], space))
        _recipe(space, "second")
        runs.append(_measure("build, one installed file changed", ["build", str(recipe)], space))
    finally:
        shutil.rmtree(space, ignore_errors=True)
    _print(runs)
    return int(any(run.status for run in runs))


def _recipe(space: Path, text: str) -> Path:
    """The sample recipe with one more installed file."""
    images = space / "images"
    if not images.exists():
        shutil.copytree(PROJECT / "images", images)
    recipe = images / "sample-9.yaml"
    original = (PROJECT / "images" / "sample-9.yaml").read_text()
    head, found, tail = original.partition("\nfiles:\n")
    assert found, "the sample recipe installs files"
    recipe.write_text(f"{head}{found}  /etc/motd.d/bench:\n    content: |\n      {text}\n{tail}")
    return recipe


def _measure(title: str, words: list[str], space: Path) -> Run:
    print(f"… {title}", flush=True)
    argv = [sys.executable, "-m", "builder.cli", *words, "--json", "--build-dir", str(space / "build")]
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, preexec_fn=die_with_parent)
    seconds = time.monotonic() - began
    stages: dict[str, tuple[str, float]] = {}
    for line in done.stdout.splitlines():
        record = json.loads(line) if line.startswith("{") else {}
        if record.get("event") == "stages":
            stages = {stage["name"]: (stage["state"], stage["seconds"]) for stage in record["stages"]}
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
    return Run(title, seconds, done.returncode, stages)


def _print(runs: list[Run]) -> None:
    names = list(dict.fromkeys(name for run in runs for name in run.stages))
    table = Table("stage", *(run.title for run in runs))
    for name in names:
        cells = []
        for run in runs:
            state, seconds = run.stages.get(name, ("–", 0.0))
            cells.append(f"{seconds:.1f} s" if state == "done" else state)
        table.add_row(name, *cells)
    whole = [f"{run.seconds:.1f} s ({run.seconds / runs[0].seconds:.2f}×)" for run in runs]
    table.add_row("[bold]whole process (ratio to the first)[/bold]", *whole)
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
