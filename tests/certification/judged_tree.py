"""Runs the real suites on the small guest: what the tables of good and bad guests share.

The fixtures are offered to every test of certification by its conftest.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from directory_guest import directory_guest
from small_packages import PACKAGES, Made, install
from small_tree import DRIVERS, FILES, KERNEL, build, initramfs, put

from certification import catalogue
from certification.catalogue import SUITES
from certification.checks import Checks
from certification.expectations import Facts
from certification.model import OstreeClaim

__all__ = [
    "BLS",
    "GOOD_BLS",
    "MODULES",
    "RAMDISK",
    "bound_tests",
    "change",
    "conf",
    "database",
    "judge",
    "tree",
]

BLS = f"/boot/loader/entries/x-{KERNEL}.conf"
GOOD_BLS = FILES[BLS]
RAMDISK = f"/boot/initramfs-{KERNEL}.img"
MODULES = f"/usr/lib/modules/{KERNEL}/kernel"


def conf(key: str, old: str, new: str) -> dict[str, str | bytes | None]:
    """The file with one text replaced; a text that isn't there is a mistake of the case."""
    assert old in FILES[key], f"{old} is not in {key}"
    return {key: FILES[key].replace(old, new)}


def bound_tests(view: str) -> dict[str, Callable[..., None]]:
    """The tests of a view by requirement."""
    known = catalogue.load()
    found: dict[str, Callable[..., None]] = {}
    for path in sorted(SUITES.glob("test_*.py")):
        module = importlib.import_module(f"certification.suites.{path.stem}")
        for name, function in vars(module).items():
            if name.startswith("test_") and inspect.isfunction(function):
                mark = next(mark for mark in function.pytestmark if mark.name == "requirement")
                if view in (mark.kwargs.get("views") or known[mark.args[0]].views):
                    found[mark.args[0]] = function
    return found


TESTS = bound_tests("disk")


@cache
def facts(claim: str) -> Facts:
    """The facts about the small guest; reading them takes longer than most tests."""
    return Facts.of({"ID": "hallmark-sample", "VERSION_ID": "9"}, claim=claim)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("database")
    kernel = Made(
        "kernel-core", files=((f"/usr/lib/modules/{KERNEL}/vmlinuz", "kernel", 0o644), *_MODULE_FILES)
    )
    release = Made("hallmark-sample-release", version="9", files=_RELEASE)
    plain = [Made(name) for name in PACKAGES if name != release.name]
    versions = [Made("openssl-libs", version="3.0.7"), Made("python3-libs", version="3.9.18")]
    install(directory, tmp_path_factory.mktemp("rpms"), [*plain, *versions, kernel, release])
    return directory


_PACKAGED = (
    "/etc/yum.repos.d/small.repo",
    "/etc/os-release",
    "/etc/rsyslog.conf",
    "/etc/systemd/journald.conf",
    "/etc/cloud/cloud.cfg",
    "/etc/pki/rpm-gpg/RPM-GPG-KEY-small",
)
_MODULE_FILES = tuple((f"{MODULES}/{name}.ko", "module", 0o644) for name in DRIVERS)
_RELEASE = tuple((path, FILES[path], 0o644) for path in _PACKAGED)


def judge(
    identifier: str,
    tree: Path,
    database: Path,
    *,
    claim: str = "hallmark-sample:9",
    claimed: OstreeClaim | None = None,
    measure: Facts | None = None,
) -> Checks:
    """Run the requirement's test on the tree, measured as what it is called and what it is said to run.

    ``measure`` are other facts than those about what it is called.
    """
    check = Checks()
    given: dict[str, Any] = {
        "guest": directory_guest(tree, filler=1000, database=database),
        "facts": measure or facts(claim),
        "check": check,
        "claimed": claimed,
        "today": date(2026, 11, 22),
    }
    function = TESTS[identifier]
    function(**{name: given[name] for name in inspect.signature(function).parameters})
    return check


@pytest.fixture
def change(tree: Path) -> Iterator[Callable[[dict[str, str | bytes | None]], None]]:
    """Change the tree for one test."""
    touched: list[str] = []

    def apply(files: dict[str, str | bytes | None]) -> None:
        for key, content in files.items():
            touched.append(key)
            put(tree, key, content)

    yield apply
    originals = {key.split()[0]: (key, content) for key, content in FILES.items()}
    for key in touched:
        name = key.split()[0]
        if name == RAMDISK:
            put(tree, RAMDISK, initramfs())
        elif name in originals:
            put(tree, *originals[name])
        else:
            put(tree, key, None)
            for parent in (tree / name.strip("/")).parents:
                # Take back directories that the change made; the tree's own are not empty.
                if (
                    parent == tree
                    or not parent.is_dir()
                    or any(parent.iterdir())
                    or f"/{parent.relative_to(tree)}/" in originals
                ):
                    break
                parent.rmdir()
