"""Guests that never get to ssh: looking at them ends in errors that say why, and in a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tiny_guest import EXIT, PAUSE, kernel, say

from builder.errors import HallmarkError
from builder.looks import observe_booted
from builder.vm import machine
from builder.vm.acceleration import Acceleration
from certification import judge, report
from certification.catalogue import load as catalogue

pytestmark = pytest.mark.system

TCG = Acceleration("tcg", "the test's choice")


@contextmanager
def tiny(directory: Path, code: bytes, *, deadline: float) -> Iterator[machine.Machine]:
    """A guest of this machine's kernel that should come up and doesn't."""
    with machine.start(
        None,
        firmware="bios",
        work=directory / "work",
        logs=directory / "logs",
        acceleration=TCG,
        memory_mib=512,
        cpus=1,
        kernel=kernel(directory, code),
    ) as guest:
        guest.wait_for_ssh(deadline=deadline)
        yield guest


@pytest.mark.parametrize(
    ("code", "deadline", "message", "console"),
    [
        (EXIT, 120, "kernel panicked", "Attempted to kill init!"),
        (say(b"waiting for what never comes\n") + PAUSE, 15, "did not get to ssh", "what never comes"),
    ],
    ids=["panic", "no ssh"],
)
def test_every_requirement_is_an_error_and_the_report_shows_the_console(
    tmp_path: Path, code: bytes, deadline: float, message: str, console: str
) -> None:
    image = tmp_path / "image.vhd"
    image.write_bytes(bytes(4096))
    out = tmp_path / "out"
    observe_booted(
        image,
        guest=tiny(tmp_path, code, deadline=deadline),
        firmware="bios",
        out=out,
        logs=tmp_path / "logs",
    )
    run = judge.load_run(out)
    wanted = {entry.id for entry in catalogue() if "booted" in entry.views}
    assert {item.requirement for item in run.observations} == wanted
    assert {item.outcome for item in run.observations} == {"error"}
    assert run.record is not None and message in run.record.problems[0]
    assert any(console in line for line in run.record.console)
    judgement = judge.judge(
        [out / "observations.jsonl"], policies=["ccsp"], waivers=None, recipe="x", now=datetime.now(UTC)
    )
    assert not judgement.certified and judgement.counts["pass"] == 0
    page = report.render_html(judgement)
    assert "Serial console, booted (bios)" in page and console in page


def test_a_guest_that_cannot_be_started_at_all_says_nothing_about_the_image(tmp_path: Path) -> None:
    image = tmp_path / "image.vhd"
    with pytest.raises(HallmarkError):
        observe_booted(
            image,
            guest=machine.boot(
                image, firmware="bios", work=tmp_path / "work", logs=tmp_path / "logs", acceleration=TCG
            ),
            firmware="bios",
            out=tmp_path / "out",
            logs=tmp_path / "logs",
        )
    assert not (tmp_path / "out" / "run.json").exists()
