"""Real dnf, real packages, through diskimage-builder: what must stop a build before anything is installed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_plan

from builder.errors import HallmarkError
from builder.recipe.model import Origin, PackageRequest, Packages
from builder.rootfs import build_rootfs

pytestmark = pytest.mark.system


def asking_for(*names: str, exclude: tuple[str, ...] = ()) -> Any:
    install = tuple(
        PackageRequest(name=name, where=Origin(path="layers/el.yaml", line=20 + number))
        for number, name in enumerate(names)
    )
    return tiny_plan(packages=Packages(install=install, exclude=exclude))


def build(plan: Any, repository: Any, tmp_path: Path) -> HallmarkError:
    """Build, which must fail; the destination must then hold nothing and the log must exist."""
    destination, work = tmp_path / "destination", tmp_path / "work"
    with pytest.raises(HallmarkError) as caught:
        build_rootfs(plan, (repository,), destination=destination, work=work, logs=tmp_path / "log")
    assert not (destination / "rootfs.tar").exists()
    assert list(work.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    return caught.value


def installed(tmp_path: Path) -> bool:
    return "Installing       : tiny" in (tmp_path / "log/rootfs.log").read_text()


def test_unknown_package_names_the_line(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    error = build(asking_for("tiny", "no-such-thing"), make_repository().resolved(), tmp_path)
    assert error.what == "no repository has the package no-such-thing"
    assert error.where == "layers/el.yaml:21"
    assert not installed(tmp_path)


def test_excluded_package_names_the_line(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    error = build(asking_for("tiny", exclude=("ti*",)), make_repository().resolved(), tmp_path)
    assert "both asked for and excluded" in error.what
    assert error.where == "layers/el.yaml:20"


def test_repository_down(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    down = make_repository().resolved(baseurl="http://127.0.0.1:9/nothing")
    error = build(asking_for("tiny"), down, tmp_path)
    assert error.what == "the repository 'tiny' does not answer"
    assert error.where == "tiny.yaml:3"


def test_tampered_package_with_its_old_metadata(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    repository = make_repository()
    flip(repository.rpm)
    error = build(asking_for("tiny"), repository.resolved(), tmp_path)
    assert "damaged or not signed by the pinned key" in error.what
    assert not installed(tmp_path)


def test_tampered_package_with_new_metadata(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    repository = make_repository()
    flip(repository.rpm)
    repository.index()
    error = build(asking_for("tiny"), repository.resolved(), tmp_path)
    assert "damaged or not signed by the pinned key" in error.what
    assert not installed(tmp_path)


def test_unsigned_package(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    error = build(asking_for("tiny"), make_repository(sign=False).resolved(), tmp_path)
    assert "damaged or not signed by the pinned key" in error.what
    assert not installed(tmp_path)


def test_a_system_without_a_kernel_is_refused(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    # The good package installs, which shows that the tests above fail for their own reasons.
    build(asking_for("tiny"), make_repository().resolved(), tmp_path)
    assert installed(tmp_path)


def test_disk_full(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small), check=True)
    try:
        with pytest.raises(HallmarkError, match="the disk is full"):
            build_rootfs(
                asking_for("tiny"),
                (make_repository().resolved(),),
                destination=tmp_path / "destination",
                work=small / "work",
                logs=tmp_path / "log",
            )
    finally:
        subprocess.run(("umount", small), check=True)


def flip(path: Path) -> None:
    """Change one bit in the last byte: the payload."""
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(size - 20)
        byte = stream.read(1)[0]
        stream.seek(size - 20)
        stream.write(bytes((byte ^ 1,)))
        os.fsync(stream.fileno())
