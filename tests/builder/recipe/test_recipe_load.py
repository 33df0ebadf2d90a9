"""Reading recipes and layers: what is found wrong, where, and in one go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe_tree import MINIMAL, RecipeTree

from builder.cli import main
from builder.errors import HallmarkError
from builder.recipe import RecipeError, Reference, Violation, find, load, name_of
from builder.recipe.conditions import check_specifier, release_matches
from builder.recipe.explain import explain
from builder.recipe.merge import settled

Violations = Callable[[Path], tuple[Violation, ...]]


def test_a_good_recipe_loads_with_its_layers_in_order(tree: RecipeTree) -> None:
    tree.layer("top", "layer: top\nsummary: t\nextends: [base]\nkernel: {arguments: [panic=1]}\n")
    recipe = load(tree.demo("", **{"[base]": "[top, base]"}))
    assert [document.name for document in recipe.documents] == ["base", "top", "demo-9"]
    assert settled(recipe.tree)["kernel"]["arguments"] == ["console=tty1", "console=ttyS0", "panic=1"]


@pytest.mark.parametrize(
    ("more", "code", "line", "column", "words"),
    [
        ("kernal: {arguments: [a]}", "HM005", 12, 1, "did you mean 'kernel'?"),
        ("kernel: {argumets: [a]}", "HM005", 12, 10, "did you mean 'arguments'?"),
        ("packages: {install: {appendd: [a]}}", "HM005", 12, 22, "did you mean 'append'?"),
        ("files: {/etc/x: {contents: a}}", "HM005", 12, 18, "did you mean 'content'?"),
        ("windows: [{when: {releas: '>=9'}}]", "HM005", 12, 19, "did you mean 'release'?"),
        ("windows: [{kernel: {arguments: [a]}}]", "HM007", 12, 11, "'windows.0.when' is missing"),
        ("windows: [{when: {release: '9.6'}}]", "HM006", 12, 28, "not a comparison"),
        ("windows: [{when: {release: null}}]", "HM006", 12, 19, "leave the key out"),
        ("windows: [{when: {distribution: null}}]", "HM006", 12, 19, "leave the key out"),
        ("windows: [{when: {distribution: []}}]", "HM006", 12, 19, "at least 1 item"),
        ("windows: [{when: {architecture: null}}]", "HM006", 12, 19, "leave the key out"),
        ("windows: [{when: {licence: ~}}]", "HM006", 12, 19, "leave the key out"),
        ("locale: {timezone: ../../etc/shadow}", "HM006", 12, 20, "a time zone"),
        ("locale: {timezone: Europe/../UTC}", "HM006", 12, 20, "a time zone"),
        (r'locale: {language: "C\0"}', "HM006", 12, 20, "one line of text"),
        (f"files: {{/etc/x: {{source: {'x' * 256}}}}}", "HM006", 12, 26, "255 bytes"),
        ("disk: {size_mib: large}", "HM006", 12, 18, "'large'"),
        ("disk: {size_mib: 12288.5}", "HM006", 12, 18, "12288.5"),
        ("disk: {filesystem: btrfs}", "HM006", 12, 20, "'ext4' or 'xfs'"),
        ("disk: {generations: [3]}", "HM006", 12, 22, "disk.generations.0"),
        ("disk: 7", "HM006", 12, 7, "disk: 7"),
        ("packages: {install: kernel}", "HM006", 12, 21, "'kernel'"),
        ("packages: {install: [a b]}", "HM006", 12, 22, "packages.install.0"),
        ("services: {enable: [sshd]}", "HM006", 12, 21, "'sshd'"),
        ("kernel: {arguments: ['a b']}", "HM006", 12, 22, "'a b'"),
        ("files: {etc/x: {content: a}}", "HM006", 12, 9, "'etc/x'"),
        ("files: {/etc/../x: {content: a}}", "HM006", 12, 9, "'..'"),
        ("files: {/etc/x: {content: a, mode: '9'}}", "HM006", 12, 36, "'9'"),
        ("windows: [{when: {}, repositories: {o: {fingerprint: abc}}}]", "HM006", 12, 54, "'abc'"),
        ("dotnet: {runtimes: [10]}", "HM006", 12, 21, "10"),
        ("bootloader: {serial: maybe}", "HM006", 12, 22, "'maybe'"),
    ],
)
def test_each_mistake_is_named_at_its_place(
    tree: RecipeTree, violations: Violations, more: str, code: str, line: int, column: int, words: str
) -> None:
    path = tree.demo(more + "\n")
    found = violations(path)
    assert [(item.code, item.where.line, item.where.column) for item in found] == [(code, line, column)]
    assert str(found[0]).startswith(f"{path}:{line}:{column}: ")
    assert words in str(found[0])


def test_every_mistake_in_every_file_is_told_at_once(tree: RecipeTree, violations: Violations) -> None:
    tree.layer("base", "layer: base\nsummary: b\nkernal: 1\ndisk: {size_mib: x}\n")
    found = violations(tree.demo("boot: 1\nextends: [nowhere]\n"))
    assert [(item.where.path, item.code) for item in found] == [
        (str(tree.root / "demo-9.yaml"), "HM005"),
        (str(tree.root / "demo-9.yaml"), "HM003"),
        (str(tree.root / "layers" / "base.yaml"), "HM005"),
        (str(tree.root / "layers" / "base.yaml"), "HM006"),
    ]
    with pytest.raises(RecipeError) as caught:
        load(tree.root / "demo-9.yaml")
    assert str(caught.value).count("HM0") == 4


@pytest.mark.parametrize("key", ["recipe", "title", "summary", "distribution"])
def test_what_a_recipe_must_say(tree: RecipeTree, violations: Violations, key: str) -> None:
    text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(f"{key}:"))
    found = violations(tree.recipe(text))
    assert [(item.code, item.what) for item in found] == [("HM007", f"{key!r} is missing")]


def test_layers_that_are_missing_or_go_in_a_circle(tree: RecipeTree, violations: Violations) -> None:
    found = violations(tree.demo("", **{"[base]": "[bas]"}))
    assert (found[0].code, found[0].where.line) == ("HM008", 4)
    assert "did you mean 'base'?" in found[0].fix
    found = violations(tree.demo("", **{"[base]": "[../layers/base]"}))
    assert found[0].code in ("HM006", "HM010")
    tree.layer("a", "layer: a\nsummary: a\nextends: [b]\n")
    tree.layer("b", "layer: b\nsummary: b\nextends: [c]\n")
    tree.layer("c", "layer: c\nsummary: c\nextends: [a]\n")
    found = violations(tree.demo("", **{"[base]": "[base, a]"}))
    assert [item.code for item in found] == ["HM009"]
    assert "a → b → c → a" in found[0].what
    assert str(found[0].where).endswith("layers/c.yaml:3:11")
    tree.layer("a", "layer: a\nsummary: a\nextends: [a]\n")
    assert [item.code for item in violations(tree.demo("", **{"[base]": "[base, a]"}))] == ["HM009"]


def test_a_recipe_only_key_in_a_layer(tree: RecipeTree, violations: Violations) -> None:
    tree.layer("base", "layer: base\nsummary: b\ndistribution: {id: x}\n")
    found = violations(tree.root / "demo-9.yaml")
    assert found[0].code == "HM005"
    assert "belongs into a recipe" in found[0].what


def test_a_release_puts_no_credentials_into_addresses(tree: RecipeTree, violations: Violations) -> None:
    path = tree.demo("", **{'release: "9"': 'release: "9", releasever: "me:word@h"', "example.invalid/": ""})
    assert [(item.code, item.where.line) for item in violations(path)] == [("HM006", 5)]


def test_names_agree_with_files(tree: RecipeTree, violations: Violations) -> None:
    assert "file 'demo-9'" in violations(tree.demo("", **{"recipe: demo-9": "recipe: demo"}))[0].what
    assert violations(tree.recipe(MINIMAL.replace("demo-9", "demo.9"), "demo.9"))[0].code == "HM006"


def test_a_recipe_takes_no_name_that_the_build_directory_needs(
    tree: RecipeTree, violations: Violations
) -> None:
    tree.recipe(MINIMAL.replace("demo-9", "catalog"), "catalog")
    [found] = violations(tree.root / "catalog.yaml")
    assert (found.code, found.what) == ("HM006", "a recipe can't be called 'catalog'")


def test_find(tree: RecipeTree) -> None:
    path = tree.root / "demo-9.yaml"
    assert find("demo-9", images=tree.root) == Reference(path)
    assert find("demo-9-byos-aarch64", images=tree.root) == Reference(path, "byos-aarch64")
    assert find(str(path)) == Reference(path)
    assert find(f"{path}:byos") == Reference(path, "byos")
    with pytest.raises(HallmarkError, match="no recipe 'demo-8'") as caught:
        find("demo-8", images=tree.root)
    assert "demo-9" in (caught.value.hint or "")
    with pytest.raises(HallmarkError, match="no such recipe file"):
        find(str(tree.root / "x.yaml"))


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".yaml", "x/" * 3000 + "x.yaml"])
def test_a_name_that_no_file_can_have(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for look in (find, name_of):
        with pytest.raises(HallmarkError, match="cannot look for the recipe: File name too long"):
            look(name)
    build = ["--build-dir", str(tmp_path)]
    for verb in ("lint", "plan", "matrix", "explain", "lock", "build", "certify", "boot"):
        assert main([verb, name, *build]) == 1
        out, told = capfd.readouterr()
        assert "File name too long" in out + told
        assert "Traceback" not in out + told


@pytest.mark.parametrize(
    ("release", "specifier", "expected"),
    [
        ("9.10", ">=9.6", True),
        ("9.5", ">=9.6", False),
        ("9.6", ">=9.6, <9.8", True),
        ("9.8", ">=9.6, <9.8", False),
        ("9", ">=9.6", True),
        ("9", "<9.8", False),
        ("8.10", ">=9.6", False),
        ("10.0", ">=9.6", True),
        ("10.0", "<10", False),
        ("9.7", "<10", True),
        ("8", "==8", True),
        ("8.9", "==8", True),
        ("8.9", "!=8", False),
        ("10.0", "==10.0", True),
        ("10", "==10.0", False),
        ("9.6", ">9.6", False),
        ("9.6", "<=9.6", True),
    ],
)
def test_release_windows(release: str, specifier: str, expected: bool) -> None:
    assert release_matches(release, check_specifier(specifier)) is expected


@pytest.mark.parametrize("specifier", ["", "9", "9.6", "~=9", ">=9.x", ">=9,", ">= 9.6.1", ">=99999"])
def test_specifiers_that_are_none(specifier: str) -> None:
    with pytest.raises(ValueError, match="not a comparison"):
        check_specifier(specifier)


@pytest.mark.parametrize(
    ("when", "counts"),
    [
        ("{release: '>=9'}", True),
        ("{release: '<9'}", False),
        ("{distribution: [rhel, centos]}", True),
        ("{distribution: [rhel]}", False),
        ("{architecture: x86_64, licence: free}", True),
        ("{architecture: x86_64, licence: byos}", False),
    ],
)
def test_windows_count_when_all_holds(tree: RecipeTree, when: str, counts: bool) -> None:
    tree.layer("w", f"layer: w\nsummary: w\nwindows: [{{when: {when}, disk: {{boot_mib: 2000}}}}]\n")
    recipe = load(tree.demo("", **{"[base]": "[base, w]"}))
    assert settled(recipe.tree)["disk"].get("boot_mib") == (2000 if counts else None)


def test_explain_tells_where_a_value_is_from_and_what_it_overrode(tree: RecipeTree) -> None:
    recipe = load(tree.demo("disk: {size_mib: 20000}\n"))
    (item,) = explain(recipe, "disk.size_mib")
    assert (item.value, str(item.where)) == (20000, f"{tree.root}/demo-9.yaml:12:18")
    assert [(value, str(where)) for value, where in item.overrode] == [
        (12288, f"{tree.root}/layers/base.yaml:5:18")
    ]
    with pytest.raises(HallmarkError, match=r"nothing at 'disk\.sise_mib'"):
        explain(recipe, "disk.sise_mib")


keys = st.sampled_from(
    ["recipe", "title", "extends", "distribution", "packages", "install", "files", "/etc/x", "kernel", "disk",
     "windows", "when", "release", "append", "remove", "replace", "content", "size_mib", "edit", "set", "zzz"]
)  # fmt: skip
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), keys)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(document=st.dictionaries(keys, documents, max_size=5))
def test_no_document_ends_in_anything_but_a_recipe_error(tree: RecipeTree, document: dict[str, Any]) -> None:
    good = yaml.safe_load(MINIMAL)
    path = tree.root / "demo-9.yaml"
    path.write_text(yaml.safe_dump({**good, **document}, allow_unicode=True), encoding="utf-8")
    try:
        load(path)
    except RecipeError as error:
        assert error.violations
        assert all(item.where.path for item in error.violations)
