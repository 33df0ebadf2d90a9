"""What the bytes of a disk tell: a real one with a GPT, an ESP and ext4, then damaged in one place."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_disk import MIB, make_disk

from certification.checks import Checks
from certification.suites import test_disk_state as suite
from certification.views import fsck
from certification.views.base import identity
from certification.views.format import ImageBytes

ROOT = 18 * MIB


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk whose root holds a few files."""
    work = tmp_path_factory.mktemp("disk-state")
    files = work / "files"
    files.mkdir()
    for number in range(20):
        (files / f"file-{number}").write_bytes(bytes([number + 1]) * 5000)
    image = work / "image.vhd"
    make_disk(image, root=files, root_mib=16)
    # mke2fs and sgdisk of the test helper choose identifiers at random, but for the root filesystem's.
    with image.open("r+b") as stream:
        stream.seek(446)
        stream.seek(0)
        stream.write(b"\xeb\x63" + b"GRUB" + bytes(80))
    return image


@pytest.fixture
def disk(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(good, tmp_path / "image.vhd"))


def _write(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def _judge(test: Callable[..., None], disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Checks:
    check = Checks()
    image = ImageBytes(disk)
    try:
        wanted = test.__code__.co_varnames[: test.__code__.co_argcount]
        given = {"image": image, "tmp_path_factory": tmp_path_factory, "check": check}
        test(**{name: given[name] for name in wanted})
    finally:
        image.close()
    return check


def _free_block(disk: Path) -> int:
    """A place in a free block of the root filesystem."""
    image = ImageBytes(disk)
    volume = next(volume for volume in fsck.volumes(image) if volume.filesystem.type == "ext4")
    ranges = fsck.free_ranges(image, volume)
    image.close()
    assert ranges
    return max(ranges, key=lambda item: item[1])[0]


def _inode_bitmap(disk: Path) -> int:
    listing = subprocess.run(
        ["dumpe2fs", f"{disk}?offset={ROOT}"], capture_output=True, text=True, check=True
    ).stdout
    block = int(listing.split("Inode bitmap at ")[1].split()[0].rstrip(","))
    size = int(listing.split("Block size:")[1].split()[0])
    return ROOT + block * size


TESTS = (suite.test_no_repair, suite.test_free_space, suite.test_own_identifiers, suite.test_whole_paths)


@pytest.mark.parametrize("test", TESTS)
def test_a_good_disk_passes(
    test: Callable[..., None], good: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check = _judge(test, good, tmp_path_factory)
    assert check.made and not check.failed, [(i.what, i.expected, i.observed) for i in check.failed]


def test_damage_is_seen(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    _write(disk, _inode_bitmap(disk), b"\0" * 4)
    failed = _judge(suite.test_no_repair, disk, tmp_path_factory).failed
    assert any("problems of partition 3" in item.what for item in failed)


def test_a_filesystem_that_was_not_closed_is_seen(
    disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _write(disk, ROOT + 1024 + 58, b"\0\0")
    assert any(
        "was closed" in item.what for item in _judge(suite.test_no_repair, disk, tmp_path_factory).failed
    )


def test_damage_of_the_esp_is_seen(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # The first FAT: a chain that leads nowhere.
    sector = int.from_bytes(ImageBytes(disk).read(2 * MIB + 14, 2), "little")
    _write(disk, 2 * MIB + sector * 512 + 4, b"\xff\x00" * 8)
    failed = _judge(suite.test_no_repair, disk, tmp_path_factory).failed
    assert any("partition 2" in item.what for item in failed)


def test_a_deleted_secret_is_seen(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = _free_block(disk)
    _write(disk, place, b"-----BEGIN PRIVATE KEY-----")
    failed = _judge(suite.test_free_space, disk, tmp_path_factory).failed
    assert failed and str(place) in failed[0].observed


def test_shared_identifiers_are_seen(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    subprocess.run(
        ["sgdisk", "-U", "D209C89E-EA5E-4FBD-B161-B461CCE297E0", disk], capture_output=True, check=False
    )
    # sgdisk moves the second copy of the table to the end of the file; the first one counts here.
    assert _judge(suite.test_own_identifiers, disk, tmp_path_factory).failed


def test_half_a_boot_path_is_seen(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    _write(disk, 0, bytes(440))
    assert _judge(suite.test_whole_paths, disk, tmp_path_factory).failed


def test_a_changed_image_is_seen(disk: Path) -> None:
    opened = SimpleNamespace(image=ImageBytes(disk))
    session = SimpleNamespace(
        before=identity(disk), identity=lambda: identity(disk), view="format", opened=opened
    )
    check = Checks()
    suite.test_same_bytes(session, check)
    assert not check.failed
    _write(disk, 5 * MIB, b"changed")
    suite.test_same_bytes(session, check)
    assert check.failed
