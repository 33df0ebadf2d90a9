"""The generated edit programs, run by a real shell on real files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from builder.recipe.edits import script_for


def run(file: Path, values: dict[str, str], lines: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    program = script_for(str(file), values, lines)
    return subprocess.run(["/bin/sh", "-s"], input=program, text=True, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        ("A=1\nB=2\n", {"A": "9"}, "A=9\nB=2\n"),
        ("# A=1\nB=2\n", {"A": "9"}, "A=9\nB=2\n"),
        ("# A=1\nA=2\n", {"A": "9"}, "# A=1\nA=9\n"),
        ("A=1\nA=2\nB=1\n", {"A": "9"}, "A=9\nB=1\n"),
        ("AA=1\nA=2\n", {"A": "9"}, "AA=1\nA=9\n"),
        ("A.B=1\nAxB=2\n", {"A.B": "9"}, "A.B=9\nAxB=2\n"),
        ("  A = 1\n", {"A": "9"}, "A=9\n"),
        ("A=1\n", {"A": 'it\'s & $HOME "x"'}, 'A=it\'s & $HOME "x"\n'),
        ("A=1", {"A": "2"}, "A=2\n"),
        ("A=1\nB=1\n", {"A": "2", "B": "3"}, "A=2\nB=3\n"),
    ],
)
def test_values_are_set_in_place(tmp_path: Path, before: str, values: dict[str, str], after: str) -> None:
    file = tmp_path / "file with space.conf"
    file.write_text(before)
    file.chmod(0o640)
    done = run(file, values)
    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_text() == after
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert run(file, values).returncode == 0
    assert file.read_text() == after


def test_a_key_that_the_file_does_not_know_fails_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "waagent.conf"
    file.write_text("A=1\n")
    done = run(file, {"Typo": "1"})
    assert done.returncode != 0
    assert "does not know the key Typo" in done.stderr
    assert file.read_text() == "A=1\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_file_fails(tmp_path: Path) -> None:
    done = run(tmp_path / "none", {"A": "1"})
    assert done.returncode != 0
    assert "package that owns it is missing" in done.stderr


def test_lines_are_added_once(tmp_path: Path) -> None:
    file = tmp_path / "chrony.conf"
    file.write_text("pool a\nmakestep 1 3\n")
    lines = ("makestep 1.0 -1", "-e odd", "pool a")
    for _ in range(2):
        assert run(file, {}, lines).returncode == 0
    assert file.read_text() == "pool a\nmakestep 1 3\nmakestep 1.0 -1\n-e odd\n"


def test_a_line_is_not_glued_to_a_last_line_without_its_end(tmp_path: Path) -> None:
    file = tmp_path / "chrony.conf"
    file.write_text("pool a")
    assert run(file, {}, ("b",)).returncode == 0
    assert file.read_text() == "pool a\nb\n"
