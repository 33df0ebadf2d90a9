"""What a guest leaves when its Hallmark is killed: gone at the next start. What is in use: left alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.vm import machine
from builder.vm.acceleration import Acceleration
from builder.vm.shell import interactive

TCG = Acceleration("tcg", "the test's choice")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What no guest is started from: the attempt ends just before."""
    path = tmp_path / "image.vhd"
    path.write_bytes(b"no VHD at all" * 100)
    return path


def test_disk_and_key_of_a_killed_boot_are_deleted(
    tmp_path: Path, image: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A path that is too long for a socket, so that sockets are apart.
    work, sockets = tmp_path / ("work" * 20), tmp_path / "t"
    monkeypatch.setattr(tempfile, "tempdir", str(sockets))
    left = [work / f"vm-{dead}.abc", sockets / f"hallmark-vm-{dead}.abc"]
    kept = [work / "vm-1.abc", sockets / "hallmark-vm-1.abc", sockets / "hallmark-key-abc"]
    for directory in (*left, *kept):
        directory.mkdir(parents=True)
    with (
        pytest.raises(HallmarkError),
        machine.start(image, firmware="bios", work=work, logs=tmp_path / "logs", acceleration=TCG),
    ):
        pytest.fail("a guest was started")
    assert sorted([*work.iterdir(), *sockets.iterdir()]) == sorted(kept)


def test_every_boot_of_a_person_has_logs_of_its_own(tmp_path: Path, image: Path, dead: int) -> None:
    work = tmp_path / "work"
    (work / f"boot-{dead}.abc").mkdir(parents=True)
    other = work / "boot-1.abc"
    other.mkdir()
    said = other / "serial-bios.log"
    said.write_text("what another guest said")
    for _ in range(2):
        with pytest.raises(HallmarkError):
            interactive(image, firmware="bios", work=work, acceleration=TCG)
    assert said.read_text() == "what another guest said"
    names = [path.name.partition(".")[0] for path in work.iterdir()]
    assert len(names) == 3 and f"boot-{dead}" not in names
