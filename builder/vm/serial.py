"""What the guest says on its serial line, and what that means for the boot.

The firmware, the boot loader, the kernel and systemd all write there, so a boot that cannot end well is
known long before its deadline.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Failure", "SerialLog", "clean"]

# Escape sequences of terminals (colours, cursor), and control characters other than line feed and tab.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][A-Za-z0-9]|[=>78cM]|\][^\x07]*\x07)|[\x00-\x08\x0b-\x1f\x7f]"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A line that ends the hope for this boot: ``what`` it means, the ``line`` as printed, and a ``hint``."""

    what: str
    line: str
    hint: str


# (pattern, meaning, hint). Each is printed by exactly one program and never by a boot that ends well.
_FAILURES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"(?<!end )Kernel panic - not syncing(?!: IO-APIC \+ timer)"),
        "the guest's kernel panicked",
        "a driver missing from the initramfs or a wrong root= argument are the usual causes",
    ),
    (
        re.compile(
            r"You are in emergency mode|Entering emergency mode"
            r"|Cannot open access to console, the root account is locked"
        ),
        "the guest fell into emergency mode",
        "a filesystem of /etc/fstab that cannot be mounted or a root filesystem that dracut cannot find",
    ),
    (
        re.compile(r"No bootable device|Boot failed: not a bootable disk"),
        "the BIOS found nothing to boot",
        "the boot code in the first sector or the BIOS boot partition is missing",
    ),
    (
        re.compile(r"No bootable option or device was found|UEFI Interactive Shell"),
        "the UEFI firmware found nothing to boot",
        "/EFI/BOOT/BOOTX64.EFI is missing, or the EFI system partition is not marked as one",
    ),
    (
        re.compile(
            r"grub rescue>|Minimal BASH-like line editing is supported"
            r"|Failed to boot both default and fallback entries"
        ),
        "GRUB stopped at its prompt",
        "GRUB did not find its configuration or the kernel: compare the filesystem UUIDs with grub.cfg",
    ),
    (
        re.compile(r"\[FAILED\] Failed to start (?:sshd|ssh)\.s"),
        "the guest's ssh server did not start",
        "its configuration, its host keys or a security policy: look for `avc: denied` in the serial log",
    ),
)
# An emulated timer stands still while a busy host runs something else, and Linux panics; or an emulated
# processor never hears what another one asks of it, and Linux waits for ever. As long as no program was
# started, no disk was touched, and that says nothing about the image: the guest is started again.
_EARLY = re.compile(
    r"(?P<kernel>Linux version \d)|(?P<program>Run /\S+ as init process)"
    r"|(?P<timer>(?<!end )Kernel panic - not syncing: IO-APIC \+ timer)"
    r"|(?P<deaf>BUG: soft lockup - (?:.*\n){1,12}?.*RIP: \S*smp_call_function)"
)
# Later the kernel goes on, but has written that down as a fault of its own, and is tainted.
_STALLED = re.compile(r".*BUG: soft lockup - CPU#.*")
_PROVISIONED = re.compile(r"Cloud-init v\. \S+ finished at")
_LOGIN = re.compile(r"^\S+ login: ?", re.MULTILINE)


# Bytes: what is read at once, the longest line that is remembered, and more than any boot prints.
_PIECE, _LONGEST_LINE, _FLOOD = 8 << 20, 1 << 16, 256 << 20


def clean(data: bytes) -> str:
    """Serial output as plain text: no escape sequences, line feeds alone at line ends."""
    text = data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return _ESCAPES.sub("", text)


class SerialLog:
    """Follows the file that QEMU writes the serial line to. ``poll`` reads what is new; nothing is read
    twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kernels = 0
        self.standstills = 0
        self.failure: Failure | None = None
        self.login_prompt = False
        self.provisioned = False
        self.stalled: str | None = None  # what the running kernel said when its processor had stood still
        self._early = True
        self._position = 0
        self._pending = ""

    def poll(self) -> Failure | None:
        """Read on; the first failure found so far, or None. A line counts once it is complete or matches."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._position)
                data = stream.read(_PIECE)
        except FileNotFoundError:
            return self.failure
        self._position += len(data)
        if not data:
            return self.failure
        text = self._pending + clean(data)
        complete, newline, self._pending = text.rpartition("\n")
        self._pending = self._pending[-_LONGEST_LINE:]
        # The last line is looked at too, for prompts end without a line feed, but counted once it is
        # complete.
        started = 0
        for found in _EARLY.finditer(complete + newline):
            if found.lastgroup == "kernel":
                self.kernels += 1
                self.stalled, started = None, found.end()
            if found.lastgroup in ("kernel", "program"):
                self._early = found.lastgroup == "kernel"
            elif self._early or found.lastgroup == "timer":
                self.standstills += 1
        if stalled := _STALLED.search(complete, started):
            self.stalled = stalled[0]
        self.login_prompt = self.login_prompt or bool(_LOGIN.search(text))
        self.provisioned = self.provisioned or bool(_PROVISIONED.search(text))
        if self.failure is None:
            self.failure = _find_failure(text)
        if self.failure is None and self._position > _FLOOD:
            shown = text[-200:].strip()
            self.failure = Failure(
                "the guest floods its serial line", shown, "nothing boots with that much to say"
            )
        return self.failure

    def tail(self, lines: int = 30) -> list[str]:
        """The last lines that are not empty, as plain text."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(max(0, self.path.stat().st_size - 65536))
                text = clean(stream.read())
        except FileNotFoundError:
            return []
        return [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-lines:]


def _find_failure(text: str) -> Failure | None:
    for pattern, what, hint in _FAILURES:
        match = pattern.search(text)
        if match:
            start = text.rfind("\n", 0, match.start()) + 1
            end = text.find("\n", match.end())
            line = text[start : end if end >= 0 else len(text)].strip()
            return Failure(what, line, hint)
    return None
