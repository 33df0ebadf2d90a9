"""QEMU's command line, disk formats and firmware files."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.vm import azure, firmware, qemu
from builder.vm.firmware import FirmwareFiles

BIOS = FirmwareFiles("bios", "pc")
UEFI = FirmwareFiles("uefi", "q35,smm=off", Path("/fw/code.fd"), Path("/w/vars.fd"))


def guest(**changes: object) -> qemu.Guest:
    values: dict[str, object] = {
        "name": "test",
        "firmware": BIOS,
        "accelerator": "tcg",
        "memory_mib": 2048,
        "cpus": 2,
        "serial": Path("/l/serial.log"),
        "monitor": Path("/s/qmp"),
        "events": Path("/s/events"),
        "ssh_port": 2222,
        "mac": "02:00:00:00:00:01",
        "uuid": "0b4d7c52-7b0a-4b3c-9f0e-000000000001",
        "image": Path("/i/image.vhd"),
        "overlay": Path("/w/overlay.qcow2"),
    }
    return qemu.Guest(**{**values, **changes})  # type: ignore[arg-type] # the changes are the test's own


def after(argv: tuple[str, ...], option: str) -> list[str]:
    return [argv[index + 1] for index, word in enumerate(argv) if word == option]


def test_the_image_is_the_read_only_bottom_of_the_overlay() -> None:
    (disk,) = after(qemu.arguments(guest()), "-drive")
    options = disk.split(",")
    assert "driver=qcow2" in options and "file.filename=/w/overlay.qcow2" in options
    assert "backing.driver=vpc" in options
    assert "backing.file.filename=/i/image.vhd" in options
    assert "backing.read-only=on" in options and "backing.file.read-only=on" in options
    assert "backing.force_size_calc=current_size" in options


def test_a_raw_disk_has_no_vhd_option() -> None:
    (disk,) = after(qemu.arguments(guest(image_format="raw")), "-drive")
    assert "backing.driver=raw" in disk and "force_size_calc" not in disk


def test_accelerators_choose_their_processor() -> None:
    emulated, accelerated = qemu.arguments(guest()), qemu.arguments(guest(accelerator="kvm"))
    assert after(emulated, "-accel") == ["tcg,thread=multi"] and after(emulated, "-cpu") == ["Haswell-noTSX"]
    assert after(accelerated, "-accel") == ["kvm"] and after(accelerated, "-cpu") == ["host"]


def test_uefi_gets_two_flash_chips_of_which_the_code_is_read_only() -> None:
    argv = qemu.arguments(guest(firmware=UEFI))
    code, variables, _ = after(argv, "-drive")
    assert "unit=0" in code and "readonly=on" in code and code.endswith("file=/fw/code.fd")
    assert "unit=1" in variables and "readonly" not in variables and variables.endswith("file=/w/vars.fd")
    assert after(argv, "-machine") == ["q35,smm=off"]
    assert "pflash" not in " ".join(qemu.arguments(guest()))


def test_the_guest_network_is_closed_but_for_ssh_and_the_named_forwards() -> None:
    argv = qemu.arguments(guest(network=azure.USER_NETWORK, forwards=("tcp:168.63.129.16:80-cmd:x",)))
    (network,) = after(argv, "-netdev")
    options = network.split(",")
    assert "restrict=on" in options and "ipv6=off" in options
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in options
    assert "guestfwd=tcp:168.63.129.16:80-cmd:x" in options
    assert sum(option.startswith(("hostfwd=", "guestfwd=")) for option in options) == 2


def test_a_comma_in_a_path_does_not_become_an_option() -> None:
    argv = qemu.arguments(guest(image=Path("/i/a,readonly=off.vhd")))
    (disk,) = after(argv, "-drive")
    assert "backing.file.filename=/i/a,,readonly=off.vhd" in disk


def test_seeds_are_read_only_disks_after_the_image() -> None:
    argv = qemu.arguments(guest(seeds=(Path("/w/a"), Path("/w/b"))))
    assert all("readonly=on" in drive for drive in after(argv, "-drive")[1:])
    disks = [device for device in after(argv, "-device") if device.startswith("virtio-blk")]
    assert disks == [
        "virtio-blk-pci,drive=disk,bootindex=1",
        "virtio-blk-pci,drive=seed0",
        "virtio-blk-pci,drive=seed1",
    ]


def test_the_disc_is_in_a_drive_of_its_own() -> None:
    argv = qemu.arguments(guest(disc=Path("/w/disc.iso")))
    assert "media=cdrom" in after(argv, "-drive")[-1] and "readonly=on" in after(argv, "-drive")[-1]
    assert "scsi-cd,bus=scsi.0,drive=disc" in after(argv, "-device")


def test_a_kernel_of_its_own_needs_no_disk() -> None:
    kernel = qemu.DirectKernel(Path("/k"), None, "panic=-1")
    argv = qemu.arguments(guest(image=None, overlay=None, kernel=kernel))
    assert after(argv, "-kernel") == ["/k"] and after(argv, "-append") == ["panic=-1"]
    assert "-initrd" not in argv and "-drive" not in argv


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.vhd", "vpc"), ("a.vhdx", "vhdx"), ("a.qcow2", "qcow2"), ("a.raw", "raw"), ("a.img", "raw")],
)
def test_formats_follow_the_name(tmp_path: Path, name: str, kind: str) -> None:
    image = tmp_path / name
    image.touch()
    assert qemu.disk_format(image) == kind


def test_an_unknown_or_missing_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "image.iso").touch()
    with pytest.raises(HallmarkError, match="no known disk format"):
        qemu.disk_format(tmp_path / "image.iso")
    with pytest.raises(HallmarkError, match="no such image"):
        qemu.disk_format(tmp_path / "absent.vhd")


def test_a_truncated_vhd_is_found_before_anything_starts(tmp_path: Path) -> None:
    image = tmp_path / "image.vhd"
    image.write_bytes(bytes(4096 + 512))
    assert qemu.virtual_size(image, "vpc") == 4096
    image.write_bytes(bytes(4096 + 512 - 100))
    with pytest.raises(HallmarkError, match="no fixed VHD"):
        qemu.virtual_size(image, "vpc")
    image.write_bytes(bytes(512))
    with pytest.raises(HallmarkError, match="no fixed VHD"):
        qemu.virtual_size(image, "vpc")


def test_every_guest_gets_its_own_copy_of_the_uefi_variables(tmp_path: Path) -> None:
    installed = firmware.locate("uefi")
    own = firmware.prepare("uefi", work=tmp_path)
    assert own.code == installed.code and own.variables == tmp_path / "firmware-variables.fd"
    assert installed.variables is not None and own.variables is not None
    assert own.variables.read_bytes() == installed.variables.read_bytes()
    assert firmware.prepare("bios", work=tmp_path).variables is None


def test_missing_firmware_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "_OVMF", {"uefi": (("/nowhere/code.fd", "/nowhere/vars.fd"),)})
    with pytest.raises(HallmarkError, match="not installed") as caught:
        firmware.locate("uefi")
    assert "ovmf" in (caught.value.hint or "")
    assert "looked for /nowhere/code.fd" in caught.value.details
