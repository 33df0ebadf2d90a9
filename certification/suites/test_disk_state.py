"""What the bytes of the disk tell about its filesystems: damage, leftovers in free space, identifiers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from certification.checks import not_applicable, requirement
from certification.views import fsck

if TYPE_CHECKING:
    from pathlib import Path

    from certification.checks import Checks
    from certification.views.format import ImageBytes
    from certification.views.guest import Guest

#: Identifiers in every image of osbuild (osbuild/images, data/distrodefs: partition tables).
_SHARED = {
    "d209c89e-ea5e-4fbd-b161-b461cce297e0",
    "6264d520-3fb9-423f-8ab8-7a0a8e3d3562",
    "cb07c243-bc44-4717-853e-28852021225b",
    "68b2905b-df3e-4fb3-80fa-49d1e773aa33",
    "fac7f1fb-3e8d-4137-a512-961de09a5549",
    "7b77-95e7",
    "00000000-0000-0000-0000-000000000000",
    "1234-abcd",
}


def _filesystems(image: ImageBytes, check: Checks) -> list[fsck.Volume]:
    """What is on each partition, and that there is something."""
    found = fsck.volumes(image)
    check.true("filesystems", observed=bool(found), expected="at least one", otherwise="none")
    return found


def _checked(image: ImageBytes, volume: fsck.Volume, work: Path) -> str:
    return "\n".join(fsck.problems(image, volume, work=work))


def _leftovers(image: ImageBytes, volume: fsck.Volume) -> str:
    free = fsck.free_ranges(image, volume)
    return " ".join(map(str, (sum(length for _, length in free), *fsck.not_zero(image, free))))


@requirement("azure.filesystems-clean")
def test_no_repair(image: ImageBytes, tmp_path_factory: Any, check: Checks) -> None:
    found = _filesystems(image, check)
    work = tmp_path_factory.mktemp("fsck")
    for volume in found:
        if volume.filesystem.type == "LVM2_member":
            continue
        check.true(
            f"{volume.name} was closed", observed=volume.filesystem.clean, otherwise="not unmounted cleanly"
        )
        said = image.answer(f"checker of {volume.name}", partial(_checked, image, volume, work))
        problems = said.splitlines()
        check.empty(f"problems of {volume.name}", observed=problems)
    volumes = [volume.name for volume in found if volume.filesystem.type == "LVM2_member"]
    if len(volumes) == len(found):
        not_applicable("every filesystem is on a logical volume, which only a guest's own tools can check")


@requirement("hygiene.sparse-zero")
def test_free_space(image: ImageBytes, check: Checks) -> None:
    looked = 0
    for volume in _filesystems(image, check):
        if volume.filesystem.type != "ext4":
            continue
        # The bytes of the free space, and the places in it that aren't zero.
        answer = image.answer(f"free space of {volume.name}", partial(_leftovers, image, volume))
        size, *dirty = answer.split()
        looked += int(size)
        check.empty(f"free places of {volume.name} that hold something (byte offsets)", observed=dirty)
    if not looked:
        not_applicable("no partition has ext4: which blocks of XFS are free only its own tools can tell")
    check.at_least("MiB of free space looked at", expected=1, observed=looked >> 20)


@requirement("hygiene.uuid-freshness")
def test_own_identifiers(image: ImageBytes, check: Checks) -> None:
    names = [volume.filesystem.uuid.lower() for volume in _filesystems(image, check)]
    if image.gpt is not None:
        header = image.gpt.primary or image.gpt.backup
        names += [str(header.disk_guid)] if header else []
        names += [str(part.guid) for part in image.partitions]
    check.empty("identifiers that other images have, too", observed=sorted(_SHARED & set(names)))
    check.equal("identifiers that are there twice", expected=0, observed=len(names) - len(set(names)))


@requirement("hyperv.single-generation-disk")
def test_whole_paths(image: ImageBytes, check: Checks) -> None:
    has_bios = image.partition("bios-boot") is not None
    code = image.mbr.has_boot_code
    esp = image.esp
    loaders = [path for path in (esp.files if esp else ()) if path.startswith("/efi/boot/boot")]
    has_esp = esp is not None
    check.true(
        "a way to boot", observed=(has_bios and code) or bool(loaders), otherwise="neither is complete"
    )
    if image.gpt is not None:
        check.equal("boot code and BIOS boot partition", expected=code, observed=has_bios)
    check.equal("EFI system partition and loader in it", expected=has_esp, observed=bool(loaders))


@requirement("support.image-not-mutated")
def test_same_bytes(hallmark: Any, check: Checks) -> None:
    if hallmark.view != "booted":
        # The first sector, so that nothing is said about bytes that nobody could read.
        check.equal(
            "bytes of the first sector", expected=512, observed=len(hallmark.opened.image.read(0, 512))
        )
    if not hallmark.before:
        not_applicable("the look is at a machine; nobody has the image that it was made from")
    check.equal("identity of the bytes", expected=hallmark.before, observed=hallmark.identity())


@requirement("azure.partition-scheme-plain")
def test_plain_partition(guest: Guest, check: Checks) -> None:
    kinds = sorted(found.type for found in guest.filesystems.values())
    check.true("filesystems", observed=bool(kinds), expected="at least one", otherwise="none")
    check.excludes("partitions", unwanted=["LVM2_member"], observed=kinds)


@requirement("azure.single-root-partition")
def test_one_root(guest: Guest, check: Checks) -> None:
    roots = [mount for mount in guest.fstab if mount.target == "/"]
    if check.equal("fstab lines for /", expected=1, observed=len(roots)):
        found = guest.filesystem(roots[0].source)
        check.true(f"{roots[0].source} is on this disk", observed=found is not None)
    systems = guest.glob("/*/etc/os-release") + guest.glob("/*/*/etc/os-release")
    check.empty(
        "other systems on the disk",
        observed=[path for path in systems if not path.startswith(("/ostree", "/sysroot"))],
    )
