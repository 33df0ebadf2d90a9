"""The merge rules, by example and by property."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import Where
from builder.recipe import merge, syntax

HERE = Where("t.yaml", 1, 1)


def is_list(path: tuple[str, ...]) -> bool:
    return path[-1:] == ("list",)


def value(text: str) -> merge.Value:
    node, violations = syntax.parse(text.encode(), path="t.yaml")
    assert node is not None
    assert violations == []
    return merge.from_node(node, is_list=is_list)


@pytest.mark.parametrize(
    ("lower", "upper", "result"),
    [
        ("a: 1", "a: 2", {"a": 2}),
        ("a: 1", "b: 2", {"a": 1, "b": 2}),
        ("a: {x: 1, y: 2}", "a: {y: 3, z: 4}", {"a": {"x": 1, "y": 3, "z": 4}}),
        ("list: [a, b]", "list: [c]", {"list": ["a", "b", "c"]}),
        ("list: [a, b]", "list: [b, a, c]", {"list": ["a", "b", "c"]}),
        ("list: [a, b]", "list: {remove: [a], append: [c]}", {"list": ["b", "c"]}),
        ("list: [a, b]", "list: {remove: [a], append: [a]}", {"list": ["b", "a"]}),
        ("list: [a, b]", "list: {replace: [c]}", {"list": ["c"]}),
        ("list: [a, b]", "list: {replace: [c], append: [d]}", {"list": ["c", "d"]}),
        ("list: [a, b]", "list: {replace: []}", {"list": []}),
        ("a: {x: 1}", "a: null", {}),
        ("a: {x: 1}", "a: {x: null}", {"a": {}}),
        ("list: [a]", "list: null", {}),
        ("list: [1]", "list: [true]", {"list": [1, True]}),
    ],
)
def test_the_rules(lower: str, upper: str, result: dict[str, Any]) -> None:
    assert merge.settled(merge.merge(value(lower), value(upper))) == result


def test_after_a_null_nothing_below_shows_through() -> None:
    layers = [value("a: {x: 1}\nlist: [a]"), value("a: null\nlist: null"), value("a: {y: 2}\nlist: [b]")]
    left = merge.merge(merge.merge(layers[0], layers[1]), layers[2])
    right = merge.merge(layers[0], merge.merge(layers[1], layers[2]))
    assert merge.settled(left) == merge.settled(right) == {"a": {"y": 2}, "list": ["b"]}


def test_a_scalar_remembers_what_it_overrode_nearest_first() -> None:
    merged = merge.merge(merge.merge(value("a: 1"), value("a: 2")), value("a: 3"))
    assert isinstance(merged, merge.Tree)
    leaf = merged.children["a"]
    assert isinstance(leaf, merge.Leaf)
    assert [item.value for item in leaf.hidden] == [2, 1]


def test_a_removal_that_finds_nothing_is_told() -> None:
    upper = value("list: {remove: [a, z]}\nb: {list: {remove: [q]}}")
    idle = merge.removals_without_effect(value("list: [a]"), upper)
    assert [(path, item.value) for path, item in idle] == [(("list",), "z"), (("b", "list"), "q")]


words = st.sampled_from("abcde")
items = st.lists(words, max_size=4).map(
    lambda found: tuple(merge.Item(word, HERE) for word in dict.fromkeys(found))
)
leaf_values = st.one_of(st.none(), st.booleans(), st.integers(0, 2), words)
edits = st.one_of(
    st.builds(merge.ListEdit, append=items, where=st.just(HERE), remove=items),
    st.builds(merge.ListEdit, append=items, where=st.just(HERE), fresh=st.just(True)),
)
values: st.SearchStrategy[merge.Value] = st.recursive(
    st.one_of(st.builds(merge.Leaf, value=leaf_values, where=st.just(HERE)), edits),
    lambda inner: st.builds(
        merge.Tree, children=st.dictionaries(words, inner, max_size=3), where=st.just(HERE)
    ),
    max_leaves=6,
)
trees = st.builds(merge.Tree, children=st.dictionaries(words, values, max_size=4), where=st.just(HERE))


@settings(max_examples=60)
@given(trees, trees, trees)
def test_merging_is_associative(a: merge.Tree, b: merge.Tree, c: merge.Tree) -> None:
    left = merge.merge(merge.merge(a, b), c)
    right = merge.merge(a, merge.merge(b, c))
    assert merge.settled(left) == merge.settled(right)


@settings(max_examples=60)
@given(trees, trees, trees, trees)
def test_groups_of_layers_can_be_merged_first(
    a: merge.Tree, b: merge.Tree, c: merge.Tree, d: merge.Tree
) -> None:
    left = merge.merge(merge.merge(merge.merge(a, b), c), d)
    right = merge.merge(merge.merge(a, b), merge.merge(c, d))
    assert merge.settled(left) == merge.settled(right)


@settings(max_examples=60)
@given(trees)
def test_an_empty_document_changes_nothing(a: merge.Tree) -> None:
    empty = merge.Tree({}, HERE)
    assert merge.settled(merge.merge(a, empty)) == merge.settled(a) == merge.settled(merge.merge(empty, a))


@settings(max_examples=60)
@given(trees)
def test_laying_a_document_on_itself_adds_nothing_new(a: merge.Tree) -> None:
    once = merge.settled(a)
    twice = merge.settled(merge.merge(a, a))
    assert _sets(once) == _sets(twice)


def _sets(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _sets(child) for key, child in data.items()}
    return sorted(map(repr, data)) if isinstance(data, list) else data
