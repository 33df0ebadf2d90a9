"""Real guests, small enough to start in seconds: how a failed boot is found, and that nothing is left behind.

Each guest is this machine's kernel with an init of a few instructions, assembled here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from tiny_guest import EXIT, PAUSE, POWER_OFF, initramfs, kernel, say

from builder.errors import HallmarkError
from builder.vm import machine, qemu
from builder.vm.acceleration import Acceleration, find_kernel
from builder.vm.firmware import Firmware
from builder.vm.serial import SerialLog
from builder.workspace import digest_file

pytestmark = pytest.mark.system

TCG = Acceleration("tcg", "the test's choice")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Directories for work and logs; afterwards nothing of the guest is left in the first."""
    work, logs = tmp_path / "work, with a comma", tmp_path / "logs"
    yield work, logs
    assert list(work.iterdir()) == []


def _boot(kernel: qemu.DirectKernel, places: tuple[Path, Path], *, deadline: float) -> None:
    work, logs = places
    with machine.start(
        None, firmware="bios", work=work, logs=logs, acceleration=TCG, memory_mib=512, cpus=1, kernel=kernel
    ) as guest:
        try:
            guest.wait_for_ssh(deadline=deadline)
        finally:
            pid = guest.process.pid
    pytest.fail(f"QEMU {pid} answered")


@pytest.mark.parametrize(
    ("code", "what", "said"),
    [
        (EXIT, "kernel panicked", "Attempted to kill init!"),
        (
            say(b"You are in emergency mode. Press Enter\n") + PAUSE,
            "emergency mode",
            "You are in emergency",
        ),
        (POWER_OFF, "QEMU ended with status 0", "Power down"),
    ],
    ids=["panic", "emergency mode", "power off"],
)
def test_a_failed_boot_is_found_long_before_its_deadline(
    tmp_path: Path, places: tuple[Path, Path], code: bytes, what: str, said: str
) -> None:
    began = time.monotonic()
    with pytest.raises(HallmarkError, match=what) as caught:
        _boot(kernel(tmp_path, code), places, deadline=120)
    assert time.monotonic() - began < 60
    assert any(said in line for line in caught.value.details), caught.value.details
    assert caught.value.where == places[1] / "serial-bios.log"
    assert caught.value.hint


def test_a_guest_whose_timer_stood_still_is_started_again_but_not_for_ever(
    tmp_path: Path, places: tuple[Path, Path]
) -> None:
    said = b"<0>Kernel panic - not syncing: IO-APIC + timer doesn't work!\n"
    with pytest.raises(HallmarkError, match="the guest started its kernel") as caught:
        _boot(kernel(tmp_path, say(said) + PAUSE), places, deadline=15)
    serial = (places[1] / "serial-bios.log").read_text(errors="replace")
    assert serial.count("Linux version") > 1
    assert caught.value.details


def test_a_guest_that_hangs_is_ended_at_its_deadline(tmp_path: Path, places: tuple[Path, Path]) -> None:
    began = time.monotonic()
    with pytest.raises(
        HallmarkError, match=r"after 12 s the guest started its kernel but did not get to ssh"
    ):
        _boot(kernel(tmp_path, PAUSE), places, deadline=12)
    assert time.monotonic() - began < 30


def test_a_kernel_that_is_none_is_reported_with_the_words_of_qemu(
    tmp_path: Path, places: tuple[Path, Path]
) -> None:
    kernel = qemu.DirectKernel(tmp_path / "absent", None, "")
    with pytest.raises(HallmarkError, match="QEMU ended with status 1") as caught:
        _boot(kernel, places, deadline=30)
    assert any("could not open kernel file" in line for line in caught.value.details)


@pytest.mark.parametrize(
    ("firmware", "what"), [("bios", "BIOS found nothing"), ("uefi", "UEFI firmware found nothing")]
)
def test_a_disk_without_boot_loader_is_found_by_either_firmware(
    tmp_path: Path, places: tuple[Path, Path], firmware: Firmware, what: str
) -> None:
    image = tmp_path / "empty.raw"
    with image.open("wb") as stream:
        stream.truncate(8 << 20)
    before = digest_file(image)
    work, logs = places
    began = time.monotonic()
    with (
        pytest.raises(HallmarkError, match=what),
        machine.boot(image, firmware=firmware, work=work, logs=logs, acceleration=TCG, deadline=180),
    ):
        pytest.fail("an empty disk answered by ssh")
    assert time.monotonic() - began < 120
    assert digest_file(image) == before


class _Stalled:
    """A machine that came up, although its emulator stood still meanwhile."""

    serial = Path("serial")

    def __init__(self, log: Path) -> None:
        log.write_text(
            "Linux version 6.1\n[ 100.9] watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [x:1]\n"
        )
        self.watch = SerialLog(log)

    def wait_for_ssh(self, *, deadline: float) -> None:
        pass


@pytest.mark.parametrize(("kind", "machines"), [("tcg", 2), ("kvm", 1)])
def test_where_the_emulator_stood_still_another_machine_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Literal["tcg", "kvm"], machines: int
) -> None:
    made: list[_Stalled] = []

    @contextmanager
    def start(*arguments: object, **options: object) -> Iterator[_Stalled]:
        made.append(_Stalled(tmp_path / "log"))
        yield made[-1]

    monkeypatch.setattr(machine, "start", start)
    chosen = Acceleration(kind, "the test's choice")
    place = tmp_path / "image.vhd"
    with machine.boot(
        place, firmware="bios", work=tmp_path, logs=tmp_path, acceleration=chosen, shutdown=0
    ) as up:
        assert up is made[-1]  # type: ignore[comparison-overlap]
    assert len(made) == machines


def test_a_killed_hallmark_leaves_no_guest(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from builder.vm import machine, qemu
from builder.vm.acceleration import Acceleration
here = Path({str(tmp_path)!r})
kernel = qemu.DirectKernel(Path({str(find_kernel())!r}), here / "initramfs", "console=ttyS0")
with machine.start(None, firmware="bios", work=here / "w", logs=here / "l", memory_mib=512, cpus=1,
                   acceleration=Acceleration("tcg", ""), kernel=kernel) as guest:
    print(guest.process.pid, flush=True)
    guest.wait_for_ssh(deadline=100)
"""
    initramfs(tmp_path / "initramfs", PAUSE)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        qemu_id = int(parent.stdout.readline())
        os.kill(qemu_id, 0)
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while time.monotonic() < end and _runs(qemu_id):
        time.sleep(0.1)
    assert not _runs(qemu_id)


def _runs(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_the_disk_can_only_be_enlarged(tmp_path: Path, places: tuple[Path, Path]) -> None:
    image = tmp_path / "disk.raw"
    with image.open("wb") as stream:
        stream.truncate(8 << 20)
    work, logs = places
    with (
        pytest.raises(HallmarkError, match="a disk of 4 MiB is smaller"),
        machine.start(image, firmware="bios", work=work, logs=logs, acceleration=TCG, disk_mib=4),
    ):
        pytest.fail("started")
