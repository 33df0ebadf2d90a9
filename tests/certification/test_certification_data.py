"""Catalogue, policies and waivers: what is there is consistent, and mistakes are refused with their place."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from certification import catalogue as catalogues
from certification import policy, waivers
from certification.catalogue import SUITES
from certification.model import AppliesTo, Subject

REAL_POLICIES = sorted(path.stem for path in policy.POLICIES.glob("*.yaml"))


def bound_tests() -> list[tuple[str, str, tuple[str, ...] | None]]:
    """(file::test, requirement, views) of every test of the suites, read without running them."""
    found = []
    for path in sorted(SUITES.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            marks = [
                mark
                for mark in node.decorator_list
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "requirement"
            ]
            assert len(marks) == 1, f"{path.name}::{node.name} is bound to {len(marks)} requirements"
            views = next(
                (ast.literal_eval(word.value) for word in marks[0].keywords if word.arg == "views"), None
            )
            found.append(
                (f"{path.name}::{node.name}", ast.literal_eval(marks[0].args[0]), views and tuple(views))
            )
    return found


def test_every_requirement_has_a_test_in_each_of_its_views_and_every_test_a_requirement() -> None:
    catalogue = catalogues.load()
    served: Counter[tuple[str, str]] = Counter()
    for name, identifier, views in bound_tests():
        assert identifier in catalogue, f"{name} is bound to {identifier}, which the catalogue doesn't know"
        for view in views or catalogue[identifier].views:
            assert view in catalogue[identifier].views, (
                f"{name}: {identifier} is not decided in the {view} view"
            )
            served[identifier, view] += 1
    missing = [(entry.id, view) for entry in catalogue for view in entry.views if not served[entry.id, view]]
    assert not missing


def test_the_catalogue_is_large_enough_and_decidable_without_boot() -> None:
    entries = [entry for entry in catalogues.load() if entry.views]
    assert len(entries) >= 250
    unbooted = [entry for entry in entries if {"format", "disk"} & set(entry.views)]
    assert len(unbooted) / len(entries) >= 0.75


def test_the_readme_counts_right() -> None:
    """certification/README.md says how much is judged; it must not fall behind the catalogue."""
    text = (catalogues.REQUIREMENTS.parent / "README.md").read_text()
    entries = list(catalogues.load())
    looked = [entry for entry in entries if entry.views]
    unbooted = [entry for entry in looked if {"format", "disk"} & set(entry.views)]
    sample = Subject.from_os_release({"ID": "x", "ID_LIKE": "rhel centos fedora", "VERSION_ID": "9"})
    about = [entry for entry in looked if entry.applies_to.excludes(sample) is None]
    here = [entry for entry in about if entry in unbooted]
    for sentence in (
        f"The catalogue has {len(entries)} requirements",
        f"{len(looked)} of them are decided by looking, {len(unbooted)} of these without booting",
        f"The other {len(entries) - len(looked)} need",
        f"{len(about)} are about `sample-9`, {len(here)} of these without booting",
    ):
        assert sentence in text, sentence


@pytest.mark.parametrize("name", REAL_POLICIES)
def test_the_policies_can_be_read(name: str) -> None:
    found = policy.load(name, catalogue=catalogues.load())
    assert found.title and found.select


def test_every_requirement_is_part_of_a_policy() -> None:
    catalogue = catalogues.load()
    selected = policy.select(REAL_POLICIES, catalogue=catalogue)
    assert {entry.id for entry in catalogue} == set(selected.severities)


def test_what_is_optional_is_asked_for_by_its_own_policy_alone() -> None:
    catalogue = catalogues.load()
    assert policy.optional(["openscap-cis", "ccsp"], catalogue=catalogue) == ("security.scap-cis-server-l1",)
    assert policy.optional(["openscap-rht-ccp"], catalogue=catalogue) == ("ccsp.scap-rht-ccp",)
    others = [name for name in REAL_POLICIES if not name.startswith("openscap-")]
    assert policy.optional(others, catalogue=catalogue) == ()


def test_policies_add_up_and_the_highest_severity_counts(toy_catalogue: Path, toy_policies: Path) -> None:
    (toy_policies / "strict.yaml").write_text(
        "name: strict\nversion: 1\ntitle: t\nsummary: s\nselect: [{ids: [azure.two]}]\n"
        "severity: {azure.two: {severity: must, reason: This customer insists on the second thing.}}\n"
    )
    catalogue = catalogues.load(toy_catalogue)
    both = policy.select(["toy", "strict"], catalogue=catalogue, directory=toy_policies)
    assert both.severities["azure.two"] == "must" and both.origins["azure.two"] == ("toy", "strict")
    alone = policy.select(["strict"], catalogue=catalogue, directory=toy_policies)
    assert set(alone.severities) == {"azure.two"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: other\nversion: 1\ntitle: t\nsummary: s\nselect: [{areas: [azure]}]\n",
            "calls itself 'other'",
        ),
        ("name: bad\nversion: 1\ntitle: t\nsummary: s\nselect: [{ids: [azure.nine]}]\n", "doesn't know"),
        ("name: bad\nversion: 1\ntitle: t\nsummary: s\nselect: [{areas: [hyperv]}]\n", "selects nothing"),
        ("name: bad\nversion: 1\ntitle: t\nsummary: s\nselect: []\n", "not well-formed"),
        ("name: bad\nversion: 1\ntitle: t\nsummary: s\nselekt: []\n", "not well-formed"),
        (": [", "cannot be read as YAML"),
    ],
)
def test_bad_policies_are_refused(toy_catalogue: Path, toy_policies: Path, text: str, message: str) -> None:
    (toy_policies / "bad.yaml").write_text(text)
    with pytest.raises(HallmarkError, match=message):
        policy.select(["bad"], catalogue=catalogues.load(toy_catalogue), directory=toy_policies)


def test_unknown_and_no_policy(toy_catalogue: Path, toy_policies: Path) -> None:
    catalogue = catalogues.load(toy_catalogue)
    with pytest.raises(HallmarkError, match="no policy 'nope'") as caught:
        policy.select(["nope"], catalogue=catalogue, directory=toy_policies)
    assert caught.value.hint == "there are: toy"
    with pytest.raises(HallmarkError, match="no policy is named"):
        policy.select([], catalogue=catalogue, directory=toy_policies)


ENTRY = (
    "- {id: azure.x, title: t, severity: must, area: azure, views: [disk], "
    "rationale: r, remedy: m, source: [s]"
)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (f"requirements:\n{ENTRY}}}\n{ENTRY}}}\n", "azure.x is defined twice", 3),
        (f"requirements:\n{ENTRY}, colour: red}}\n", "azure.x is not well-formed", 2),
        (f"requirements:\n{ENTRY.replace('must', 'maybe')}}}\n", "not well-formed", 2),
        (f"requirements:\n{ENTRY.replace('[disk]', '[]')}}}\n", "not well-formed", 2),
        (f"requirements:\n{ENTRY.replace('[disk]', '[disk, disk]')}}}\n", "not well-formed", 2),
        (f"requirements:\n{ENTRY.replace('azure.x', 'Azure X')}}}\n", "not well-formed", 2),
        (f"requirements:\n{ENTRY.replace('area: azure', 'area: ccsp')}}}\n", "stands in azure.yaml", 2),
        (f"requirements:\n{ENTRY}, applies_to: {{versions: new}}}}\n", "not well-formed", 2),
        (f"requirements:\n{ENTRY.replace('[disk]', '[booted], optional: true')}}}\n", "not well-formed", 2),
        ("- requirements\n", "one key `requirements`", 1),
        ("requirements: [\n", "cannot be read as YAML", 2),
    ],
)
def test_mistakes_in_the_catalogue_have_a_place(tmp_path: Path, text: str, message: str, line: int) -> None:
    (tmp_path / "azure.yaml").write_text(text)
    with pytest.raises(HallmarkError, match=message) as caught:
        catalogues.load(tmp_path)
    assert str(caught.value.where) in (f"{tmp_path}/azure.yaml:{line}", f"{tmp_path}/azure.yaml:{line}:1")


def test_an_empty_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="catalogue is empty"):
        catalogues.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("owner: me, ", ""), 2),
        (("reason: Because it is like that for now.", "reason: short"), 2),
        (("expires: 2027-01-01", "expires: never"), 2),
        (("scope: '*'", "scope: '*', colour: red"), 2),
    ],
)
def test_incomplete_waivers_are_refused(tmp_path: Path, change: tuple[str, str], line: int) -> None:
    text = (
        "waivers:\n- {requirement: azure.x, scope: '*', owner: me, "
        "reason: Because it is like that for now., expires: 2027-01-01}\n"
    )
    path = tmp_path / "w.yaml"
    path.write_text(text)
    assert len(waivers.load(path)) == 1
    path.write_text(text.replace(*change))
    with pytest.raises(HallmarkError, match="not well-formed") as caught:
        waivers.load(path)
    assert str(caught.value.where) == f"{path}:{line}:3"
    path.write_text(text + text.splitlines()[1])
    with pytest.raises(HallmarkError, match="waived twice"):
        waivers.load(path)


@pytest.mark.parametrize(
    ("os_release", "applies", "excluded"),
    [
        ({"ID": "rhel", "VERSION_ID": "9.6"}, {"families": ["rhel"]}, False),
        ({"ID": "rhel", "VERSION_ID": "9.6"}, {"families": ["centos"]}, True),
        ({"ID": "centos", "VERSION_ID": "9"}, {"families": ["rhel", "centos"], "versions": ">=8"}, False),
        ({"ID": "centos", "VERSION_ID": "7"}, {"families": ["rhel", "centos"], "versions": ">=8"}, True),
        # Judged by likeness: what holds for every Enterprise Linux, not what is one vendor's.
        (
            {"ID": "x", "ID_LIKE": "rhel centos fedora", "VERSION_ID": "9"},
            {"families": ["rhel", "centos"]},
            False,
        ),
        ({"ID": "x", "ID_LIKE": "rhel centos fedora", "VERSION_ID": "9"}, {"families": ["rhel"]}, True),
        ({"ID": "debian", "VERSION_ID": "12"}, {"families": ["rhel", "centos", "atomic"]}, True),
        # A version that can't be read must not make requirements vanish.
        ({"ID": "rhel", "VERSION_ID": "garbage"}, {"families": ["rhel"], "versions": "<8"}, False),
    ],
)
def test_applicability(os_release: dict[str, str], applies: dict[str, object], excluded: bool) -> None:
    reason = AppliesTo.model_validate(applies).excludes(Subject.from_os_release(os_release))
    assert (reason is not None) is excluded
