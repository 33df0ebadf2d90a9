"""Unpacks an initramfs on this machine: early and main cpio segments, any compression the kernel takes.

An archive that can't be read is an error, never an empty listing: a check that then found nothing to complain
about would pass the worst image of all.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from builder.errors import HallmarkError

__all__ = ["Initramfs", "read"]

_KEPT = 64 * 1024
_MOST = 1 << 30
_NEWC = (b"070701", b"070702")


@dataclass(frozen=True, slots=True)
class Initramfs:
    """``files`` are paths without leading slash, ``small`` the content of regular files up to 64 KiB.

    ``links`` gives the targets of symbolic links, ``segments`` the number of cpio archives found.
    """

    files: frozenset[str]
    small: dict[str, bytes]
    links: dict[str, str]
    segments: int

    def modules(self) -> dict[str, frozenset[str]]:
        """Kernel modules by kernel version, names with ``_`` for ``-`` and without suffix."""
        found: dict[str, set[str]] = {}
        for path in self.files:
            parts = path.split("/")
            if "modules" in parts and ".ko" in parts[-1]:
                index = parts.index("modules")
                if index > 0 and parts[index - 1] == "lib" and len(parts) > index + 2:
                    name = parts[-1].split(".ko")[0].replace("-", "_")
                    found.setdefault(parts[index + 1], set()).add(name)
        return {version: frozenset(names) for version, names in found.items()}


def read(path: Path) -> Initramfs:
    """Unpack the initramfs in ``path``.

    :raises HallmarkError: it isn't one, is cut off, or uses a compression that is unknown here.
    """
    data = path.read_bytes()
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    segments = 0
    try:
        for segment in _segments(data):
            segments += 1
            for name, mode, content in _cpio(segment):
                if mode & 0o170000 == 0o120000:
                    links[name] = content.decode(errors="replace")
                files[name] = content if mode & 0o170000 == 0o100000 and len(content) <= _KEPT else b""
    except (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise HallmarkError(f"the initramfs cannot be unpacked: {error}", where=path) from None
    if not files:
        raise HallmarkError("the initramfs is empty", where=path)
    return Initramfs(frozenset(files), {name: data for name, data in files.items() if data}, links, segments)


def _segments(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    while True:
        view = _skip_zeros(view)
        if not view:
            return
        if bytes(view[:6]) in _NEWC:
            end = _cpio_end(view)
            yield view[:end]
            view = view[end:]
            continue
        plain, rest = _decompress(view)
        inner = _skip_zeros(memoryview(plain))
        while inner:
            if bytes(inner[:6]) not in _NEWC:
                raise ValueError("what was compressed is no cpio archive")
            end = _cpio_end(inner)
            yield inner[:end]
            inner = _skip_zeros(inner[end:])
        view = rest


def _skip_zeros(view: memoryview) -> memoryview:
    index = 0
    # In large steps first: early segments are padded with kilobytes of zeros.
    while index < len(view) and view[index] == 0:
        step = 4096 if not any(view[index : index + 4096]) else 1
        index += step
    return view[min(index, len(view)) :]


def _decompress(view: memoryview) -> tuple[bytes, memoryview]:
    """One compressed stream and what follows it."""
    magic = bytes(view[:6])
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        stream = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        plain = stream.decompress(
            bytes(view),
        )
        if not stream.eof:
            raise EOFError("the zstd stream is cut off")
        return _bounded(plain), memoryview(stream.unused_data)
    if magic[:2] == b"\x1f\x8b":
        inflate = zlib.decompressobj(31)
        plain = inflate.decompress(view, _MOST)
        if not inflate.eof:
            raise EOFError("the gzip stream is cut off")
        return _bounded(plain), memoryview(inflate.unused_data)
    if magic == b"\xfd7zXZ\x00" or magic[:3] == b"\x5d\x00\x00":
        lz = lzma.LZMADecompressor()
        plain = lz.decompress(bytes(view))
        if not lz.eof:
            raise EOFError("the xz stream is cut off")
        return _bounded(plain), memoryview(lz.unused_data)
    if magic[:3] == b"BZh":
        bz = bz2.BZ2Decompressor()
        plain = bz.decompress(bytes(view))
        if not bz.eof:
            raise EOFError("the bzip2 stream is cut off")
        return _bounded(plain), memoryview(bz.unused_data)
    raise ValueError(f"no known archive or compression starts with {magic.hex(' ')}")


def _bounded(plain: bytes) -> bytes:
    if len(plain) >= _MOST:
        raise ValueError("it unpacks to more than 1 GiB")
    return plain


def _cpio_end(view: memoryview) -> int:
    """Where the archive that starts at 0 ends, behind its trailer."""
    for name, _mode, start, size in _headers(view):
        if name == "TRAILER!!!":
            return min(_pad(start + size), len(view))
    raise EOFError("the cpio archive has no trailer")


def _cpio(view: memoryview) -> Iterator[tuple[str, int, bytes]]:
    for name, mode, start, size in _headers(view):
        if name == "TRAILER!!!":
            return
        name = name.removeprefix("./").lstrip("/")
        if name not in (".", ""):
            yield name, mode, bytes(view[start : start + size])


def _headers(view: memoryview) -> Iterator[tuple[str, int, int, int]]:
    """(name, mode, offset of the data, size) of each member of a newc archive."""
    offset = 0
    while True:
        header = bytes(view[offset : offset + 110])
        if len(header) < 110 or header[:6] not in _NEWC:
            raise EOFError("the cpio archive is cut off")
        mode, size, name_size = int(header[14:22], 16), int(header[54:62], 16), int(header[94:102], 16)
        name = bytes(view[offset + 110 : offset + 110 + name_size - 1]).decode(errors="replace")
        start = _pad(offset + 110 + name_size)
        if start + size > len(view):
            raise EOFError("the cpio archive is cut off")
        yield name, mode, start, size
        offset = _pad(start + size)


def _pad(offset: int) -> int:
    return offset + 3 & ~3
