"""The arithmetic of ranges that decides what travels."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.publish.ranges import PUT_LIMIT, merged, puts, size_of, subtract

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=12).map(merged)


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {at for offset, length in ranges for at in range(offset, offset + length)}


@given(RANGES, RANGES)
def test_subtract_is_set_difference(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    result = subtract(left, right)
    assert members(result) == members(left) - members(right)
    assert result == sorted(result) and size_of(result) == len(members(result))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=12))
def test_merged_joins_neighbours_and_overlaps(ranges: list[tuple[int, int]]) -> None:
    result = merged(ranges)
    assert members(result) == members(ranges)
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(result))


@given(RANGES, st.integers(1, 9))
def test_puts_cut_at_multiples_of_the_limit(ranges: list[tuple[int, int]], limit: int) -> None:
    pieces = list(puts(ranges, limit=limit))
    assert members(pieces) == members(ranges)
    assert all(n <= limit and offset // limit == (offset + n - 1) // limit for offset, n in pieces)


@pytest.mark.parametrize(
    ("extent", "count"), [((0, PUT_LIMIT), 1), ((512, PUT_LIMIT), 2), ((0, 30 << 20), 8), ((512, 512), 1)]
)
def test_no_request_is_larger_than_the_service_takes(extent: tuple[int, int], count: int) -> None:
    pieces = list(puts([extent]))
    assert len(pieces) == count
    assert max(length for _, length in pieces) <= 4 << 20
