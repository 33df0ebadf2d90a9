"""Whether KVM is believed only when it is proven."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Literal

import pytest

from builder import memory
from builder.vm import acceleration
from builder.vm.acceleration import Acceleration, Sharing, Trial, side_by_side


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A device that can be opened, a machine that has just started, and the list of trials that were made."""
    device, boot_id = tmp_path / "kvm", tmp_path / "boot_id"
    device.touch()
    boot_id.write_text("first\n")
    trials: list[str] = []

    def trial(kernel: Path, *, accelerator: str, deadline: float) -> Trial:
        trials.append(accelerator)
        return Trial(True, "it ran")

    monkeypatch.setattr(acceleration, "_DEVICE", device)
    monkeypatch.setattr(acceleration, "_BOOT_ID", boot_id)
    monkeypatch.setattr(acceleration, "find_kernel", lambda: tmp_path / "vmlinuz")
    monkeypatch.setattr(acceleration, "try_linux", trial)
    return trials


def test_the_answer_holds_until_the_machine_restarts(tmp_path: Path, kvm: list[str]) -> None:
    assert acceleration.probe(cache=tmp_path).kind == "kvm"
    assert acceleration.probe(cache=tmp_path).kind == "kvm"
    assert kvm == ["kvm"]
    (tmp_path / "boot_id").write_text("second\n")
    acceleration.probe(cache=tmp_path)
    assert kvm == ["kvm", "kvm"]
    acceleration.probe(cache=tmp_path, refresh=True)
    assert len(kvm) == 3


@pytest.mark.parametrize(
    "content", ["", "not json", "[]", '{"boot_id": "first", "kind": "magic", "reason": "x"}']
)
def test_a_damaged_record_is_asked_again(tmp_path: Path, kvm: list[str], content: str) -> None:
    (tmp_path / "acceleration.json").write_text(content)
    assert acceleration.probe(cache=tmp_path).kind == "kvm"
    assert kvm == ["kvm"]
    assert json.loads((tmp_path / "acceleration.json").read_text())["kind"] == "kvm"


def test_a_guest_that_does_not_run_means_emulation(
    tmp_path: Path, kvm: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        acceleration, "try_linux", lambda *_, **__: Trial(False, "after 8 s: it printed nothing")
    )
    found = acceleration.probe(cache=tmp_path)
    assert found.kind == "tcg" and found.force_tcg
    assert "it printed nothing" in found.reason


def test_without_a_device_nothing_is_tried(
    tmp_path: Path, kvm: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceleration, "_DEVICE", tmp_path / "absent")
    assert acceleration.probe(cache=tmp_path).kind == "tcg"
    assert kvm == []


def test_without_a_kernel_the_question_stays_open(
    tmp_path: Path, kvm: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceleration, "find_kernel", lambda: None)
    assert acceleration.probe(cache=tmp_path).kind == "tcg"
    monkeypatch.setattr(acceleration, "find_kernel", lambda: tmp_path / "vmlinuz")
    assert acceleration.probe(cache=tmp_path).kind == "kvm"


@pytest.mark.system
def test_a_real_kernel_is_seen_to_run_and_a_false_one_is_not(tmp_path: Path) -> None:
    kernel = acceleration.find_kernel()
    assert kernel is not None
    assert acceleration.try_linux(kernel, accelerator="tcg", deadline=60) == Trial(True, "it ran")
    false = tmp_path / "vmlinuz"
    false.write_bytes(b"not a kernel")
    trial = acceleration.try_linux(false, accelerator="tcg", deadline=60)
    assert not trial.runs and trial.seen.startswith("QEMU ended")


@pytest.mark.system
def test_a_guest_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    kernel = acceleration.find_kernel()
    assert kernel is not None
    began = time.monotonic()
    trial = acceleration.try_linux(kernel, accelerator="tcg", deadline=0.1)
    assert not trial.runs and trial.seen.startswith("after 0.1 s")
    assert time.monotonic() - began < 5


@pytest.mark.system
def test_this_machine_gives_an_answer_in_time(tmp_path: Path) -> None:
    began = time.monotonic()
    found = acceleration.probe(cache=tmp_path, refresh=True)
    assert isinstance(found, Acceleration) and found.reason
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("kind", "processors", "gib", "expected"),
    [
        ("tcg", 1, 8, Sharing(1, 1)),
        ("tcg", 2, 8, Sharing(2, 1)),
        ("tcg", 2, 5, Sharing(1, 2)),  # memory for one only
        ("tcg", 8, 64, Sharing(2, 2)),
        ("kvm", 2, 8, Sharing(2, 2)),  # processors of its own cost a guest nothing
        ("kvm", 2, 1, Sharing(1, 2)),
    ],
)
def test_guests_share_what_the_host_has(
    monkeypatch: pytest.MonkeyPatch, kind: Literal["kvm", "tcg"], processors: int, gib: int, expected: Sharing
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    monkeypatch.setattr(memory, "available", lambda: gib << 30)
    assert side_by_side(Acceleration(kind, ""), memory_mib=3072) == expected
