"""Mirrors files: what they change in a recipe, what is told about it, and every mistake with its line."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from recipe_tree import RecipeTree

from builder.cli import main
from builder.errors import HallmarkError
from builder.recipe import Plan, RecipeError, load, names, plan, substitute
from builder.recipe.load import IMAGES, Recipe

SAMPLE_MIRROR = IMAGES / "sample-distribution" / "mirror.yaml"
PRINT = "89ABCDEF0123456789ABCDEF0123456789ABCDEF"


def mirrored(tree: RecipeTree, text: str, *, more: str = "") -> Plan:
    file = tree.root.parent / "mirrors.yaml"
    file.write_text(textwrap.dedent(text).lstrip("\n"))
    recipe = substitute(load(tree.demo(more)), file)
    return plan(recipe, version="9.20261122.0", source_date_epoch=0)


def test_a_mirror_changes_the_address_and_keeps_the_key(tree: RecipeTree) -> None:
    before = plan(load(tree.demo()), version="9.20261122.0", source_date_epoch=0)
    made = mirrored(tree, "repositories:\n  main: {baseurl: https://satellite.invalid/$major/$basearch}\n")
    assert made.repositories[0].baseurl == "https://satellite.invalid/9/x86_64"
    assert made.repositories[0].fingerprint == before.repositories[0].fingerprint
    assert made.repositories[0].where.path.endswith("mirrors.yaml")
    assert made.repositories[0].where.line == 2
    assert [str(item) for item in made.substitutions] == [
        "repository main: https://example.invalid/$releasever/$major/$basearch → "
        "https://satellite.invalid/$major/$basearch"
    ]
    assert made.digest() != before.digest(), "an image of a mirror is not the image of the vendor's content"


def test_another_address_gets_no_client_certificate_of_the_first(tree: RecipeTree) -> None:
    more = (
        "windows: [{when: {}, repositories: {main: {client_certificate: {secret: env:CERT},"
        " client_key: {secret: env:KEY}}}}]\n"
    )
    text = "repositories: {main: {baseurl: 'https://m.invalid', ca: {secret: 'file:/etc/site-ca.pem'}}}\n"
    made = mirrored(tree, text, more=more).repositories[0]
    assert (made.client_certificate, made.client_key) == (None, None)
    assert made.ca is not None
    assert made.ca.secret == "file:/etc/site-ca.pem"


def test_another_key_is_beside_the_mirrors_file(tree: RecipeTree) -> None:
    text = f"repositories: {{main: {{embedded: sample-distribution, key: KEY, fingerprint: {PRINT}}}}}\n"
    made = mirrored(tree, text)
    assert made.repositories[0].key == str(tree.root.parent / "KEY")
    assert [item.what for item in made.substitutions] == ["repository main", "key of repository main"]


def test_packages_and_changes_are_substitutions_too(tree: RecipeTree) -> None:
    made = mirrored(
        tree,
        """
        repositories:
          main: { baseurl: https://mirror.invalid }
        packages:
          kernel: kernel-rt
          efibootmgr: null
        platform: 8
        changes:
          kernel: { arguments: { remove: [console=tty1], append: [quiet] } }
          windows:
            - when: { distribution: [centos] }
              bootloader: { vendor: centos }
            - when: { distribution: [rhel] }
              bootloader: { vendor: redhat }
        """,
    )
    assert [request.name for request in made.packages.install] == [
        "kernel-rt", "grub2-pc", "grub2-efi-x64", "shim-x64"
    ]  # fmt: skip
    assert made.packages.install[0].where.line == 4
    assert made.kernel.arguments == ("console=ttyS0", "quiet")
    assert made.bootloader.vendor == "centos"
    assert made.distribution.platform == 8
    assert {str(item) for item in made.substitutions if not item.what.startswith("repository")} == {
        "kernel.arguments: console=tty1 → quiet",
        "bootloader.vendor: nothing → centos",
        "package kernel: kernel → kernel-rt",
        "package efibootmgr: efibootmgr → nothing",
        "platform: 9 → 8",
    }
    assert all(item.where.line for item in made.substitutions)
    assert Plan.model_validate_json(made.to_json()) == made


WHOLE = f"""
recipe: whole-9
title: Whole
summary: A system that comes whole.
distribution: {{id: centos, name: Demo Linux, release: "9"}}
ostree:
  remote: atomic
  url: https://example.invalid/repo
  ref: demo/$major/standard
  key: keys/KEY
  fingerprint: {PRINT}
  client_certificate: {{secret: env:CERT}}
  client_key: {{secret: env:KEY}}
kernel: {{arguments: [console=tty1, console=ttyS0]}}
disk: {{size_mib: 12288}}
certification: {{policies: [ccsp]}}
"""


def test_a_system_that_comes_whole_has_a_mirror_by_its_remote(tree: RecipeTree) -> None:
    recipe, file = tree.recipe(WHOLE, "whole-9"), tree.root.parent / "mirrors.yaml"

    def made(text: str) -> Plan:
        file.write_text(text)
        return plan(substitute(load(recipe), file), version="9.20261122.0", source_date_epoch=0)

    taken = made(
        "ostree: {atomic: {source: 'file:///srv/$major.tar'}}\nchanges: {kernel: {arguments: [x]}}\n"
    )
    assert taken.ostree is not None
    assert (taken.ostree.source, taken.ostree.key) == ("file:///srv/9.tar", "keys/KEY")
    assert (taken.ostree.client_certificate, taken.ostree.client_key) == (None, None)
    assert taken.kernel.arguments[-1] == "x"
    assert [str(item) for item in taken.substitutions] == [
        "kernel.arguments: nothing → x",
        "commits of atomic: https://example.invalid/repo → file:///srv/$major.tar",
    ]
    other = made(f"ostree: {{atomic: {{url: 'https://own.invalid', key: K, fingerprint: {'AB' * 20}}}}}\n")
    assert other.ostree is not None
    assert (other.ostree.url, other.ostree.key) == ("https://own.invalid", str(tree.root.parent / "K"))
    assert other.ostree.client_key is not None, "commits still come from the recipe's server"
    assert [item.what for item in other.substitutions] == ["updates of atomic", "key of remote atomic"]


def test_a_recipe_that_is_not_concerned_stays_as_it_is(tree: RecipeTree) -> None:
    other = tree.demo().read_text().replace("demo-9", "other-9").replace("  main:", "  second:")
    tree.recipe(other, "other-9")
    text = "repositories: {second: {baseurl: 'https://m.invalid'}}\nchanges: {kernel: {arguments: [quiet]}}\n"
    assert mirrored(tree, text).substitutions == ()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("repositories:\n  mian: {baseurl: https://x.invalid}\n", 2, "did you mean 'main'?"),
        ("repositories:\n  main: {baseurl: https://x.invalid}\npackages:\n  kernle: x\n", 4, "'kernel'?"),
        ("repositories:\n  main: {bseurl: https://x.invalid}\n", 2, "did you mean 'baseurl'?"),
        ("repositories:\n  main: {key: KEY}\n", 2, "no address"),
        ("repositories:\n  main: {baseurl: https://x.invalid, key: KEY}\n", 2, "a key only"),
        ("repositories:\n  main: {embedded: other}\n", 2, "'sample-distribution'"),
        ("repositories: {}\nrepositories: {}\n", 2, "twice"),
        ("repository: {}\n", 1, "did you mean 'repositories'?"),
        ("repositories: {}\nchanges:\n  kernal: {}\n", 3, "did you mean 'kernel'?"),
        ("repositories: {}\nplatform: nine\n", 2, "'nine'"),
        ("changes: {kernel: {arguments: [x]}}\n", 1, "neither repositories nor ostree"),
        ("ostree:\n  atomik: {source: https://x.invalid}\n", 2, "did you mean 'atomic'?"),
        ("ostree:\n  atomic: {ca: {secret: env:CA}}\n", 2, "no address"),
        (
            f"ostree:\n  atomic: {{source: https://x.invalid, fingerprint: {PRINT}}}\n",
            2,
            "a fingerprint only",
        ),
        ("ostree:\n  atomic: {source: 'https://me:word@x.invalid'}\n", 2, "a password in an address"),
        ("ostree:\n  atomic: {source: null}\n", 2, "'atomic' has no source"),
        ("ostree:\n  atomic:\n    source: https://x.invalid\n    url:\n", 4, "'atomic' has no url"),
        ("repositories:\n  main: {baseurl: null}\n", 2, "leave the key out"),
        ("repositories:\n  main: null\n", 2, "None is not right"),
        ("repositories:\n  main: {baseurl: https://x.invalid, key: null}\n", 2, "'main' has no key"),
        (
            'repositories:\n  main: {baseurl: "https://x.invalid", key: "K\\0", fingerprint: '
            + PRINT
            + "}\n",
            2,
            "one line of text",
        ),
        (
            f"repositories:\n  main: {{metalink: 'https://x', key: {'x' * 256}, fingerprint: {PRINT}}}\n",
            2,
            "255 bytes",
        ),
        ("changes:\n  windows:\n    - when: {release: null}\n", 3, "leave the key out"),
    ],
)
def test_each_mistake_names_its_line(tree: RecipeTree, text: str, line: int, words: str) -> None:
    tree.recipe(WHOLE, "whole-9")
    with pytest.raises(RecipeError) as caught:
        mirrored(tree, text)
    told = str(caught.value)
    assert re.search(rf"mirrors\.yaml:{line}:", told), told
    assert words in told


def test_a_key_of_nobody_is_explained(tree: RecipeTree) -> None:
    text = "repositories:\n  main: {baseurl: 'https://x.invalid', key: ~no-such-user/k, fingerprint: "
    with pytest.raises(HallmarkError, match="the key of the mirror of 'main' can't be looked for") as caught:
        mirrored(tree, f"{text}{PRINT}}}\n")
    assert re.search(r"mirrors\.yaml:2:", str(caught.value))


def test_a_missing_file_is_explained(tree: RecipeTree, tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="cannot read the mirrors file: No such file"):
        substitute(load(tree.demo()), tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("value", ["hunter2-hunter2", "'-----BEGIN PRIVATE KEY-----'", "env:A B"])
def test_a_secret_that_was_written_into_a_recipe_is_not_repeated(tree: RecipeTree, value: str) -> None:
    more = f"windows: [{{when: {{}}, repositories: {{main: {{client_key: {{secret: {value}}}}}}}}}]\n"
    with pytest.raises(RecipeError) as caught:
        load(tree.demo(more))
    assert "env:NAME or file:/absolute/path, never the secret itself" in str(caught.value)
    assert value.strip("'") not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        *("https://me:hunter2@example.invalid", "HTTPS://me:hunter2@example.invalid"),
        *("https:/me:hunter2@example.invalid", "https:///me:hunter2@example.invalid"),
        *("git+https://me:hunter2@example.invalid", "//me:hunter2@example.invalid"),
        *(
            "me:hunter2@example.invalid",
            r"https:\\me:hunter2@example.invalid",
            "https://hunter2@example.invalid",
        ),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(tree: RecipeTree, address: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tree.demo(**{"https://example.invalid": address}))
    assert "a password in an address" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_certificate_and_key_come_together(tree: RecipeTree) -> None:
    with pytest.raises(RecipeError, match="has no client_key"):
        mirrored(
            tree,
            "repositories: {main: {baseurl: 'https://x.invalid', client_certificate: {secret: env:CERT}}}\n",
        )


def test_a_plan_holds_the_reference_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHEL_ENTITLEMENT_KEY", "not even read")
    made = plan(load(IMAGES / "rhel-9.yaml"), version="9.20261122.0", source_date_epoch=0)
    assert '"secret": "env:RHEL_ENTITLEMENT_KEY"' in made.to_json()
    assert "not even read" not in made.to_json()


@pytest.mark.parametrize("setting", [True, False])
def test_the_command_line_takes_a_file_or_a_setting(
    setting: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "centos-stream-9", "--build-dir", str(tmp_path)]
    if setting:
        monkeypatch.setenv("HALLMARK_REPOSITORIES", str(SAMPLE_MIRROR))
    else:
        words += ["--repositories", str(SAMPLE_MIRROR)]
    assert main(words) == 0
    out, told = capfd.readouterr()
    assert '"embedded": "sample-distribution"' in out
    assert (
        "substituted package centos-stream-release: centos-stream-release → hallmark-sample-release" in told
    )


def test_the_sample_stands_in_for_every_recipe_of_8_to_10() -> None:
    recipes = [load(IMAGES / f"{name}.yaml") for name in names()]
    vendors = [one for one in recipes if one.context.distribution in ("rhel", "centos")]
    packaged = [one for one in vendors if "ostree" not in one.tree.children]
    meant = [one for one in packaged if int(one.context.release.partition(".")[0]) >= 8]
    assert {one.name for one in meant} >= {
        "rhel-8",
        "rhel-9",
        "rhel-10",
        "centos-stream-9",
        "centos-stream-10",
    }
    for recipe in meant:
        _stands_in(recipe)


def _stands_in(recipe: Recipe) -> None:
    major = int(recipe.context.release.partition(".")[0])
    made = plan(substitute(recipe, SAMPLE_MIRROR), version=f"{major}.20261122.0", source_date_epoch=0)
    assert {item.embedded for item in made.repositories} == {"sample-distribution"}
    assert "glibc-langpack-en" not in {item.name for item in made.packages.install}, (
        "Debian has no such package"
    )
    assert made.distribution.platform == 9
    assert made.distribution.id == recipe.context.distribution, "what is claimed doesn't change"
