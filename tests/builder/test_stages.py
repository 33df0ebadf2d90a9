"""A stage runs once for the same inputs, and again when an input or an output changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.stages import Published, run_stage
from builder.workspace import Artefacts


@pytest.fixture
def place(tmp_path: Path) -> Artefacts:
    artefacts = Artefacts(tmp_path / "9.20260101.0")
    artefacts.stages.mkdir(parents=True)
    return artefacts


class Counter:
    """Counts how often a stage's work was really done."""

    def __init__(self, place: Artefacts) -> None:
        self.place = place
        self.runs = 0

    def stage(self, **inputs: str) -> str:
        def make() -> None:
            self.runs += 1
            self.place.image.write_text(f"run {self.runs}")

        return run_stage(
            self.place, "image", title="image", inputs=inputs, outputs=(self.place.image,), make=make
        ).state


def test_the_same_inputs_run_once(place: Artefacts) -> None:
    counter = Counter(place)
    assert [counter.stage(a="1"), counter.stage(a="1")] == ["done", "up to date"]
    assert counter.runs == 1


def test_a_changed_input_runs_again(place: Artefacts) -> None:
    counter = Counter(place)
    assert [counter.stage(a="1"), counter.stage(a="2")] == ["done", "done"]


def test_a_changed_or_missing_output_runs_again(place: Artefacts) -> None:
    counter = Counter(place)
    counter.stage(a="1")
    place.image.write_text("edited!")
    assert counter.stage(a="1") == "done"
    place.image.unlink()
    assert counter.stage(a="1") == "done"
    assert counter.runs == 3


def test_a_failure_leaves_no_stamp(place: Artefacts) -> None:
    counter = Counter(place)
    counter.stage(a="1")

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_stage(place, "image", title="image", inputs={"a": "2"}, outputs=(), make=fail)
    assert counter.stage(a="1") == "done"


def test_a_damaged_stamp_counts_as_none(place: Artefacts) -> None:
    counter = Counter(place)
    counter.stage(a="1")
    (place.stages / "image.json").write_text("{half")
    assert counter.stage(a="1") == "done"


def test_what_is_published_is_never_made_again(place: Artefacts) -> None:
    counter = Counter(place)
    counter.stage(a="1")
    place.release.write_text("{}")
    assert counter.stage(a="1") == "up to date"
    with pytest.raises(Published, match=r"9\.20260101\.0 .* is published"):
        counter.stage(a="2")
    assert counter.stage(a="1") == "up to date", "what was refused must leave everything as it was"
    assert place.image.read_text() == "run 1"
    again = run_stage(place, "certificate", title="judge", inputs={}, outputs=(), make=lambda: None)
    assert again.state == "done", "a published image may be certified again"
