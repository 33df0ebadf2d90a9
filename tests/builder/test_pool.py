"""Jobs side by side: never more than there are places, none in the way of another, all ended together."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from builder import log, memory
from builder.pool import Pool, places
from builder.run import run, spawn
from builder.stages import StageReport, run_stage
from builder.workspace import Artefacts

LONG = ["sleep", "600"]


@pytest.mark.parametrize(
    ("wanted", "processors", "gib", "expected"), [(9, 4, 64, 4), (9, 16, 4, 4), (2, 16, 64, 2), (9, 4, 0, 1)]
)
def test_processors_and_memory_bound_it(
    monkeypatch: pytest.MonkeyPatch, wanted: int, processors: int, gib: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    monkeypatch.setattr(memory, "available", lambda: gib << 30)
    assert places(wanted, memory_mib=1024) == expected


def test_no_more_at_once_than_there_are_places_and_one_failure_stops_nobody() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def job(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        if number == 3:
            raise ValueError(number)
        return number

    with Pool(3) as pool:
        futures = [pool.submit(lambda n=n: job(n)) for n in range(12)]  # type: ignore[misc]
    assert most == 3
    assert isinstance(futures.pop(3).exception(), ValueError)
    assert [future.result() for future in futures] == [0, 1, 2, *range(4, 12)]


def test_lines_say_which_image_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> None:
        with log.step("look"):
            log.warn("odd")

    log.configure(mode="json")
    with Pool(2) as pool:
        for name in ("first-9", "second-9"):
            with log.about(name):
                pool.submit(job)
    log.info("of no image")
    lines = capsys.readouterr().out.splitlines()
    for name in ("first-9", "second-9"):
        own = [line for line in lines if f'"image": "{name}"' in line]
        assert len(own) == 3 and any('"odd"' in line for line in own)
    assert '"image"' not in lines[-1] and "of no image" in lines[-1]


def started(directory: Path) -> list[int]:
    """The processes that announced themselves, once there are two."""
    end = time.monotonic() + 30
    while len(found := [int(path.name) for path in directory.iterdir()]) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_an_interruption_ends_what_runs_and_begins_nothing_more(tmp_path: Path) -> None:
    """As Ctrl-C does while guests run: nobody waits for them, and no stage counts as done."""
    announced = tmp_path / "announced"
    announced.mkdir()
    artefacts = Artefacts(tmp_path / "9.20260101.0")
    artefacts.stages.mkdir(parents=True)
    announce = ["sh", "-c", f"touch {announced}/$$; exec sleep 600"]

    def waits() -> None:
        run(announce)

    def takes_its_end_for_a_result() -> None:
        with spawn(announce, log_file=tmp_path / "log") as process:
            process.wait()

    def never() -> None:
        (tmp_path / "begun").touch()

    def stage(name: str) -> StageReport:
        make = {"one": waits, "two": takes_its_end_for_a_result, "three": never}[name]
        return run_stage(artefacts, name, title=name, inputs={}, outputs=(), make=make)

    began = time.monotonic()
    with spawn(LONG, log_file=tmp_path / "other") as outside:
        with suppress(KeyboardInterrupt), Pool(2) as pool:
            futures = [pool.submit(lambda n=n: stage(n)) for n in ("one", "two", "three")]  # type: ignore[misc]
            pids = started(announced)
            raise KeyboardInterrupt
        assert outside.poll() is None, "a program that no job started goes on"
    assert time.monotonic() - began < 60
    assert isinstance(futures[0].exception(), KeyboardInterrupt)
    assert isinstance(futures[1].exception(), KeyboardInterrupt)
    assert futures[2].cancelled() and not (tmp_path / "begun").exists()
    assert len(pids) == 2 and not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)
    assert list(artefacts.stages.iterdir()) == [], "the next run does it again"
