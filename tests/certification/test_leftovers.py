"""What machines leave behind is found, whichever tool knows of it (``leftovers.yaml``)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path, PurePosixPath

import pytest
import yaml
from directory_guest import directory_guest
from judged_tree import TESTS, facts

from certification import checks
from certification.checks import Checks, NotApplicable
from certification.views.guest import Guest

_LISTED: dict[str, list[str]] = yaml.safe_load((Path(__file__).parent / "leftovers.yaml").read_text())
#: Hygiene is for this; files of no package in /etc and /usr are strange whatever they are.
_POLICY = "security.selinux-labels"  # the small guest has no policy to label by
_COMMON = {"/", "/etc", "/home", "/root", "/tmp", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool"}
_SUITES = ("hygiene.", "security.", "ccsp.rpm-unowned-files", "azure.waagent", "azure.cloud-init")


def named(guest: Guest, paths: list[str]) -> dict[str, set[str]]:
    """The requirements that fail and name a path, by path."""
    found: dict[str, set[str]] = {path: set() for path in paths}
    given = {"guest": guest, "facts": facts("hallmark-sample:9"), "today": date(2026, 11, 22)}
    for identifier, function in TESTS.items():
        words = set(inspect.signature(function).parameters) - {"check"}
        if not identifier.startswith(_SUITES) or identifier == _POLICY or words - set(given):
            continue
        check = Checks()
        with suppress(NotApplicable):
            function(check=check, **{name: given[name] for name in words})
        said = {word for item in check.failed for word in re.split(r", |[\s()]+", item.observed)}
        for path in paths:
            # A directory that must not be there speaks for all that is in it.
            above = [str(parent) for parent in PurePosixPath(path).parents]
            if said & {path, *above} - _COMMON:
                found[path].add(identifier)
    return found


def test_every_leftover_is_named(
    tree: Path,
    database: Path,
    change: Callable[[dict[str, str | bytes | None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "_SHOWN", 1 << 20)  # all of them at once make long lists
    unheard_of = "/var/lib/unheard-of/state"
    paths = sorted({unheard_of, *(path for listed in _LISTED.values() for path in listed)})
    assert len(paths) > 180
    before = named(directory_guest(tree, filler=1000, database=database), paths)
    assert not any(before.values()), "the good guest has none"
    change(dict.fromkeys(paths, "content\n"))
    after = named(directory_guest(tree, filler=1000, database=database), paths)
    assert [path for path, by in after.items() if not by] == [unheard_of]
