"""A piece of a file as a request's body: read when it is sent, and again when it is sent again."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.publish.piece import BLOCK, Piece

SIZE = 3 * BLOCK + 512


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "image"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as stream:
        yield stream.fileno(), path


@pytest.mark.parametrize(("offset", "length"), [(0, SIZE), (512, 512), (BLOCK - 512, BLOCK + 1024)])
def test_a_piece_is_those_bytes(file: tuple[int, Path], offset: int, length: int) -> None:
    handle, path = file
    piece = Piece(handle, offset, length, path)
    expected = path.read_bytes()[offset : offset + length]
    for body in (piece, piece, piece[:length]):  # sent again; cut to its length by the SDK
        assert b"".join(map(bytes, body)) == expected
    assert len(piece) == length and piece.part(offset, 100) == expected[:100]
    assert piece.md5() == base64.b64encode(hashlib.md5(expected).digest()).decode()
    assert max(len(block) for block in piece) <= BLOCK


def test_a_piece_travels_whole(file: tuple[int, Path]) -> None:
    with pytest.raises(IndexError):
        Piece(file[0], 0, 1024, file[1])[:512]


def test_a_file_that_became_shorter(file: tuple[int, Path]) -> None:
    handle, path = file
    piece = Piece(handle, 0, SIZE, path)
    os.truncate(path, SIZE - 1)
    for read in (lambda: list(piece), piece.md5, lambda: piece.part(SIZE - 512, 512)):
        with pytest.raises(HallmarkError, match="became shorter"):
            read()
