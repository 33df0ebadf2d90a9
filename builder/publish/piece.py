"""A piece of a file as it travels: read in blocks, so that a request of 4 MiB costs a block of memory."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.errors import HallmarkError

__all__ = ["BLOCK", "Piece"]

#: Bytes in memory for each request under way. Smaller ones cost system calls, larger ones gain nothing.
BLOCK = 64 << 10


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes at ``offset`` of an open file; as a request's body it is read when it is sent, and
    read again when it is sent again. It has no ``read``: the SDK and urllib3 would take it for a file.
    """

    handle: int
    offset: int
    length: int
    path: Path

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[memoryview]:
        """The bytes in blocks, each valid until the next one is asked for.

        :raises HallmarkError: the file became shorter.
        """
        buffer = memoryview(bytearray(min(BLOCK, self.length)))
        position, end = self.offset, self.offset + self.length
        while position < end:
            block = buffer[: end - position]
            if os.preadv(self.handle, [block], position) != len(block):
                raise self._shorter()
            yield block
            position += len(block)

    def __getitem__(self, cut: slice) -> Piece:
        """The SDK cuts a page to the length that it was given with it."""
        if cut != slice(None, self.length):
            raise IndexError("a piece travels whole")
        return self

    def md5(self) -> str:
        """The value of the header Content-MD5 (RFC 1864)."""
        digest = hashlib.md5(usedforsecurity=False)
        for block in self:
            digest.update(block)
        return base64.b64encode(digest.digest()).decode()

    def part(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset`` of the file.

        :raises HallmarkError: the file became shorter.
        """
        data = os.pread(self.handle, length, offset)
        if len(data) != length:
            raise self._shorter()
        return data

    def _shorter(self) -> HallmarkError:
        return HallmarkError("the file became shorter while it was read", where=self.path)
