"""Whether the processor's virtualisation really works here.

``/dev/kvm`` that can be opened proves nothing: on some hosts (nested virtualisation above all) a guest then
hangs at its first 64-bit instruction. So a real 64-bit Linux kernel is started under KVM for a few seconds,
and only a kernel that gets as far as looking for its root filesystem counts. The answer holds until the
machine is restarted.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder import log, run
from builder.errors import HallmarkError
from builder.pool import places
from builder.vm.serial import clean
from builder.workspace import atomic_file

__all__ = ["Acceleration", "Sharing", "Trial", "find_kernel", "probe", "side_by_side", "try_linux"]

_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DEADLINE = 8.0
# The banner alone comes from early code; the second message proves that user space was about to start.
_BANNER = re.compile(r"Linux version \d")
_RUNS = re.compile(
    r"Run /\S+ as init process|VFS: (?:Cannot open|Unable to mount) root|Kernel panic - not syncing"
)


@dataclass(frozen=True, slots=True)
class Acceleration:
    """``kvm`` or ``tcg`` (emulation), and the ``reason`` in words."""

    kind: Literal["kvm", "tcg"]
    reason: str

    @property
    def force_tcg(self) -> bool:
        """Whether libguestfs must be told not to use KVM."""
        return self.kind == "tcg"


@dataclass(frozen=True, slots=True)
class Sharing:
    """How many ``guests`` this host runs at once, and with how many processors (``cpus``) each."""

    guests: int
    cpus: int


def side_by_side(acceleration: Acceleration, *, memory_mib: int, wanted: int = 2) -> Sharing:
    """How guests that may run at the same time share this host best.

    An emulated processor keeps a whole one of the host's busy, and two of one guest wait for each other:
    on two processors, two emulated guests with one each take two thirds of the time that they take one after
    the other with two each.

    :param memory_mib: what one guest takes, with its emulator.
    :param wanted: how many guests there are at most.
    """
    guests = places(wanted, memory_mib=memory_mib)
    if acceleration.kind == "kvm":
        return Sharing(guests, 2)
    return Sharing(guests, max(1, min(2, len(os.sched_getaffinity(0)) // guests)))


def probe(*, cache: Path, refresh: bool = False) -> Acceleration:
    """Which accelerator guests get. Takes up to 8 s once per start of the machine, then nothing.

    :param cache: directory that remembers the answer.
    :param refresh: ask again even if it is remembered.
    """
    record = cache / "acceleration.json"
    boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    if not refresh:
        remembered = _read(record, boot_id)
        if remembered is not None:
            return remembered
    kernel = find_kernel()
    result = _probe(kernel)
    if kernel is None and result.kind == "tcg" and _DEVICE.exists():
        return result  # not proven either way: ask again once a kernel is there
    with atomic_file(record) as path:
        path.write_text(json.dumps({"boot_id": boot_id, "kind": result.kind, "reason": result.reason}) + "\n")
    return result


def find_kernel() -> Path | None:
    """The newest kernel on this machine that can serve as a test: the system's, or libguestfs's
    appliance's."""
    patterns = (
        ("/boot", "vmlinuz-*"),
        ("/usr/lib/modules", "*/vmlinuz"),
        ("/var/tmp", ".guestfs-*/appliance.d/kernel"),
    )
    for directory, pattern in patterns:
        found = [path for path in Path(directory).glob(pattern) if os.access(path, os.R_OK)]
        if found:
            return max(found, key=lambda path: path.stat().st_mtime)
    return None


@dataclass(frozen=True, slots=True)
class Trial:
    """Whether the kernel ``runs``, and what was ``seen`` last, for the reason."""

    runs: bool
    seen: str


def try_linux(kernel: Path, *, accelerator: Literal["kvm", "tcg"], deadline: float) -> Trial:
    """Start ``kernel`` without any disk and see whether it runs; QEMU is ended in any case.

    :param deadline: seconds.
    :raises HallmarkError: QEMU is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="hallmark-probe-") as directory:
        output = Path(directory) / "serial"
        argv = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "pc"),
            *(
                "-accel",
                accelerator,
                "-cpu",
                "host" if accelerator == "kvm" else "max",
                "-m",
                "256",
                "-nographic",
                "-no-reboot",
            ),
            *("-serial", "stdio", "-kernel", os.fspath(kernel)),
            *("-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"),
        ]
        end = time.monotonic() + deadline
        with run.spawn(argv, log_file=output, grace=0.5) as process:
            while True:
                ended = process.poll() is not None
                text = clean(output.read_bytes())
                if _BANNER.search(text) and _RUNS.search(text):
                    return Trial(True, "it ran")
                if ended:
                    return Trial(False, "QEMU ended: " + _last_line(text))
                if time.monotonic() >= end:
                    return Trial(False, f"after {deadline:g} s: " + _last_line(text))
                time.sleep(0.1)


def _probe(kernel: Path | None) -> Acceleration:
    if not _DEVICE.exists():
        return Acceleration("tcg", f"{_DEVICE} does not exist: guests are emulated")
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Acceleration("tcg", f"{_DEVICE} may not be opened by this user: guests are emulated")
    if kernel is None:
        return Acceleration("tcg", "no kernel was found with which KVM could be tried: guests are emulated")
    log.debug(f"trying KVM with {kernel}")
    try:
        trial = try_linux(kernel, accelerator="kvm", deadline=_DEADLINE)
    except HallmarkError as error:
        return Acceleration("tcg", f"KVM could not be tried: {error.what}")
    if trial.runs:
        return Acceleration("kvm", f"a 64-bit Linux guest ran under KVM ({kernel.name})")
    return Acceleration("tcg", f"{_DEVICE} opens, but no 64-bit Linux guest runs under KVM ({trial.seen})")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "it printed nothing"


def _read(record: Path, boot_id: str) -> Acceleration | None:
    try:
        data = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or not boot_id or data.get("boot_id") != boot_id:
        return None
    if data.get("kind") not in ("kvm", "tcg") or not isinstance(data.get("reason"), str):
        return None
    return Acceleration(data["kind"], data["reason"])
