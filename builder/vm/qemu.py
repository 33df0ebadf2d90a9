"""QEMU's command line, as a pure function of what the guest is.

The image is the read-only bottom of a temporary overlay: a guest may write what it likes and the subject
keeps its bytes. The network is QEMU's user network, restricted: the guest reaches nothing but the forwards
that are named here, and the host reaches the guest's ssh on a loopback port.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder.errors import HallmarkError
from builder.vm.firmware import FirmwareFiles

__all__ = [
    "DirectKernel",
    "DiskFormat",
    "Guest",
    "arguments",
    "disk_format",
    "parse_virtual_size",
    "virtual_size",
]

DiskFormat = Literal["vpc", "vhdx", "qcow2", "raw"]
_SUFFIXES: dict[str, DiskFormat] = {
    ".vhd": "vpc",
    ".vhdx": "vhdx",
    ".qcow2": "qcow2",
    ".raw": "raw",
    ".img": "raw",
}
_FOOTER = 512


@dataclass(frozen=True, slots=True)
class DirectKernel:
    """A kernel that QEMU loads itself, past firmware and boot loader."""

    kernel: Path
    initrd: Path | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Guest:
    """Everything that decides QEMU's command line.

    ``overlay`` is the qcow2 file that takes the writes (None: no disk). ``seeds`` are raw read-only disks,
    attached after the first disk in this order; ``disc`` is in the DVD drive. ``network`` holds further
    options of the user network, ``forwards`` values of ``guestfwd=``. ``uuid`` is the machine's SMBIOS
    UUID. ``serial`` is appended to; ``monitor`` and ``events`` are sockets that QEMU makes,
    ``tpm`` the control socket of a TPM 2.0 emulator that runs already.
    """

    name: str
    firmware: FirmwareFiles
    accelerator: Literal["kvm", "tcg"]
    memory_mib: int
    cpus: int
    serial: Path
    monitor: Path
    events: Path
    ssh_port: int
    mac: str
    uuid: str
    image: Path | None = None
    image_format: DiskFormat = "vpc"
    overlay: Path | None = None
    seeds: tuple[Path, ...] = ()
    disc: Path | None = None
    tpm: Path | None = None
    chassis_asset_tag: str | None = None
    network: str | None = None
    forwards: tuple[str, ...] = ()
    kernel: DirectKernel | None = None
    extra: tuple[str, ...] = ()


def disk_format(image: Path) -> DiskFormat:
    """The format of an image by its file name; a fixed VHD cannot be told from a raw disk by its first bytes.

    :raises HallmarkError: the file is missing or its name ends in nothing known.
    """
    if not image.is_file():
        raise HallmarkError("there is no such image", where=image)
    if image.suffix not in _SUFFIXES:
        raise HallmarkError(
            f"the file name ends in {image.suffix or 'no suffix'!r}, which is no known disk format",
            where=image,
            hint=f"known: {', '.join(_SUFFIXES)}",
        )
    return _SUFFIXES[image.suffix]


def virtual_size(image: Path, kind: DiskFormat) -> int | None:
    """The disk's size in bytes for formats whose size follows from the file's, else None."""
    size = image.stat().st_size
    if kind == "raw":
        return size
    if kind == "vpc":
        if size <= _FOOTER or size % _FOOTER:
            raise HallmarkError(
                f"a file of {size} bytes is no fixed VHD",
                where=image,
                why="a fixed VHD is whole sectors and a footer of 512 bytes at the end",
                hint="the file is truncated or still being written: build or fetch it again",
            )
        return size - _FOOTER
    return None


def arguments(guest: Guest, *, program: str = "qemu-system-x86_64") -> tuple[str, ...]:
    """QEMU's argument vector for ``guest``."""
    firmware = guest.firmware
    argv: list[str] = [program, "-nodefaults", "-no-user-config", "-name", guest.name]
    argv += ["-machine", firmware.machine, "-uuid", guest.uuid]
    # Two threads of one emulated machine each translate for themselves; both processors are used.
    argv += ["-accel", "kvm" if guest.accelerator == "kvm" else "tcg,thread=multi"]
    # Emulated, a named model of level x86-64-v3 and not `max`: under QEMU 7.2's `max` .NET hangs as soon as
    # a program throws an exception (Nehalem and Haswell are fine, so it is one of the features beyond).
    argv += ["-cpu", "host" if guest.accelerator == "kvm" else "Haswell-noTSX"]
    argv += ["-smp", str(guest.cpus), "-m", str(guest.memory_mib)]
    argv += ["-display", "none", "-vga", "std", *firmware.options]
    if firmware.code is not None and firmware.variables is not None:
        argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_value(firmware.code)}"]
        argv += ["-drive", f"if=pflash,unit=1,format=raw,file={_value(firmware.variables)}"]
    else:
        # SeaBIOS then writes its messages ("No bootable device") to the serial line as well.
        argv[argv.index("-machine") + 1] += ",graphics=off"
    argv += ["-chardev", f"file,id=serial,path={_value(guest.serial)},append=on", "-serial", "chardev:serial"]
    argv += ["-chardev", f"socket,id=monitor,path={_value(guest.monitor)},server=on,wait=off"]
    argv += ["-mon", "chardev=monitor,mode=control"]
    # One monitor serves one client; the second is held open for the reason of QEMU's end.
    argv += ["-chardev", f"socket,id=events,path={_value(guest.events)},server=on,wait=off"]
    argv += ["-mon", "chardev=events,mode=control", "-action", "reboot=shutdown"]
    argv += ["-device", "virtio-rng-pci"]
    if guest.tpm is not None:
        argv += ["-chardev", f"socket,id=tpm,path={_value(guest.tpm)}"]
        argv += ["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]
    argv += _disks(guest)
    argv += ["-netdev", _network(guest), "-device", f"virtio-net-pci,netdev=net,mac={guest.mac},romfile="]
    if guest.chassis_asset_tag:
        argv += ["-smbios", f"type=3,asset={guest.chassis_asset_tag}"]
    if guest.kernel is not None:
        argv += ["-kernel", os.fspath(guest.kernel.kernel), "-append", guest.kernel.arguments]
        if guest.kernel.initrd is not None:
            argv += ["-initrd", os.fspath(guest.kernel.initrd)]
    return (*argv, *guest.extra)


def _disks(guest: Guest) -> Sequence[str]:
    argv: list[str] = []
    if guest.image is not None and guest.overlay is not None:
        options = [
            "if=none,id=disk,driver=qcow2,cache=unsafe,discard=unmap",
            f"file.driver=file,file.filename={_value(guest.overlay)}",
            f"backing.driver={guest.image_format},backing.read-only=on",
            f"backing.file.driver=file,backing.file.filename={_value(guest.image)},backing.file.read-only=on",
        ]
        if guest.image_format == "vpc":
            # Not the size that follows from the geometry, which is rounded: the field that Azure and
            # Hyper-V use.
            options.append("backing.force_size_calc=current_size")
        argv += ["-drive", ",".join(options), "-device", "virtio-blk-pci,drive=disk,bootindex=1"]
    for number, seed in enumerate(guest.seeds):
        argv += ["-drive", f"if=none,id=seed{number},format=raw,readonly=on,file={_value(seed)}"]
        argv += ["-device", f"virtio-blk-pci,drive=seed{number}"]
    if guest.disc is not None:
        # A drive and not one more disk: it is /dev/sr0 as in Azure, and security policies treat it so.
        argv += ["-drive", f"if=none,id=disc,format=raw,media=cdrom,readonly=on,file={_value(guest.disc)}"]
        argv += ["-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-cd,bus=scsi.0,drive=disc"]
    return argv


def _network(guest: Guest) -> str:
    # QEMU announces an IPv6 router even when nothing can be reached through it.
    parts = ["user,id=net,restrict=on,ipv6=off"]
    if guest.network:
        parts.append(guest.network)
    parts.append(f"hostfwd=tcp:127.0.0.1:{guest.ssh_port}-:22")
    parts += [f"guestfwd={forward}" for forward in guest.forwards]
    return ",".join(parts)


def _value(path: Path) -> str:
    """A path as the value of a QEMU option, in which a comma is written twice."""
    return os.fspath(path).replace(",", ",,")


def parse_virtual_size(text: str) -> int:
    """The disk's size in bytes out of ``qemu-img info --output=json``."""
    size = json.loads(text)["virtual-size"]
    if not isinstance(size, int):
        raise HallmarkError("qemu-img gives no virtual size")
    return size
