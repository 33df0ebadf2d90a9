"""glibc's archive of locales."""

from __future__ import annotations

import struct

__all__ = ["archived"]

_MAGIC = 0xDE020109


def archived(data: bytes) -> frozenset[str]:
    """The names in a ``locale-archive``, such as ``en_US.utf8``; none when it is something else.

    Source: ``struct locarhead`` of glibc (locale/locarchive.h).
    """
    if len(data) < 32:
        return frozenset()
    magic, _, _, _, _, start, used, _ = struct.unpack_from("<8I", data)
    if magic != _MAGIC:
        return frozenset()
    return frozenset(
        name.decode(errors="replace") for name in data[start : start + used].split(b"\0") if name
    )
