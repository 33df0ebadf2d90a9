"""What the serial line's text means for a boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.vm.serial import SerialLog, clean

BOOT = (
    b"\x1b[2J\x1b[01;01HBdsDxe: starting Boot0001\r\n"
    b"[    0.000000] Linux version 6.1.0-56-cloud-amd64 (gcc-12)\r\n"
    b"[    1.2] Run /init as init process\r\n"
    b"[\x1b[0;32m  OK  \x1b[0m] Reached target multi-user.target.\r\n"
)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (
            "[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700",
            "kernel panicked",
        ),
        ("[    3.1] Kernel panic - not syncing: VFS: Unable to mount root fs", "kernel panicked"),
        ("You are in emergency mode. After logging in, type ...", "emergency mode"),
        ("Entering emergency mode. Exit the shell to continue.", "emergency mode"),
        ("Cannot open access to console, the root account is locked.", "emergency mode"),
        ("No bootable device.", "BIOS found nothing"),
        ("BdsDxe: No bootable option or device was found.", "UEFI firmware found nothing"),
        ("UEFI Interactive Shell v2.2", "UEFI firmware found nothing"),
        ("grub rescue> ", "GRUB stopped"),
        (
            "[\x1b[0;1;31mFAILED\x1b[0m] Failed to start sshd.service - OpenSSH server daemon.",
            "ssh server did",
        ),
        ("   Minimal BASH-like line editing is supported. For the first word, TAB", "GRUB stopped"),
    ],
)
def test_each_hopeless_state_is_recognised(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "serial"
    path.write_bytes(BOOT)
    watch = SerialLog(path)
    assert watch.poll() is None
    with path.open("ab") as stream:
        stream.write(line.encode())  # no line feed yet: a prompt must count as well
    failure = watch.poll()
    assert failure is not None and what in failure.what
    assert failure.line == clean(line.encode()).strip()
    assert failure.hint


def test_a_boot_that_ends_well_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    path.write_bytes(BOOT + b"\r\nDebian GNU/Linux 12 host ttyS0\r\n\r\nhost login: ")
    watch = SerialLog(path)
    assert watch.poll() is None and not watch.provisioned
    assert watch.kernels == 1 and watch.login_prompt
    with path.open("ab") as stream:
        stream.write(
            b"[ 84.5] cloud-init[483]: Cloud-init v. 22.4.2 finished at Sun, 22 Nov 2026 16:13:44 +0000."
        )
    assert watch.poll() is None and watch.provisioned


def test_a_timer_that_stood_still_is_the_fault_of_the_host(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    text = "Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug"
    path.write_bytes(BOOT + f"[ 0.01] {text}\r\n[ 0.02] ---[ end {text} ]---\r\n".encode())
    watch = SerialLog(path)
    assert watch.poll() is None
    assert watch.standstills == 1


@pytest.mark.parametrize(
    ("before", "place", "counted"),
    [
        ("", "smp_call_function_many_cond+0xf1/0x330", 1),
        ("", "native_queued_spin_lock_slowpath+0x6a/0x2a0", 0),  # the image's own kernel may be at fault
        ("[ 1.2] Run /init as init process\r\n", "smp_call_function_many_cond+0xf1/0x330", 0),  # too late
    ],
)
def test_a_processor_that_never_answers_is_the_fault_of_the_emulator(
    tmp_path: Path, before: str, place: str, counted: int
) -> None:
    path = tmp_path / "serial"
    stuck = (
        "[   48.336933] watchdog: BUG: soft lockup - CPU#0 stuck for 45s! [kworker/u4:1:25]\r\n"
        "[   48.336933] Modules linked in:\r\n"
        "[   48.336933] CPU: 0 PID: 25 Comm: kworker/u4:1 Not tainted 6.1.0-56-cloud-amd64 #1\r\n"
        "[   48.336933] Workqueue: events_unbound async_run_entry_fn\r\n"
        f"[   48.336933] RIP: 0010:{place}\r\n[   48.336933] Call Trace:\r\n"
    )
    path.write_bytes(f"[ 0.0] Linux version 6.1.0\r\n{before}{stuck}".encode())
    watch = SerialLog(path)
    assert watch.poll() is None
    assert watch.standstills == counted


def test_a_processor_that_stood_still_is_remembered_until_the_next_kernel(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    stuck = "[  100.996279] watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [modprobe:552]"
    path.write_bytes(BOOT + f"[ 1.2] Run /init as init process\r\n{stuck}\r\nmore\r\n".encode())
    watch = SerialLog(path)
    assert watch.poll() is None and watch.standstills == 0
    assert watch.stalled == stuck
    with path.open("ab") as stream:
        stream.write(BOOT)
    watch.poll()
    assert watch.stalled is None


def test_a_message_that_arrives_in_pieces_is_found_once(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    watch = SerialLog(path)
    assert watch.poll() is None  # QEMU has not made the file yet
    for piece in (
        b"[ 0.0] Linux ver",
        b"sion 6.1.0\r\n[ 1.0] Kernel pa",
        b"nic - not syncing: x\r\nmore\r\n",
    ):
        with path.open("ab") as stream:
            stream.write(piece)
        failure = watch.poll()
    assert watch.kernels == 1
    assert failure is not None and failure.line == "[ 1.0] Kernel panic - not syncing: x"
    assert watch.poll() == failure


def test_resets_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    path.write_bytes(BOOT * 3)
    watch = SerialLog(path)
    watch.poll()
    assert watch.kernels == 3


def test_the_tail_is_plain_text_without_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "serial"
    path.write_bytes(BOOT + b"\r\n\r\n")
    assert SerialLog(path).tail(2) == [
        "[    1.2] Run /init as init process",
        "[  OK  ] Reached target multi-user.target.",
    ]
    assert SerialLog(tmp_path / "absent").tail() == []
    assert clean(b"\xff\x00a\tb\r\n") == "\ufffda\tb\n"
