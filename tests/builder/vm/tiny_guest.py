"""Real guests that start in seconds, for tests: this machine's kernel, and an init of a few instructions."""

from __future__ import annotations

import struct
from pathlib import Path

from builder.vm import qemu
from builder.vm.acceleration import find_kernel

__all__ = ["EXIT", "PAUSE", "POWER_OFF", "initramfs", "kernel", "say"]

_LOAD = 0x400000

# x86-64 Linux system calls: mov eax, NUMBER; ...; syscall. Source: syscall(2), the System V ABI.
EXIT = b"\xb8\x3c\x00\x00\x00\xbf\x07\x00\x00\x00\x0f\x05"  # exit(7)
PAUSE = b"\xb8\x22\x00\x00\x00\x0f\x05\xeb\xf7"  # pause() for ever
# reboot(0xfee1dead, 672274793, LINUX_REBOOT_CMD_POWER_OFF)
POWER_OFF = b"\xbf\xad\xde\xe1\xfe\xbe\x69\x19\x12\x28\xba\xdc\xfe\x21\x43\xb8\xa9\x00\x00\x00\x0f\x05"


def say(text: bytes) -> bytes:
    """write(1, text, length), the text right behind the call."""
    code = b"\xb8\x01\x00\x00\x00\xbf\x01\x00\x00\x00\x48\x8d\x35\x09\x00\x00\x00"
    return (
        code
        + b"\xba"
        + struct.pack("<I", len(text))
        + b"\x0f\x05"
        + b"\xeb"
        + struct.pack("B", len(text))
        + text
    )


def _elf(code: bytes) -> bytes:
    """A static executable with one segment that holds ``code``."""
    size = 64 + 56
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _LOAD + size, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    length = size + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, _LOAD, _LOAD, length, length, 0x1000)
    return head + segment + code


def initramfs(path: Path, code: bytes) -> Path:
    """A cpio archive (newc) with /init and the end mark."""
    archive = b""
    for name, mode, data in (("init", 0o100755, _elf(code)), ("TRAILER!!!", 0, b"")):
        fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
    path.write_bytes(archive)
    return path


def kernel(directory: Path, code: bytes) -> qemu.DirectKernel:
    found = find_kernel()
    assert found is not None, "the system tests need a kernel below /boot"
    return qemu.DirectKernel(
        found, initramfs(directory / "initramfs", code), "console=ttyS0 quiet loglevel=6"
    )
