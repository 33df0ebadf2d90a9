"""Two locks are compared package by package; a file that is no lock is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from diff_support import run

from builder.cli import main
from builder.diff.command import EXIT_DIFFERENT

A, B, KEY = "a" * 64, "b" * 64, "c" * 16
LOCK = f"""\
format: 1
recipe: sample-9
when: "2026-11-22T12:00:00Z"
inputs: {A}
packages:
  - {{name: bash, version: 5.2.15, release: 3.el9, arch: x86_64, repository: baseos, key: {KEY}, sha256: {A}}}
  - {{name: kernel, version: "9.10", release: "1", arch: x86_64, repository: base, key: {KEY}, sha256: {B}}}
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("5.2.15", "5.2.16", {"changed": ["bash.x86_64"]}),
        ("9.10", "9.1", {"changed": ["kernel.x86_64"]}),
        (f"sha256: {A}", f"sha256: {B}", {"changed": ["bash.x86_64"]}),
        ("baseos", "mirror", {"changed": ["bash.x86_64"]}),
        ("name: bash", "name: zsh", {"added": ["zsh.x86_64"], "removed": ["bash.x86_64"]}),
    ],
)
def test_two_locks_differ_in(
    tmp_path: Path, old: str, new: str, expected: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.lock.yaml", tmp_path / "two.lock.yaml"
    one.write_text(LOCK)
    two.write_text(LOCK)
    assert run(str(one), str(two), capsys=capsys)[0] == 0
    two.write_text(LOCK.replace(old, new, 1))
    status, found = run(str(one), str(two), capsys=capsys)
    assert status == EXIT_DIFFERENT
    changes = found["sections"]["packages"]
    assert {how: list(names) for how, names in changes.items() if names} == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("packages: [", "not a lock"),
        ("packages:\n  - {name: a}\n", "not a lock"),
        ("[]", "not a lock"),
        (None, "cannot read the lock"),
    ],
)
def test_a_damaged_lock_is_named(
    tmp_path: Path, text: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.lock.yaml"
    if text is not None:
        path.write_text(text)
    assert main(["diff", str(path), str(path)]) == 1
    assert words in capsys.readouterr().err


def test_what_cannot_be_compared_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "a.lock.yaml"
    lock.write_text(LOCK)
    assert main(["diff", "sample-9", str(lock)]) == 1
    assert "can't be compared with the recipe sample-9" in capsys.readouterr().err
    assert main(["diff", "sample-9", "sample-8"]) == 1
    assert "no recipe 'sample-8'" in capsys.readouterr().err
