"""Publishing to a directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.publish import share
from builder.workspace import digest_file


def test_the_copy_is_equal_and_sparse(vhd: Path, tmp_path: Path) -> None:
    target = tmp_path / "share" / "a.vhd"
    moved = share.deliver(vhd, target, sha256=digest_file(vhd))
    assert target.read_bytes() == vhd.read_bytes()
    assert target.stat().st_blocks * 512 < 8 << 20
    assert moved.sent + moved.skipped == vhd.stat().st_size
    assert [path.name for path in target.parent.iterdir()] == ["a.vhd"]
    assert target.stat().st_nlink == 1
    before = target.stat()
    assert share.deliver(vhd, target, sha256=digest_file(vhd)).sent == 0
    assert target.stat().st_mtime_ns == before.st_mtime_ns


def test_other_bytes_under_the_name_are_kept(
    vhd: Path, tmp_path: Path, make_vhd: Callable[..., Path]
) -> None:
    target = make_vhd(tmp_path / "target.vhd", seed=5)
    before = target.read_bytes()
    with pytest.raises(HallmarkError, match="published already, with other bytes"):
        share.deliver(vhd, target, sha256=digest_file(vhd))
    assert target.read_bytes() == before


def test_a_copy_that_differs_gets_no_name(vhd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.pwrite

    def wrong(handle: int, data: bytes, offset: int) -> int:
        return original(handle, bytes([data[0] ^ 0xFF]) + data[1:] if offset == 0 else data, offset)

    digest = digest_file(vhd)
    monkeypatch.setattr(os, "pwrite", wrong)
    with pytest.raises(HallmarkError, match="the copy is not the image"):
        share.deliver(vhd, tmp_path / "share" / "a.vhd", sha256=digest)
    assert list((tmp_path / "share").iterdir()) == []


def test_a_directory_that_cannot_be_written(vhd: Path) -> None:
    with pytest.raises(HallmarkError, match="cannot publish to the directory"):
        share.deliver(vhd, Path("/proc/share/a.vhd"), sha256=digest_file(vhd))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_share(vhd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb") as full:
        original = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda _handle, data, offset: original(full.fileno(), data, offset))
        with pytest.raises(HallmarkError, match="No space left on device"):
            share.deliver(vhd, tmp_path / "share" / "a.vhd", sha256=digest_file(vhd))
    assert list((tmp_path / "share").iterdir()) == []
