"""The arithmetic of byte ranges that decides what travels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

__all__ = ["PUT_LIMIT", "Ranges", "merged", "puts", "size_of", "subtract"]

#: The most bytes that one request may write (REST reference, Put Page).
PUT_LIMIT = 4 << 20

#: Byte ranges as ``(offset, length)``, ascending and never touching each other.
Ranges = list[tuple[int, int]]


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ascending ranges with neighbours and overlaps joined (Azurite reports one range for each write)."""
    result: Ranges = []
    for offset, length in sorted(ranges):
        if result and offset <= result[-1][0] + result[-1][1]:
            start, before = result[-1]
            result[-1] = (start, max(before, offset + length - start))
        else:
            result.append((offset, length))
    return result


def subtract(ranges: Sequence[tuple[int, int]], without: Sequence[tuple[int, int]]) -> Ranges:
    """The parts of ``ranges`` that ``without`` doesn't cover; both ascending and disjoint."""
    result: Ranges = []
    index = 0
    for offset, length in ranges:
        position, end = offset, offset + length
        while index < len(without) and without[index][0] + without[index][1] <= position:
            index += 1
        probe = index
        while probe < len(without) and without[probe][0] < end:
            start, stop = without[probe][0], without[probe][0] + without[probe][1]
            if start > position:
                result.append((position, start - position))
            position = max(position, stop)
            probe += 1
        if position < end:
            result.append((position, end - position))
    return result


def size_of(ranges: Iterable[tuple[int, int]]) -> int:
    """The bytes in the ranges."""
    return sum(length for _, length in ranges)


def puts(ranges: Iterable[tuple[int, int]], *, limit: int = PUT_LIMIT) -> Iterator[tuple[int, int]]:
    """Ranges cut into pieces that one request may carry, at multiples of ``limit`` so that reruns cut
    alike.
    """
    for offset, length in ranges:
        end = offset + length
        while offset < end:
            stop = min(end, offset - offset % limit + limit)
            yield offset, stop - offset
            offset = stop
