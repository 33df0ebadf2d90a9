"""The bytes of the VHD file: footer, size, partition tables, boot sectors."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from certification.checks import requirement

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.format import ImageBytes
    from certification.views.guest import Guest

MIB = 1 << 20
GIB = 1 << 30


def _field(image: ImageBytes, offset: int, length: int) -> int:
    """A big-endian number of the footer, read apart from the code that writes footers."""
    return int.from_bytes(image.footer_bytes[offset : offset + length], "big")


@requirement("azure.vhd-footer-cookie")
def test_footer_cookie(image: ImageBytes, check: Checks) -> None:
    check.equal("cookie", expected=b"conectix", observed=image.footer_bytes[:8])
    check.equal("file format version", expected=0x00010000, observed=_field(image, 12, 4))


@requirement("azure.vhd-footer-checksum")
def test_footer_checksum(image: ImageBytes, check: Checks) -> None:
    footer = image.footer_bytes
    computed = ~sum(footer[:64] + footer[68:]) & 0xFFFFFFFF
    check.equal("checksum", expected=f"{computed:#010x}", observed=f"{_field(image, 64, 4):#010x}")


@requirement("azure.vhd-type-fixed")
def test_fixed(image: ImageBytes, check: Checks) -> None:
    check.equal("disk type (2 is fixed)", expected=2, observed=_field(image, 60, 4))
    check.equal("data offset", expected="0x" + 16 * "f", observed=f"{_field(image, 16, 8):#x}")
    check.differs("first bytes of the file (no footer copy)", unwanted=b"conectix", observed=image.read(0, 8))
    check.differs("bytes at 512 (no dynamic header)", unwanted=b"cxsparse", observed=image.read(512, 8))


@requirement("azure.vhd-not-vhdx")
def test_not_vhdx(image: ImageBytes, check: Checks) -> None:
    check.differs("first bytes of the file", unwanted=b"vhdxfile", observed=image.read(0, 8))
    check.equal("extension", expected=".vhd", observed=PurePath(image.name).suffix)


@requirement("azure.vhd-virtual-size-mib")
def test_whole_mebibytes(image: ImageBytes, check: Checks) -> None:
    check.equal("bytes over a whole MiB", expected=0, observed=_field(image, 48, 8) % MIB)


@requirement("azure.vhd-file-length")
def test_file_length(image: ImageBytes, check: Checks) -> None:
    current = _field(image, 48, 8)
    check.equal("length of the file", expected=current + 512, observed=image.size)
    check.equal("original size in the footer", expected=current, observed=_field(image, 40, 8))


@requirement("azure.vhd-size-limits")
def test_size_limits(image: ImageBytes, check: Checks) -> None:
    check.at_least("virtual size in bytes", expected=20 * MIB, observed=_field(image, 48, 8))
    check.at_most("virtual size in bytes", expected=1023 * GIB, observed=_field(image, 48, 8))


@requirement("hyperv.gen1-size-limit")
def test_generation_1_limit(image: ImageBytes, check: Checks) -> None:
    check.at_most("virtual size in bytes", expected=2040 * GIB, observed=_field(image, 48, 8))


@requirement("azure.vhd-geometry-honest")
def test_geometry(image: ImageBytes, check: Checks) -> None:
    geometry = (_field(image, 56, 2), _field(image, 58, 1), _field(image, 59, 1))
    allowed = [_chs(_field(image, 48, 8) // 512), (65535, 16, 255)]
    check.one_of(
        "cylinders/heads/sectors",
        expected=["/".join(map(str, g)) for g in allowed],
        observed="/".join(map(str, geometry)),
    )


def _chs(sectors: int) -> tuple[int, int, int]:
    """The geometry of the VHD specification's appendix."""
    sectors = min(sectors, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        track, heads, by_heads = 255, 16, sectors // 255
    else:
        track = 17
        by_heads = sectors // track
        heads = max(4, -(-by_heads // 1024))
        if by_heads >= heads * 1024 or heads > 16:
            track, heads = 31, 16
            by_heads = sectors // track
        if by_heads >= heads * 1024:
            track, heads = 63, 16
            by_heads = sectors // track
    return by_heads // heads, heads, track


@requirement("azure.vhd-saved-state")
def test_saved_state(image: ImageBytes, check: Checks) -> None:
    check.equal("saved state", expected=0, observed=_field(image, 84, 1))


@requirement("azure.vhd-unique-id")
def test_unique_id(image: ImageBytes, check: Checks) -> None:
    check.differs("unique identifier", unwanted=bytes(16), observed=image.footer_bytes[68:84])


@requirement("azure.first-mib-free")
def test_first_mebibyte(image: ImageBytes, check: Checks) -> None:
    starts = [part.first_lba for part in image.partitions]
    if image.gpt is None:
        starts = [entry.start for entry in image.mbr.entries if entry.type]
    if check.true("partitions", observed=bool(starts), expected="at least one", otherwise="none"):
        check.at_least("first sector of the first partition", expected=2048, observed=min(starts))


@requirement("azure.partition-table-valid")
def test_partition_table(image: ImageBytes, check: Checks) -> None:
    check.equal("signature of the first sector", expected=b"\x55\xaa", observed=image.mbr.signature)
    if image.gpt is None:
        active = [entry for entry in image.mbr.entries if entry.active]
        check.equal("active partitions of the MBR", expected=1, observed=len(active))
        return
    check.true("protective MBR", observed=image.mbr.protective)
    check.empty("faults of the GPT", observed=image.gpt.problems)
    check.true("partitions", observed=bool(image.gpt.partitions), expected="at least one", otherwise="none")


@requirement("azure.partition-alignment")
def test_alignment(image: ImageBytes, check: Checks) -> None:
    starts = [part.offset for part in image.partitions]
    if image.gpt is None:
        starts = [entry.start * 512 for entry in image.mbr.entries if entry.type]
    check.empty("partitions that don't start on a whole MiB (bytes)", observed=[s for s in starts if s % MIB])
    check.true("partitions", observed=bool(starts), expected="at least one", otherwise="none")


@requirement("azure.gen1-bios-boot")
def test_bios_boot(image: ImageBytes, check: Checks) -> None:
    code = image.mbr.boot_code
    check.true("boot code in the first sector", observed=image.mbr.has_boot_code)
    check.true(
        "it jumps (first byte)",
        observed=code[:1] in (b"\xeb", b"\xe9", b"\xfa", b"\x33"),
        otherwise=code[:4].hex(),
    )
    if image.gpt is None:
        check.true("code behind the first sector", observed=any(image.read(512, 32 * 512)))
        return
    part = image.partition("bios-boot")
    if not check.true("BIOS boot partition", observed=part is not None) or part is None:
        return
    core = image.read(part.offset, 512)
    check.true("loader in the BIOS boot partition", observed=any(core))
    # GRUB's boot.img holds the LBA of its core image at 0x5c (grub-core/boot/i386/pc/boot.S).
    if b"GRUB" in code:
        target = int.from_bytes(code[0x5C:0x64], "little")
        check.equal(
            "sector at which the boot code looks for the loader", expected=part.first_lba, observed=target
        )


@requirement("azure.gen2-esp", views=("format",))
def test_system_partition(image: ImageBytes, check: Checks) -> None:
    esp = image.esp
    if not check.true("EFI system partition with a FAT filesystem", observed=esp is not None) or esp is None:
        return
    part = image.partition("esp")
    check.at_least(
        "size of the EFI system partition in MiB", expected=200, observed=part.length // MIB if part else 0
    )
    loaders = [path for path in esp.files if path in ("/efi/boot/bootx64.efi", "/efi/boot/bootaa64.efi")]
    if check.true(
        "loader that the firmware starts", observed=bool(loaders), otherwise="no /EFI/BOOT/BOOTX64.EFI"
    ):
        check.equal("its first bytes", expected=b"MZ", observed=(esp.read(loaders[0]) or b"")[:2])
    grubs = [
        path for path in esp.files if path.rsplit("/", 1)[-1].startswith("grub") and path.endswith(".efi")
    ]
    check.true("GRUB beside it", observed=bool(grubs), otherwise="no grub*.efi")
    directories = {path.rsplit("/", 1)[0] for path in grubs}
    configured = {
        path.rsplit("/", 1)[0] for path in esp.files if path.endswith("/grub.cfg") and esp.read(path)
    }
    check.true("a grub.cfg", observed=bool(configured), otherwise=f"none in {', '.join(sorted(directories))}")


@requirement("azure.gen2-esp", views=("disk",))
def test_system_partition_is_mounted(guest: Guest, check: Checks) -> None:
    mounts = [mount for mount in guest.fstab if mount.target == "/boot/efi"]
    if check.equal("fstab lines for /boot/efi", expected=1, observed=len(mounts)):
        check.equal("type", expected="vfat", observed=mounts[0].type)
    configured = guest.glob("/boot/efi/EFI/*/grub.cfg")
    check.true("grub.cfg on the EFI system partition", observed=bool(configured))
    roots = " ".join(guest.content(path) for path in configured)
    check.true("it leads to /boot", observed="search" in roots or "configfile" in roots or "linux" in roots)
