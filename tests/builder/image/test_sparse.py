"""Which parts of a file hold data: nothing missed, nothing but data."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import HallmarkError
from builder.image.sparse import GRANULARITY, copy_data, extents

KIB = 1024


def write(path: Path, size: int, pieces: dict[int, bytes]) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size)
        for offset, data in pieces.items():
            stream.seek(offset)
            stream.write(data)
    return path


@pytest.mark.parametrize(
    ("size", "pieces", "expected"),
    [
        (0, {}, []),
        (1 << 20, {}, []),
        (1 << 20, {0: b"x"}, [(0, 512)]),
        (1 << 20, {512: b"x"}, [(512, 512)]),
        (1 << 20, {700: b"xy", 5000: b"z"}, [(512, 4608)]),
        # written zeros are not data
        (1 << 20, {0: bytes(1 << 20)}, []),
        (1 << 20, {0: bytes(300 * KIB) + b"x" + bytes(300 * KIB)}, [(300 * KIB, 512)]),
        # a gap of less than the granularity stays inside, a larger one parts
        (1 << 20, {0: b"x", 60 * KIB: b"x"}, [(0, 60 * KIB + 512)]),
        (1 << 20, {0: b"x", 128 * KIB: b"x"}, [(0, 512), (128 * KIB, 512)]),
        # across the read buffer of 4 MiB
        (9 << 20, {(4 << 20) - 512: b"x" * 1024}, [((4 << 20) - 512, 1024)]),
        # the last sector isn't whole
        (1000, {999: b"x"}, [(512, 488)]),
    ],
)
def test_extents(
    tmp_path: Path, size: int, pieces: dict[int, bytes], expected: list[tuple[int, int]]
) -> None:
    assert list(extents(write(tmp_path / "file", size, pieces))) == expected


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.integers(0, (2 << 20) - 200), st.binary(min_size=1, max_size=200), max_size=8),
    st.sampled_from([512, 4096, GRANULARITY]),
)
def test_nothing_is_missed(
    tmp_path_factory: pytest.TempPathFactory, pieces: dict[int, bytes], granularity: int
) -> None:
    path = write(tmp_path_factory.mktemp("sparse") / "file", 2 << 20, pieces)
    data = path.read_bytes()
    rebuilt = bytearray(len(data))
    end = -1
    for offset, length in extents(path, granularity=granularity):
        assert offset % 512 == 0 and length > 0 and offset > end
        assert any(data[offset : offset + 512]) and any(data[offset + length - 512 : offset + length])
        rebuilt[offset : offset + length] = data[offset : offset + length]
        end = offset + length
    assert rebuilt == data


def test_granularity_is_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "file", 1024, {})
    for wrong in (0, 100, 513):
        with pytest.raises(ValueError, match="multiple"):
            list(extents(path, granularity=wrong))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="No such file"):
        list(extents(tmp_path / "none"))


def test_copy_keeps_holes(tmp_path: Path) -> None:
    source = write(tmp_path / "source", 64 << 20, {0: b"head", 32 << 20: b"middle"})
    target = write(tmp_path / "target", 80 << 20, {0: b"before"})
    with target.open("r+b") as stream:
        copy_data(source, stream.fileno(), offset=8 << 20)
    data = target.read_bytes()
    assert data[:6] == b"before"
    assert data[8 << 20 : (8 << 20) + 4] == b"head"
    assert data[40 << 20 : (40 << 20) + 6] == b"middle"
    assert target.stat().st_blocks * 512 < 1 << 20
