"""The documents are true: links lead somewhere, commands exist, named files are there."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from builder.grammar import parser
from builder.workspace import PROJECT

DOCUMENTS = [
    path
    for path in [
        *PROJECT.glob("*.md"),
        *PROJECT.glob("images/**/*.md"),
        *PROJECT.glob("certification/**/*.md"),
    ]
    if "node_modules" not in path.parts
]
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
_BLOCK = re.compile(r"^```(?:sh|console|shell)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:\./ci/nox|hallmark) [^`\n]+)`")


def sessions() -> set[str]:
    """The names of the nox sessions, read from the noxfile's text."""
    names: set[str] = set()
    for node in ast.parse((PROJECT / "noxfile.py").read_text()).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
            given = [k.value.value for k in keywords if k.arg == "name" and isinstance(k.value, ast.Constant)]
            names.add(str(given[0]) if given else node.name)
    return names


def commands(document: Path) -> list[str]:
    """Every command line for ci/nox or hallmark in a document."""
    text = document.read_text()
    lines = [line.strip() for block in _BLOCK.findall(text) for line in block.splitlines()]
    lines += _INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in lines if re.match(r"(\./ci/nox|hallmark)\b", line)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_somewhere(document: Path) -> None:
    dead = [link for link in _LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_commands_exist(document: Path) -> None:
    for line in commands(document):
        words = shlex.split(line, comments=True)
        if words[0] == "./ci/nox":
            named = words[words.index("-s") + 1] if "-s" in words else None
            assert named is None or named in sessions(), f"{line}: no such session"
            continue
        try:
            parser().parse_args(words[1:])
        except SystemExit as stop:
            assert stop.code == 0, f"{line}: the command line does not parse"


def test_the_check_can_fail(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("[a](missing.md)\n\n```sh\n./ci/nox -s nowhere\n```\nand `hallmark fly`\n")
    assert commands(document) == ["./ci/nox -s nowhere", "hallmark fly"]
    with pytest.raises(AssertionError):
        test_links_lead_somewhere(document)
    with pytest.raises(AssertionError):
        test_commands_exist(document)
