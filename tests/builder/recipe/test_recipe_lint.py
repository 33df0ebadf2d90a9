"""images/LINT.md, example by example: what each code must find, and what it must leave alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from recipe_tree import RecipeTree

from builder import log
from builder.recipe import Finding, RecipeError, Violation, expand, find, lint, load, plan, refuse
from builder.recipe.cli import explain_command, lint_command
from builder.recipe.load import IMAGES, names
from builder.recipe.rules import RULES

TODAY = date(2026, 11, 22)
GUIDE = (IMAGES / "LINT.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(yaml|text) ([a-z ]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    code: str
    title: str
    kind: str
    syntax: str
    text: str


def examples() -> list[Example]:
    found = []
    for section in re.split(r"^### ", GUIDE, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        for syntax, kind, text in BLOCK.findall(body):
            found.append(Example(title.partition(":")[0], title, kind, syntax, text))
    return found


EXAMPLES = examples()


def named(kind: str) -> str:
    (text,) = [text for _, name, text in BLOCK.findall(GUIDE.partition("\n## ")[0]) if name == kind]
    return text


def blocks(text: str) -> dict[str, str]:
    """The top-level keys of a document with their text."""
    parts = re.split(r"^(?=[a-z_]+:)", text, flags=re.MULTILINE)
    return {part.partition(":")[0]: part for part in parts if part.strip()}


def write(tree: RecipeTree, example: Example) -> Path:
    """The guide's recipe with an example laid over it."""
    base = blocks(named("base"))
    tree.layer("base", named("layer"))
    text = example.text
    if example.kind.endswith("layer"):
        tree.layer("round", text)
        text = "extends: [round]\n"
    if example.syntax == "text":
        text = text.encode().decode("unicode_escape")
    rest = "".join(part for key, part in base.items() if key not in blocks(text))
    name = blocks(text).get("recipe", base["recipe"]).partition(":")[2].strip()
    path = tree.root / f"{name}.yaml"
    path.write_bytes((rest + text).encode("latin-1" if example.syntax == "text" else "utf-8"))
    return path


def findings(path: Path, today: date = TODAY) -> list[Finding | Violation]:
    """Everything that is wrong with any variant of a recipe."""
    found: list[Finding | Violation] = []
    try:
        for reference in expand(find(str(path))):
            recipe = load(reference)
            made = plan(recipe, version="9.20261122.0", source_date_epoch=0)
            found += lint(recipe, made, today=today)
    except RecipeError as error:
        return list(error.violations)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda item: f"{item.code}-{item.kind.replace(' ', '-')}")
def test_examples_do_what_the_guide_says(tree: RecipeTree, example: Example) -> None:
    everything = findings(write(tree, example))
    found = [item for item in everything if item.code == example.code]
    if example.kind.startswith("good"):
        assert found == []
        assert [item for item in everything if not isinstance(item, Finding)] == []
        return
    assert found, everything
    for item in found:
        assert item.where.line >= 1
        assert item.what
        assert item.fix, item
        if isinstance(item, Finding):
            assert item.why
            assert f"{item.level}" in example.title, "the title says how bad it is"


def test_every_code_has_examples_of_both_kinds() -> None:
    ruled = {code for rule in RULES for code in re.findall(r"HM\d+", rule.__doc__ or "")}
    language = {f"HM{number:03}" for number in range(1, 13)}
    for kind in ("bad", "good"):
        assert {item.code for item in EXAMPLES if item.kind.startswith(kind)} == ruled | language
    used = {
        code
        for path in (IMAGES.parent / "builder" / "recipe").rglob("*.py")
        for code in re.findall(r'"(HM\d+)"', path.read_text(encoding="utf-8"))
    }
    assert used == ruled | language


def test_support_ends_on_a_day(tree: RecipeTree) -> None:
    path = tree.demo("dotnet: {runtimes: ['9.0']}\n")
    assert "HM105" not in [item.code for item in findings(path, date(2026, 11, 10))]
    assert "HM105" in [item.code for item in findings(path, date(2026, 11, 11))]


def test_a_disk_that_can_not_be_laid_out_is_more_than_a_small_one(tree: RecipeTree) -> None:
    # 1 MiB before the partitions, 1 for BIOS boot, 500 ESP, 1024 /boot, 32 for ext4, 1 after them.
    levels = {}
    for size in (1558, 1559):
        found = findings(tree.demo(f"disk: {{size_mib: {size}, esp_mib: 500, boot_mib: 1024}}\n"))
        levels[size] = [item.level for item in found if isinstance(item, Finding) and item.code == "HM103"]
    assert levels == {1558: ["error"], 1559: ["warning"]}


def test_a_secret_is_not_repeated(tree: RecipeTree) -> None:
    path = tree.demo(
        """
        edit: {/etc/x: {set: {Password: hunter2}, lines: ["api_key = 'hunter2'"]}}
        scripts:
          a: {content: "#!/bin/sh\\nregister --password hunter2\\n"}
          b: {content: "#!/bin/sh\\necho me:hunter2 | chpasswd\\n"}
        """
    )
    found = [item for item in findings(path) if item.code == "HM122"]
    assert [(item.where.line, "hunter2" in str(item)) for item in found] == [
        *((13, False), (13, False), (15, False), (16, False))
    ]


def test_errors_stop_a_build_and_warnings_do_not(tree: RecipeTree) -> None:
    def start(path: Path) -> None:
        recipe = load(path)
        refuse(recipe, plan(recipe, version="9.20261122.0", source_date_epoch=0), today=TODAY)

    start(tree.demo("dotnet: {runtimes: ['8.0']}\n"))
    with pytest.raises(RecipeError, match="HM110 the kernel argument quiet"):
        start(tree.demo("kernel: {arguments: [quiet]}\n"))


def test_the_verb_prints_findings_and_fails_on_errors_only(
    tree: RecipeTree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint_command([str(tree.demo())]) == 0
    assert lint_command([str(tree.demo("dotnet: {runtimes: ['8.0']}\n"))]) == 0
    assert "warning HM105" in capsys.readouterr().out
    assert lint_command([str(tree.demo("kernel: {arguments: [quiet]}\n"))]) == 1
    assert "error HM110" in capsys.readouterr().out
    assert lint_command([str(tree.demo("kernal: 1\n")), str(tree.root / "none.yaml")]) == 1
    printed = capsys.readouterr().out
    assert "HM005" in printed
    assert "no such recipe file" in printed


def test_the_verb_names_the_variants_that_a_finding_is_about(
    tree: RecipeTree, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tree.demo(
        "variants: {size: {small: {}, tiny: {disk: {size_mib: 4096}}}}\nfiles: {/x: {source: x}}\n"
    )
    (tree.root / "x").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert lint_command([str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    (size,) = [line for line in lines if "HM103" in line]
    assert size.endswith("[demo-9-tiny]")
    (secret,) = [line for line in lines if "HM122" in line]
    assert not secret.endswith("]")


def test_the_verb_tells_the_mistakes_of_every_variant_at_once(
    tree: RecipeTree, capsys: pytest.CaptureFixture[str]
) -> None:
    more = """
    variants:
      size:
        small: {}
        large: {files: {/a: {source: nowhere}}}
        huge: {extends: [nothing], services: {enable: [a.service], mask: [a.service]}}
      flavour: {plain: {}, odd: {files: {/b: {}}}}
    """
    assert lint_command([str(tree.demo(more))]) == 1
    codes = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert sorted(codes) == ["HM006", "HM008", "HM010"]


@pytest.fixture
def json_mode() -> Iterator[None]:
    log.configure(mode="json")
    yield
    log.configure()


@pytest.mark.usefixtures("json_mode")
def test_programs_read_one_object_a_line(tree: RecipeTree, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree.demo("kernel: {arguments: [quiet]}\n")
    assert lint_command([str(path)]) == 1
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (found["event"], found["code"], found["level"]) == ("finding", "HM110", "error")
    assert (found["file"], found["line"]) == (str(path), 12)
    assert all((found["what"], found["why"], found["fix"]))
    assert explain_command(str(path), "disk.size_mib") == 0
    (value,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (value["path"], value["value"]) == ("disk.size_mib", 12288)


def test_explain_without_a_name_tells_every_variant(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_command(None, "") == 0
    told = capsys.readouterr().out
    everything = [load(variant).name for name in names() for variant in expand(find(name))]
    assert re.findall(r"^# (.+)$", told, re.MULTILINE) == everything
    assert "disk.size_mib = 12288    # images/sample-9.yaml:" in told
