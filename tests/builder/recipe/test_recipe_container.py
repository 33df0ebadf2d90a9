"""Recipes for containers: what the plan says, how layers come together, and mistakes at their place."""

from __future__ import annotations

from datetime import date

import pytest
from recipe_tree import RecipeTree

from builder.recipe import Plan, find, load, plan
from builder.recipe.matrix import matrix
from builder.recipe.violations import RecipeError

CONTAINER = """
recipe: box
title: A box
summary: As small as it can be.
distribution: {id: centos, name: Demo Linux, release: "9"}
repositories:
  main:
    baseurl: https://example.invalid/os
    key: keys/KEY
    fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567
packages: {install: [bash]}
certification: {policies: [openshift-container], targets: []}
"""
WHOLE = "container: {user: 1001, home: /srv/box, command: /bin/bash}\n"


def made(tree: RecipeTree, more: str) -> Plan:
    return plan(load(tree.recipe(CONTAINER + more, "box")), version="9.20261122.0", source_date_epoch=0)


def test_a_container_has_nothing_of_a_machine(tree: RecipeTree) -> None:
    found = made(tree, WHOLE)
    assert found.container is not None
    assert (found.outputs, found.image_format) == (("oci",), "oci")
    assert (found.disk.size_mib, found.disk.generations) == (0, ())
    assert (found.kernel.arguments, found.selinux.mode) == ((), "disabled")
    assert (found.container.workdir, found.container.writable) == ("/srv/box", ("/srv/box",))
    [job] = matrix([(load(find(str(tree.root / "box.yaml"))), found)], today=date(2026, 11, 22))
    assert (job.kind, job.outputs, job.generations) == ("container", ("oci",), ())
    assert Plan.model_validate_json(found.to_json()) == found


def test_words_are_split_as_a_shell_does_and_layers_come_together(tree: RecipeTree) -> None:
    tree.layer(
        "box",
        """
        layer: box
        summary: A box.
        container:
          user: 1001
          home: /srv/box
          entrypoint: /usr/bin/init --first
          environment: {A: "1", B: "2", C: "3"}
          writable: [/srv/data]
          ports: [8080]
        """,
    )
    found = made(
        tree,
        """extends: [box]
container:
  entrypoint: /usr/bin/tini -- "a program"
  environment: {B: two, C: null, D: 4}
  writable: [/srv/more]
  ports: {replace: [9090]}
""",
    ).container
    assert found is not None
    assert found.entrypoint == ("/usr/bin/tini", "--", "a program")
    assert found.environment == {"A": "1", "B": "two", "D": "4"}
    assert found.writable == ("/srv/box", "/srv/data", "/srv/more")
    assert found.ports == (9090,)


@pytest.mark.parametrize("key", ["user", "home", "command"])
def test_what_is_missing_is_told_with_its_place(tree: RecipeTree, key: str) -> None:
    words = {"user": "1001", "home": "/srv", "command": "/bin/bash"}
    text = ", ".join(f"{name}: {value}" for name, value in words.items() if name != key)
    with pytest.raises(RecipeError) as caught:
        made(tree, f"container: {{{text}}}\n")
    [violation] = caught.value.violations
    assert violation.what == f"container.{key} is missing"
    assert (violation.code, violation.where.line) == ("HM007", 12)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("user: 0", "container.user: 0 is not right"),
        ("user: root", "container.user: 'root' is not right"),
        ("ports: [80]", "container.ports.0: 80 is not right"),
        ("home: srv", "container.home: 'srv' is not right"),
        ("entrypoint: 'an \"open quote'", "it is split as a shell does"),
        ("environment: {A-B: x}", "the key 'A-B' is not right here"),
        ("labels: {Upper: x}", "the key 'Upper' is not right here"),
        ("entry: /bin/sh", "unknown key 'container.entry'"),
    ],
)
def test_mistakes_are_told_with_their_place(tree: RecipeTree, mistake: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        made(tree, f"container:\n  {mistake}\n")
    [violation] = caught.value.violations
    assert words in str(violation)
    assert violation.where.line == 13
