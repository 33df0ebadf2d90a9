"""Variants: names, what they lay on the recipe, what can't be; and the matrix for CI systems."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe_tree import RecipeTree

from builder.errors import HallmarkError
from builder.recipe import RecipeError, Reference, Violation, expand, find, load, name_of, names, plan
from builder.recipe.cli import explain_command, matrix_command, plan_command
from builder.recipe.explain import explain
from builder.recipe.matrix import Job, matrix
from builder.recipe.merge import settled
from builder.workspace import Workspace

TODAY = date(2026, 11, 22)
TWO_AXES = """
variants:
  licence:
    byos: {}
    payg:
      packages: {install: [rhui-azure-rhel9]}
      kernel: {arguments: {remove: [console=tty1]}}
      visibility: tenant
  architecture:
    x86_64: {}
    aarch64: {disk: {generations: {replace: [2]}}}
windows: [{when: {licence: payg, architecture: aarch64}, disk: {boot_mib: 2000}}]
"""


def full_names(path: Path) -> list[str]:
    return [load(reference).name for reference in expand(find(str(path)))]


def test_names_have_what_is_not_default(tree: RecipeTree) -> None:
    path = tree.demo(TWO_AXES)
    assert full_names(path) == ["demo-9", "demo-9-aarch64", "demo-9-payg", "demo-9-payg-aarch64"]
    assert full_names(tree.demo("variants: {architecture: {aarch64: {}, x86_64: {}}}\n")) == [
        "demo-9",
        "demo-9-x86-64",
    ]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("demo-9", "demo-9"),
        ("demo-9-byos", "demo-9"),
        ("demo-9-x86-64", "demo-9"),
        ("demo-9-byos-x86-64", "demo-9"),
        ("demo-9-payg", "demo-9-payg"),
        ("demo-9-payg-x86-64", "demo-9-payg"),
        ("demo-9-byos-aarch64", "demo-9-aarch64"),
        ("demo-9-payg-aarch64", "demo-9-payg-aarch64"),
        ("demo-9:payg-aarch64", "demo-9-payg-aarch64"),
    ],
)
def test_every_way_to_name_a_variant_means_one_image(tree: RecipeTree, asked: str, name: str) -> None:
    tree.demo(TWO_AXES)
    assert load(find(asked, images=tree.root)).name == name
    assert name_of(asked, images=tree.root) == name


@pytest.mark.parametrize("asked", ["demo-9-free", "demo-9-aarch64-payg", "demo-9-payg-payg", "demo-9-8"])
def test_what_is_no_variant_is_told_with_those_that_are(tree: RecipeTree, asked: str) -> None:
    tree.demo(TWO_AXES)
    with pytest.raises(HallmarkError, match="has no variant") as caught:
        load(find(asked, images=tree.root))
    assert caught.value.hint


def test_a_name_that_begins_like_a_recipe_is_told_what_to_do(tree: RecipeTree) -> None:
    tree.demo()
    with pytest.raises(HallmarkError, match="'demo-9' has no variant 'library'") as caught:
        name_of("demo-9-library", images=tree.root)
    assert "named by its path" in str(caught.value)
    (elsewhere := tree.root.parent / "demo-9-library.yaml").write_text("recipe: demo-9-library\n")
    assert name_of(str(elsewhere)) == "demo-9-library"


def test_a_name_of_no_recipe_stays_as_it_is(tree: RecipeTree) -> None:
    """Artefacts outlive their recipe."""
    assert name_of("gone-7", images=tree.root) == "gone-7"
    assert name_of("elsewhere/gone-7.yaml:byos", images=tree.root) == "gone-7"


def test_a_variant_lays_its_values_on_the_recipe(tree: RecipeTree) -> None:
    path = tree.demo(TWO_AXES)
    default = load(Reference(path))
    assert (default.context.licence, default.context.architecture) == ("byos", "x86_64")
    assert "rhui-azure-rhel9" not in settled(default.tree)["packages"]["install"]
    special = load(Reference(path, "payg-aarch64"))
    assert (special.context.licence, special.context.architecture) == ("payg", "aarch64")
    made = plan(special, version="9.20261122.0", source_date_epoch=0)
    assert (made.recipe, made.variant) == (
        "demo-9-payg-aarch64",
        {"licence": "payg", "architecture": "aarch64"},
    )
    assert (made.licence, made.architecture, made.visibility) == ("payg", "aarch64", "tenant")
    assert made.disk.generations == (2,)
    assert made.disk.boot_mib == 2000, "windows see the variant"
    assert made.kernel.arguments == ("console=ttyS0",)
    assert made.title == "Demo (payg, aarch64)"
    assert made.repositories[0].baseurl == "https://example.invalid/9/9/aarch64"
    plain = plan(default, version="9.20261122.0", source_date_epoch=0)
    assert set(map(str, plain.identifiers.model_dump().values())).isdisjoint(
        map(str, made.identifiers.model_dump().values())
    )


def test_explain_shows_the_line_of_the_variant(tree: RecipeTree, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree.demo("variants:\n  licence:\n    byos: {}\n    payg:\n      disk: {size_mib: 20000}\n")
    recipe = load(Reference(path, "payg"))
    (size,) = explain(recipe, "disk.size_mib")
    assert (size.value, size.where.line) == (20000, 16)
    assert [value for value, _ in size.overrode] == [12288]
    (licence,) = explain(recipe, "licence")
    assert (licence.value, licence.where.line) == ("payg", 15)
    assert explain_command(f"{path}:payg", "disk") == 0
    assert "demo-9.yaml:16" in capsys.readouterr().out


def test_a_variant_can_extend_a_layer(tree: RecipeTree) -> None:
    tree.layer("strict", "layer: strict\nsummary: s\nextends: [base]\nkernel: {arguments: [audit=1]}\n")
    path = tree.demo("variants: {flavour: {plain: {}, strict: {extends: [strict]}}}\n")
    assert "audit=1" not in settled(load(Reference(path)).tree)["kernel"]["arguments"]
    recipe = load(Reference(path, "strict"))
    assert [document.name for document in recipe.documents] == ["base", "strict", "demo-9"]
    assert "audit=1" in settled(recipe.tree)["kernel"]["arguments"]


def test_excluded_combinations_do_not_exist(tree: RecipeTree) -> None:
    path = tree.demo(TWO_AXES + "exclude_variants: [{licence: payg, architecture: aarch64}]\n")
    assert full_names(path) == ["demo-9", "demo-9-aarch64", "demo-9-payg"]
    with pytest.raises(HallmarkError, match="has no variant 'payg-aarch64'"):
        load(Reference(path, "payg-aarch64"))


@pytest.mark.parametrize(
    ("more", "line", "words"),
    [
        ("variants: {licence: {gratis: {}}}", 12, "'gratis' is no licence"),
        ("licence: free\nvariants: {licence: {free: {}}}", 12, "licence is set and is an axis"),
        ("variants: {size: {}}", 12, "the axis 'size' has no values"),
        ("variants: {a: {x: {}, y-z: {}}, b: {v: {}, z: {}}, c: {w: {}, y: {}}}", 12, ""),
        ("variants: {a: {x: {}, y: {}}, b: {v: {}, y: {}}}", 12, "two variants are called 'demo-9-y'"),
        ("variants: {a: {x: {}, taken: {}}}", 12, "the name of another recipe"),
        ("variants: {a: {x: {}, y: {}}}\nexclude_variants: [{a: z}]", 13, "there is no a 'z'"),
        ("variants: {a: {x: {}, y: {}}}\nexclude_variants: [{a: x}]", 13, "excludes the default"),
        ("exclude_variants: [{a: x}]", 12, "of no variants"),
    ],
)
def test_variants_that_can_not_be(
    tree: RecipeTree,
    violations: Callable[[Path], tuple[Violation, ...]],
    more: str,
    line: int,
    words: str,
) -> None:
    tree.recipe("", name="demo-9-taken")
    path = tree.demo(more + "\n")
    if not words:
        assert len(full_names(path)) == 8
        return
    found = violations(path)
    assert [(item.code, item.where.line) for item in found] == [("HM012", line)]
    assert words in str(found[0])


@pytest.mark.parametrize(
    ("more", "code", "where", "words"),
    [
        ("variants: {a: {x: {kernal: {}}}}", "HM005", "12:20", "did you mean 'kernel'?"),
        ("variants: {a: {x: {kernel: {argumets: [b]}}}}", "HM005", "12:29", "did you mean 'arguments'?"),
        ("variants: {a: {X.Y: {}}}", "HM006", "12:16", "'X.Y'"),
        ("variants: {a: [x]}", "HM006", "12:12", "a list"),
        ("variants: {a: {x: {extends: [nowhere]}}}", "HM008", "12:30", "no layer 'nowhere'"),
    ],
)
def test_mistakes_in_variants_have_their_place(
    tree: RecipeTree,
    violations: Callable[[Path], tuple[Violation, ...]],
    more: str,
    code: str,
    where: str,
    words: str,
) -> None:
    path = tree.demo(more + "\n")
    (found,) = violations(path)
    assert (found.code, str(found.where)) == (code, f"{path}:{where}")
    assert words in str(found)


def jobs(*references: Reference) -> list[Job]:
    recipes = [load(reference) for reference in references]
    drafts = [(item, plan(item, version="9.20261122.0", source_date_epoch=0)) for item in recipes]
    return matrix(drafts, today=TODAY)


def test_the_matrix_has_one_job_for_an_image(tree: RecipeTree) -> None:
    path = tree.demo("variants: {size: {small: {}, large: {disk: {size_mib: 65536}}, same: {}}}\n")
    default, large = jobs(*expand(find(str(path))), Reference(path), Reference(path, "small"))
    assert (default.name, default.recipe, default.also) == ("demo-9", "demo-9", ("demo-9-same",))
    assert (large.name, large.variant) == ("demo-9-large", {"size": "large"})
    assert (default.architecture, default.processor, default.outputs) == ("x86_64", "x86-64-v2", ("vhd",))


@pytest.mark.parametrize(
    ("release", "channel", "eol"),
    [("9", "10.0", "supported"), ("9", "9.0", "ended"), ("7.9", "10.0", "ended")],
)
def test_the_matrix_tells_the_end_of_support(tree: RecipeTree, release: str, channel: str, eol: str) -> None:
    path = tree.demo(f"dotnet: {{runtimes: ['{channel}']}}\n", **{'release: "9"': f'release: "{release}"'})
    (job,) = jobs(Reference(path))
    assert job.eol == eol
    assert job.support[0].what in (f".NET {channel}", f"Demo Linux {release[0]}")
    assert all(item.source for item in job.support)


def test_the_matrix_of_the_repository_is_what_a_ci_system_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix_command([]) == 0
    include = json.loads(capsys.readouterr().out)["include"]
    by_name = {job["name"]: job for job in include}
    assert len(by_name) == len(include)
    assert by_name["rhel-9-payg-aarch64"]["variant"] == {"licence": "payg", "architecture": "aarch64"}
    assert by_name["centos-7"]["eol"] == "ended"
    assert by_name["centos-bootc-10"]["kind"] == "ostree"
    assert {job["recipe"] for job in include} == set(names())
    assert matrix_command(["rhel-9", "rhel-9-payg"]) == 0
    some = [job["name"] for job in json.loads(capsys.readouterr().out)["include"]]
    assert some == ["rhel-9", "rhel-9-aarch64", "rhel-9-payg", "rhel-9-payg-aarch64"]
    assert plan_command(["rhel-9-byos"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["rhel-9"]


def test_artefacts_are_found_by_every_name_of_the_variant(tmp_path: Path) -> None:
    from builder.built import existing
    from builder.pipeline import Pipeline

    workspace = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    assert Pipeline(workspace, "rhel-9-byos").recipe_name == "rhel-9"
    assert Pipeline(workspace, "rhel-9-payg-x86-64").recipe_name == "rhel-9-payg"
    with pytest.raises(HallmarkError, match="no image of rhel-9-payg") as caught:
        existing(workspace, "rhel-9-payg-x86-64")
    assert str(caught.value.where) == str(workspace.build / "rhel-9-payg")


def test_a_bootable_container_is_not_half_built(tmp_path: Path) -> None:
    from builder.pipeline import Pipeline

    workspace = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    with pytest.raises(HallmarkError, match="bootable container, which can't be built"):
        Pipeline(workspace, "centos-bootc-10").build()
    assert [path.name for path in workspace.build.iterdir()] == [".work"]


words = st.sampled_from(
    ["a", "b", "licence", "architecture", "payg", "x86_64", "aarch64", "size", "y-z", "z", "Ä"]
)
overlays = st.sampled_from(
    [None, {}, {"disk": {"size_mib": 20000}}, {"extends": ["base"]}, {"zzz": 1}, [1], "x"]
)
axes = st.one_of(
    st.dictionaries(words, st.one_of(st.dictionaries(words, overlays, max_size=3), overlays), max_size=3),
    overlays,
)
rules = st.one_of(st.lists(st.dictionaries(words, words, max_size=2), max_size=2), overlays)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(axes=axes, rules=rules, suffix=words)
def test_no_variants_end_in_anything_but_an_error_for_people(
    tree: RecipeTree, axes: object, rules: object, suffix: str
) -> None:
    path = tree.demo(f"variants: {json.dumps(axes)}\nexclude_variants: {json.dumps(rules)}\n")
    try:
        found = [load(reference) for reference in expand(Reference(path))]
        assert len({recipe.name for recipe in found}) == len(found) >= 1
        load(Reference(path, suffix))
    except RecipeError as error:
        assert error.violations
    except HallmarkError as error:
        assert "no variant" in str(error)
