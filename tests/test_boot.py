"""Both filesystems boot on both firmwares, and the guest agrees on what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.vm.acceleration import probe
from builder.vm.firmware import Firmware
from builder.vm.machine import boot
from builder.workspace import Artefacts, Workspace, digest_file

pytestmark = pytest.mark.system


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_xfs_boots(xfs_image: Artefacts, workspace: Workspace, firmware: Firmware, tmp_path: Path) -> None:
    # ext4 boots on both firmwares while the sample is certified: see test_release.py.
    before = digest_file(xfs_image.image)
    with boot(
        xfs_image.image,
        firmware=firmware,
        work=tmp_path,
        logs=tmp_path,
        acceleration=probe(cache=workspace.cache),
    ) as machine:
        seen = machine.run(
            "findmnt -no FSTYPE /; findmnt -no FSTYPE /boot;"
            " test -d /sys/firmware/efi && echo uefi || echo bios; /usr/sbin/getenforce;"
            " systemctl is-system-running --wait; systemctl --failed --plain --no-legend",
            timeout=300,
        )
    assert seen.stdout.split() == ["xfs", "xfs", firmware, "Enforcing", "running"]
    assert digest_file(xfs_image.image) == before, "booting changed the image"
