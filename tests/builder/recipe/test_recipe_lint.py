"""Every lint code with a recipe that it must find wrong, and one that it must leave alone."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from recipe_tree import RecipeTree

from builder.recipe import Finding, lint, load, plan
from builder.recipe.cli import lint_command

TODAY = date(2026, 11, 22)


def findings(path: Path, today: date = TODAY) -> list[Finding]:
    recipe = load(path)
    return lint(recipe, plan(recipe, version="9.20261122.0", source_date_epoch=0), today=today)


RHEL = {"id: centos": "id: rhel"}
BAD = [
    ("HM101", "architecture: aarch64\n", {}),
    ("HM102", "packages: {install: {remove: [grub2-pc]}}\n", {}),
    ("HM102", "packages: {install: {remove: [shim-x64]}}\n", {}),
    ("HM103", "disk: {size_mib: 3000000}\n", {}),
    ("HM103", "disk: {size_mib: 8192}\n", {}),
    ("HM104", "dotnet: {runtimes: ['3.1']}\n", {}),
    ("HM104", "dotnet: {runtimes: ['8.0']}\n", {'release: "9"': 'release: "7.9"'}),
    ("HM105", "dotnet: {runtimes: ['8.0']}\n", {}),
    ("HM106", "", {'release: "9"': 'release: "7.9"'}),
    ("HM107", "licence: byos\npackages: {install: [rhui-azure-rhel9]}\n", RHEL),
    ("HM107", "licence: payg\n", RHEL),
    ("HM107", "licence: payg\npackages: {install: [rhui-azure-rhel9, rhui-azure-rhel9-eus]}\n", RHEL),
    ("HM108", "visibility: community\n", RHEL),
    (
        "HM109",
        "dotnet: {runtimes: ['10.0']}\n",
        {
            "  main:\n": "  ms: {baseurl: 'https://packages.microsoft.com/rhel/9/prod', key: keys/KEY,"
            " fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567}\n  main:\n"
        },
    ),
    ("HM110", "kernel: {arguments: [quiet]}\n", {}),
    ("HM110", "kernel: {arguments: [console=tty0]}\n", {}),
    ("HM110", "kernel: {arguments: [init=/bin/sh]}\n", {}),
    ("HM110", "kernel: {arguments: [modprobe.blacklist=hv_netvsc]}\n", {}),
    ("HM110", "kernel: {arguments: {replace: [panic=1]}}\n", {}),
    ("HM111", "services: {enable: [a.service], mask: [a.service]}\n", {}),
    ("HM111", "services: {enable: [a.service], disable: [a.service]}\n", {}),
    ("HM112", "", {"https://example.invalid": "http://example.invalid"}),
    ("HM113", "", {"keys/KEY": "keys/OTHER"}),
    ("HM114", "packages: {exclude: {remove: [nothing]}}\n", {}),
    ("HM115", "", {"policies: [ccsp]": "policies: [ccsp], waivers: waivers/none.yaml"}),
    ("HM116", "", {"policies: [ccsp]": "policies: [cscp]"}),
]
GOOD = [
    (
        "HM101",
        "architecture: aarch64\ndisk: {generations: {replace: [2]}}\n"
        "kernel: {arguments: {replace: [console=ttyAMA0]}}\n"
        "packages: {install: [shim-aa64, grub2-efi-aa64]}\n",
        {},
    ),
    ("HM102", "packages: {install: {remove: [grub2-pc]}}\ndisk: {generations: {replace: [2]}}\n", {}),
    ("HM103", "disk: {size_mib: 3000000, generations: {replace: [2]}}\n", {}),
    ("HM104", "dotnet: {runtimes: ['10.0']}\n", {}),
    ("HM105", "dotnet: {runtimes: ['10.0']}\n", {}),
    ("HM106", "", {}),
    ("HM107", "licence: payg\npackages: {install: [rhui-azure-rhel9]}\n", RHEL),
    ("HM108", "visibility: community\n", {}),
    ("HM109", "dotnet: {runtimes: ['10.0']}\n", {}),
    ("HM110", "kernel: {arguments: [panic=1]}\n", {}),
    ("HM111", "services: {enable: [a.service], mask: [b.service]}\n", {}),
    ("HM112", "", {}),
    ("HM113", "", {}),
    ("HM114", "packages: {install: {remove: [grub2-pc]}}\n", {}),
    ("HM115", "", {}),
    ("HM116", "", {}),
]


@pytest.mark.parametrize(("code", "more", "changes"), BAD)
def test_bad_examples_are_found(tree: RecipeTree, code: str, more: str, changes: dict[str, str]) -> None:
    found = [item for item in findings(tree.demo(more, **changes)) if item.code == code]
    assert found
    for item in found:
        assert item.where.line >= 1
        assert all((item.what, item.why, item.fix))


@pytest.mark.parametrize(("code", "more", "changes"), GOOD)
def test_good_examples_are_left_alone(
    tree: RecipeTree, code: str, more: str, changes: dict[str, str]
) -> None:
    assert code not in [item.code for item in findings(tree.demo(more, **changes))]


def test_every_code_has_both_examples() -> None:
    from builder.recipe.lint import RULES

    codes = {re.match(r"HM\d+", rule.__doc__ or "")[0] for rule in RULES}  # type: ignore[index]
    assert codes == {code for code, _, _ in BAD} == {code for code, _, _ in GOOD}


def test_support_ends_on_a_day(tree: RecipeTree) -> None:
    path = tree.demo("dotnet: {runtimes: ['9.0']}\n")
    assert "HM105" not in [item.code for item in findings(path, date(2026, 11, 10))]
    assert "HM105" in [item.code for item in findings(path, date(2026, 11, 11))]


def test_the_verb_prints_findings_and_fails_on_errors_only(
    tree: RecipeTree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint_command([str(tree.demo())]) == 0
    assert lint_command([str(tree.demo("dotnet: {runtimes: ['8.0']}\n"))]) == 0
    assert "warning HM105" in capsys.readouterr().out
    assert lint_command([str(tree.demo("visibility: community\n", **RHEL))]) == 1
    assert "error HM108" in capsys.readouterr().out
    assert lint_command([str(tree.demo("kernal: 1\n")), str(tree.root / "none.yaml")]) == 1
    printed = capsys.readouterr().out
    assert "HM005" in printed
    assert "no such recipe file" in printed
