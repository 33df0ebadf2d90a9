"""The hook that makes a root filesystem bootable, run on a small one: which menu its GRUB gets."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import builder.rootfs

HOOK = Path(builder.rootfs.__file__).parent / "elements/hallmark-boot/finalise.d/60-hallmark-boot"
KERNEL = "5.14.0-1"
MODULE = "usr/lib/grub/i386-pc/blscfg.mod"


def _menu(root: Path, *, system: str, release: int, files: tuple[str, ...]) -> str:
    """What the hook writes into grub.cfg, below the head."""
    texts = {
        "etc/os-release": f'NAME="Small"\nID="{system}"\n',
        f"usr/lib/modules/{KERNEL}/vmlinuz": "kernel",
        f"usr/lib/modules/{KERNEL}/modules.dep": "",
        "boot/efi/EFI/BOOT/BOOT.EFI": "shim",
        "boot/efi/EFI/vendor/grub.efi": "grub",
        "bin/dracut": "#!/bin/sh\n",
        "element/hallmark-plan/grub-head.cfg": "head\n",
        "element/hallmark-plan/esp.cfg": "esp\n",
        # The image's own directories, and not this machine's.
        "element/finalise.d/hook": re.sub(
            r"(?<![\w$])/(?=usr/lib/|boot|etc/os-release|run/hallmark)", f"{root}/", HOOK.read_text()
        ),
        **dict.fromkeys(files, "module"),
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    environment = {
        "PATH": f"{root}/bin:{os.environ['PATH']}",
        "DIB_RELEASE": str(release),
        "HALLMARK_DRACUT_COMPRESS": "gzip",
        "HALLMARK_EFI_VENDOR": "vendor",
        "HALLMARK_GENERATIONS": "2",
        "HALLMARK_KERNEL_OPTIONS": "root=UUID=1 ro",
        "HALLMARK_OS_ID": system,
        "HALLMARK_OS_NAME": "Small",
        "HALLMARK_OS_RELEASE": str(release),
        "HALLMARK_SYSTEM": "packages",
    }
    subprocess.run(
        ("bash", root / "element/finalise.d/hook"), env=environment, check=True, stdout=subprocess.PIPE
    )
    head, _, menu = (root / "boot/grub2/grub.cfg").read_text().partition("\n")
    assert head == "head"
    assert len(list((root / "boot/loader/entries").glob("*.conf"))) == 1
    assert (root / "boot/efi/EFI/vendor/grub.cfg").read_text() == "esp\n"
    return menu


@pytest.mark.parametrize(
    ("system", "release", "files", "reads"),
    [
        # Nothing but the signed program for UEFI: aarch64, or a machine of generation 2 alone.
        ("rhel", 8, (), True),
        # 7 has the module for BIOS, but not in its program for UEFI.
        ("centos", 7, (MODULE,), False),
        # The sample distribution, also in the place of RHEL, as os-release is the packages'.
        ("hallmark-sample", 9, (), False),
        ("other", 9, ("usr/lib/grub/x86_64-efi/blscfg.mod",), True),
    ],
)
def test_the_menu_is_one_that_this_grub_can_read(
    tmp_path: Path, system: str, release: int, files: tuple[str, ...], reads: bool
) -> None:
    menu = _menu(tmp_path, system=system, release=release, files=files)
    if reads:
        assert menu == "insmod blscfg\nblscfg\n", "kernels installed later must show up"
    else:
        assert re.findall(r"^menuentry .* --id", menu, re.M)
        assert f"  linux /vmlinuz-{KERNEL} root=UUID=1 ro\n  initrd /initramfs-{KERNEL}.img\n" in menu
        assert "blscfg" not in menu
