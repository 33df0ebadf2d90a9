"""Text to tree: types, places, and everything that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.recipe import syntax


def read(text: str) -> syntax.Mapping:
    node, violations = syntax.parse(text.encode(), path="r.yaml")
    assert violations == []
    assert node is not None
    return node


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("9", 9),
        ("-1", -1),
        ("9.10", "9.10"),
        ("0644", "0644"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("'9'", "9"),
        ('""', ""),
        ("2026-11-22", "2026-11-22"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("99999999999999999999999", "99999999999999999999999"),
    ],
)
def test_only_plain_words_and_whole_numbers_have_a_type(written: str, value: object) -> None:
    assert syntax.plain(read(f"key: {written}\n")) == {"key": value}


def test_every_value_has_its_place() -> None:
    node = read("a:\n  b: [x, yy]\n  c: 1\n")
    assert str(syntax.locate(node, ("a", "b", 1))) == "r.yaml:2:10"
    assert str(syntax.locate(node, ("a", "c"))) == "r.yaml:3:6"
    assert str(syntax.locate(node, ("a", "nothing"))) == "r.yaml:1:1"


@pytest.mark.parametrize(
    ("text", "code", "place", "word"),
    [
        ("a: 1\nb: 2\na: 3\n", "HM003", "r.yaml:3:1", "twice"),
        ("a: {b: 1, b: 2}\n", "HM003", "r.yaml:1:11", "'b'"),
        ("a:\n\tb: 1\n", "HM002", "r.yaml:2:1", "tab"),
        ("a: !!python/object/apply:os.system [true]\n", "HM004", "r.yaml:1:4", "tag"),
        ("a: !!str 1\n", "HM004", "r.yaml:1:4", "tag"),
        ("a: &x 1\nb: *x\n", "HM004", "r.yaml:1:4", "&x"),
        ("a: *nothing\n", "HM004", "r.yaml:1:4", "*nothing"),
        ("a: 1\n---\nb: 2\n", "HM002", "r.yaml:2:1", "second document"),
        ("a: [1, 2\nb: 3\n", "HM002", "r.yaml:2:2", "not valid YAML"),
        ("a: 'x\n", "HM002", "r.yaml:2:1", "not valid YAML"),
        ("- a\n", "HM002", "r.yaml:1:1", "list"),
        ("word\n", "HM002", "r.yaml:1:1", "single value"),
        ("", "HM002", "r.yaml:1:1", "empty"),
        ("# only a comment\n", "HM002", "r.yaml:1:1", "empty"),
        ("? [a]\n: 1\n", "HM002", "r.yaml:1:3", "key"),
        ("a: " + "[" * 100 + "]" * 100, "HM011", "r.yaml:1:28", "nested"),
        ("a: \x00", "HM002", "r.yaml:1", "not valid"),
    ],
)
def test_what_is_refused(text: str, code: str, place: str, word: str) -> None:
    _, violations = syntax.parse(text.encode(), path="r.yaml")
    assert [(item.code, str(item.where)) for item in violations][:1] == [(code, place)]
    assert word in violations[0].what


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    node, violations = syntax.parse("\n".join(lines).encode(), path="r.yaml")
    assert node is None
    assert {item.code for item in violations} == {"HM004"}


def test_bytes_that_are_not_text_and_files_that_are_too_large() -> None:
    node, violations = syntax.parse(b"a: 1\nb: \xff\n", path="r.yaml")
    assert node is None
    assert (violations[0].code, violations[0].where.line) == ("HM001", 2)
    node, violations = syntax.parse(b"a: " + b"x" * (1 << 21), path="r.yaml")
    assert node is None
    assert violations[0].code == "HM011"


@given(
    st.one_of(
        st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#\n\t ,?%@`~0.1\x00\ufeff"), max_size=60), st.text()
    )
)
def test_no_text_crashes_the_reader(text: str) -> None:
    node, violations = syntax.parse(text.encode("utf-8", "surrogatepass"), path="r.yaml")
    assert node is not None or violations


@settings(max_examples=60)
@given(st.binary(max_size=80))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    node, violations = syntax.parse(data, path="r.yaml")
    assert node is not None or violations
