"""What identifies the bytes of an image without reading its holes (``sparseSha256``)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from documented_digest import by_hand

from certification.views.base import identity


@pytest.mark.parametrize("seed", range(8))
def test_the_second_digest_is_what_is_documented(tmp_path: Path, seed: int) -> None:
    """Data at odd places and at the borders of cells, holes, zeros that are stored, ends within a cell."""
    source, path = random.Random(seed), tmp_path / "image.vhd"
    size = (0, 1, 1 << 20, (1 << 20) + 1, 70 << 20, *(source.randrange(1 << 25) for _ in range(3)))[seed]
    with path.open("wb") as stream:
        stream.truncate(size)
        for place in range(0, size if seed == 4 else 0, 1 << 20):
            os.pwrite(stream.fileno(), source.randbytes(8), place + 5)
        for _ in range(source.randrange(12)):
            place = source.randrange(size + 1)
            place = source.choice((place, place - place % (1 << 20), max(0, size - 700)))
            data = source.choice((source.randbytes(3000), bytes(3 << 20), source.randbytes(1 << 20)))
            os.pwrite(stream.fileno(), data[: size - place], place)
    assert identity(path) == by_hand(path)
    if size:
        with path.open("r+b") as stream:
            at = source.randrange(size)
            before = os.pread(stream.fileno(), 1, at)
            os.pwrite(stream.fileno(), bytes([before[0] ^ 1]), at)
        assert identity(path) == by_hand(path)


def test_identity_depends_on_content_and_length_and_not_on_holes(tmp_path: Path) -> None:
    sparse, full, longer = (tmp_path / name for name in ("sparse", "full", "longer"))
    content = bytes(5 << 20) + b"x" + bytes(1 << 20)
    full.write_bytes(content)
    with sparse.open("wb") as stream:
        stream.truncate(len(content))
        stream.seek(5 << 20)
        stream.write(b"x")
    longer.write_bytes(content + b"\0")
    assert identity(sparse) == identity(full) != identity(longer)
    full.write_bytes(content.replace(b"x", b"y"))
    assert identity(full) != identity(sparse)
    sparse.write_bytes(bytes(4 << 20) + b"x" + bytes(2 << 20))
    assert identity(sparse) not in (identity(full), identity(longer))
