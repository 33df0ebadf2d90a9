"""The firmware that a guest starts with, as data.

``bios`` is SeaBIOS, which QEMU carries itself and which stands for a generation 1 machine; ``uefi`` is
OVMF, which stands for generation 2; ``uefi-secure`` is OVMF with Microsoft's keys enrolled and Secure Boot
on, and a TPM beside it, which stands for Trusted Launch. OVMF keeps its variables in a second flash chip:
every guest gets its own copy, so that no boot entry of one guest is seen by the next.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from builder.errors import HallmarkError

__all__ = ["FIRMWARES", "Firmware", "FirmwareFiles", "locate", "prepare"]

Firmware = Literal["bios", "uefi", "uefi-secure"]
FIRMWARES: tuple[Firmware, ...] = ("bios", "uefi", "uefi-secure")

# (code, variables) pairs in order of preference. Debian and Ubuntu: package ovmf; Fedora and EL: edk2-ovmf.
_OVMF: dict[str, tuple[tuple[str, str], ...]] = {
    "uefi": (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
        ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ),
    "uefi-secure": (
        ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ),
}
# Secure Boot's variables are writable from System Management Mode only.
_SECURE = ("-global", "driver=cfi.pflash01,property=secure,value=on")


@dataclass(frozen=True, slots=True)
class FirmwareFiles:
    """What QEMU needs for one firmware.

    ``code`` is opened read-only, ``variables`` belongs to one guest alone; both are None for the BIOS.
    ``machine`` is the value of QEMU's ``-machine``. ``options`` are further arguments that this firmware
    needs. ``tpm``: a TPM 2.0 belongs to it.
    """

    kind: Firmware
    machine: str
    code: Path | None = None
    variables: Path | None = None
    options: tuple[str, ...] = ()
    tpm: bool = False


def locate(kind: Firmware) -> FirmwareFiles:
    """The firmware files as installed; ``variables`` is then the template, not a copy.

    :raises HallmarkError: the kind is unknown or its files are not installed.
    """
    if kind == "bios":
        return FirmwareFiles("bios", "pc")
    if kind not in _OVMF:
        raise HallmarkError(f"unknown firmware {kind!r}", hint=f"use one of: {', '.join(FIRMWARES)}")
    for code, variables in _OVMF[kind]:
        if Path(code).is_file() and Path(variables).is_file():
            if kind == "uefi-secure":
                return FirmwareFiles(kind, "q35,smm=on", Path(code), Path(variables), _SECURE, tpm=True)
            return FirmwareFiles(kind, "q35,smm=off", Path(code), Path(variables))
    raise HallmarkError(
        "the UEFI firmware for guests (OVMF) is not installed",
        why="a generation 2 machine boots by UEFI, so the image has to be booted by it",
        hint="./ci/nox installs it: package ovmf (Debian, Ubuntu) or edk2-ovmf (Fedora, Enterprise Linux)",
        details=[f"looked for {code}" for code, _ in _OVMF[kind]],
    )


def prepare(kind: Firmware, *, work: Path) -> FirmwareFiles:
    """The firmware with its own writable copy of the variables in ``work``.

    :raises HallmarkError: see ``locate``.
    """
    files = locate(kind)
    if files.variables is None:
        return files
    own = work / "firmware-variables.fd"
    shutil.copyfile(files.variables, own)
    return replace(files, variables=own)
