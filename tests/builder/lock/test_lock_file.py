"""The lock file: what is written is read back, what is damaged or stale is explained."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.pipeline import Pipeline
from builder.recipe import Plan, load, plan
from builder.recipe.lock import Lock, LockedPackage, inputs_digest, load_lock, lock_path, of_plan, save_lock
from builder.recipe.model import BootstrapMode
from builder.workspace import Workspace, digest_file
from tests.small_repository import KEY_ID, LOADER, SmallRepository, write_recipe


def package(name: str, version: str = "1.10", *, epoch: int = 0) -> LockedPackage:
    return LockedPackage(
        name=name,
        epoch=epoch,
        version=version,
        release="1",
        arch="noarch",
        sha256="0123456789abcdef" * 4,
        repository="small",
        key=KEY_ID,
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "images", SmallRepository(tmp_path / "repository"), "app", "tool")


def draft(recipe: Path, *, bootstrap: BootstrapMode | None = None) -> Plan:
    return plan(load(recipe), version="9.20261122.0", source_date_epoch=0, bootstrap=bootstrap)


def lock_for(recipe: Path, *packages: LockedPackage) -> Path:
    path = lock_path(recipe.parent, "small-9")
    lock = Lock(
        recipe="small-9",
        when=datetime(2026, 11, 22, tzinfo=UTC),
        inputs=inputs_digest(draft(recipe)),
        packages=packages or (package("app", epoch=2), package("tool"), package(LOADER)),
    )
    save_lock(lock, path)
    return path


def test_what_is_written_is_read_back(recipe: Path) -> None:
    path = lock_for(recipe)
    assert path == recipe.parent / "locks/small-9.lock.yaml"
    lock = load_lock(path)
    assert [item.nevra for item in lock.packages] == [
        "app-2:1.10-1.noarch",
        "tool-1.10-1.noarch",
        "grub2-pc-1.10-1.noarch",
    ]
    # A diff of two locks shows one line for each package that moved.
    (line,) = [text for text in path.read_text().splitlines() if "name: app" in text]
    assert "version: '1.10'" in line and "key: aa81a34a9a583dee" in line
    assert of_plan(draft(recipe), recipe.parent) == lock


def test_the_lock_decides_the_digest_of_the_plan(recipe: Path) -> None:
    free = draft(recipe)
    assert free.lock_digest is None
    path = lock_for(recipe)
    locked = draft(recipe)
    assert locked.lock_digest == digest_file(path)
    lock_for(recipe, package("app", "1.11"), package("tool"))
    assert len({free.digest(), locked.digest(), draft(recipe).digest()}) == 3
    # The lock is no input of itself.
    assert inputs_digest(free) == inputs_digest(locked)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("format: 1", "format: 2", "format: Input should be 1"),
        ("packages:\n", "packages:\n<<<<<<< ours\n", "it is not YAML"),
        ("version: '1.10'", "version: 1.10", "packages.0.version: Input should be a valid string"),
        ("sha256: 01", "sha256: 0z", "packages.0.sha256: String should match"),
        ("name: tool, ", "name: app, epoch: 2, ", "app-2:1.10-1.noarch is in it twice"),
        ("recipe: small-9\n", "recipe: other-9\n", "it is the lock of other-9, not of small-9"),
        (", key: aa81a34a9a583dee", "", "packages.0.key: Field required"),
    ],
)
def test_a_damaged_lock_is_explained(recipe: Path, old: str, new: str, problem: str) -> None:
    path = lock_for(recipe)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(HallmarkError, match="not a lock that can be used") as caught:
        of_plan(draft(recipe), recipe.parent)
    assert problem in caught.value.what
    assert str(caught.value.where).startswith(str(path))


def test_a_recipe_that_asks_for_more_makes_the_lock_stale(recipe: Path, tmp_path: Path) -> None:
    lock_for(recipe)
    recipe.write_text(recipe.read_text().replace("[app, tool]", "[app, tool, extra]"))
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    with pytest.raises(HallmarkError, match="the lock of small-9 is stale") as caught:
        Pipeline(space, str(recipe)).build()
    assert caught.value.hint and "`hallmark lock small-9`" in caught.value.hint
    (detail,) = caught.value.details
    assert detail.startswith("not in the lock: extra (") and detail.endswith("small-9.yaml:11)")
    assert not (tmp_path / "build/small-9").exists()


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("Small Linux", "Tiny Linux", False),
        ("console=ttyS0", "quiet", False),
        ("[app, tool]", "[tool, app]", False),
        ("file:///", "file:///mirror/", False),
        ('"9"', '"9.6"', True),
        ("4289A0585D39", "4289A0585D38", True),
        ("install: [app, tool]", "install: [app, tool], exclude: [vi]", True),
    ],
)
def test_what_makes_a_lock_stale(recipe: Path, old: str, new: str, stale: bool) -> None:
    before = inputs_digest(draft(recipe))
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))
    assert (inputs_digest(draft(recipe)) != before) == stale


@pytest.mark.parametrize(
    ("release", "key", "flag", "mode"),
    [
        ("7.9", "", None, "two-stage"),
        ("8.10", "", None, "two-stage"),
        ("9.6", "", None, "direct"),
        ("10.0", "", None, "direct"),
        ("9.6", "bootstrap: two-stage", None, "two-stage"),
        ("9.6", "bootstrap: two-stage", "direct", "direct"),
        ("9.6", "", "two-stage", "two-stage"),
    ],
)
def test_who_installs_the_packages(
    recipe: Path, release: str, key: str, flag: BootstrapMode | None, mode: str
) -> None:
    recipe.write_text(recipe.read_text().replace('"9"', f'"{release}"') + key + "\n")
    chosen = draft(recipe, bootstrap=flag).bootstrap
    assert chosen.mode == mode
    assert chosen.packages == (("rpm",) if mode == "two-stage" else ())
