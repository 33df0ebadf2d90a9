"""Artefacts appear whole or not at all; digests are right for sparse files."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from builder import log
from builder.errors import HallmarkError
from builder.workspace import (
    Workspace,
    atomic_directory,
    atomic_file,
    digest_file,
    digest_json,
    one_at_a_time,
    owned_directory,
    sweep,
)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "artefact"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


def test_a_directory_is_replaced_in_one_piece(tmp_path: Path) -> None:
    target = tmp_path / "repository"
    for content in ("one", "two"):
        with atomic_directory(target) as temporary:
            (temporary / "file").write_text(content)
        assert (target / "file").read_text() == content
    with pytest.raises(RuntimeError), atomic_directory(target) as temporary:
        raise RuntimeError
    assert (target / "file").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@pytest.mark.parametrize(
    "pieces",
    [[], [(0, b"x")], [(5 << 20, b"tail")], [(0, b"head"), (9 << 20, b"middle"), (30 << 20, b"end")]],
)
def test_the_digest_of_a_sparse_file_is_that_of_its_bytes(
    tmp_path: Path, pieces: list[tuple[int, bytes]]
) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        for offset, data in pieces:
            stream.seek(offset)
            stream.write(data)
        stream.truncate(max([33 << 20, *(offset + len(data) for offset, data in pieces)]))
    assert digest_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_json_digests_ignore_the_order_of_keys() -> None:
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})


def test_two_runs_do_not_work_on_one_recipe(tmp_path: Path) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    with (
        space.lock("sample"),
        pytest.raises(HallmarkError, match="another hallmark process"),
        space.lock("sample"),
    ):
        pass
    with space.lock("sample"):
        pass


def test_latest_moves_in_one_step(tmp_path: Path) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    assert space.latest("sample") is None
    for version in ("9.20260101.0", "9.20260102.0"):
        space.artefacts("sample", version).root.mkdir(parents=True)
        space.set_latest("sample", version)
        latest = space.latest("sample")
        assert latest is not None
        assert latest.root.name == version


@pytest.mark.parametrize("name", ["catalog", "azurite", "containers", "reports"])
def test_what_the_build_directory_holds_besides_is_no_recipe(tmp_path: Path, name: str) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    with pytest.raises(HallmarkError, match=f"a recipe can't be called '{name}'") as error:
        space.artefacts(name, "9.20260101.0")
    assert error.value.hint
    assert space.artefacts(f"{name}-9", "9.20260101.0").root.parent.name == f"{name}-9"


def test_an_unusable_directory_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HallmarkError, match="cannot make the directory"):
        Workspace.default(build=tmp_path / "file" / "build", cache=tmp_path / "cache")


def test_only_what_dead_processes_left_is_swept(tmp_path: Path, dead: int) -> None:
    mine = owned_directory(tmp_path, "vm-")
    left, other, lock = (
        tmp_path / f"vm-{dead}.abc",
        tmp_path / f"disk-{dead}.abc",
        tmp_path / f"vm-{dead}.lock",
    )
    for path in (left, other):
        path.mkdir()
        (path / "id_ed25519").write_text("a private key")
    lock.write_text("")
    foreign = tmp_path / f"vm-{dead}.foreign"
    if os.geteuid() == 0:
        foreign.mkdir()
        os.chown(foreign, 65534, 65534)
    assert sweep(tmp_path, "vm-") == [left]
    assert not left.exists()
    assert mine.exists() and other.exists() and lock.exists()
    assert foreign.exists() == (os.geteuid() == 0)
    assert sweep(tmp_path / "absent", "vm-") == []


def test_one_works_and_the_other_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, done = Event(), []
    told: list[str] = []
    monkeypatch.setattr(log, "info", lambda words: (told.append(words), waits.set()))

    def second() -> None:
        with one_at_a_time(tmp_path / "deep" / "lock", "do it"):
            done.append("second")

    with ThreadPoolExecutor(1) as pool:
        with one_at_a_time(tmp_path / "deep" / "lock", "do it"):
            other = pool.submit(second)
            assert waits.wait(20)
            done.append("first")
        other.result(20)
    assert done == ["first", "second"]
    assert told == ["waiting for another process to do it"]
