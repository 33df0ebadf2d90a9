"""A minimal ISO 9660 image, enough for a few small files in its root directory.

Written here because a provisioning disc is needed on every machine and no disc-making program is installed
by default. Names are kept as they are given: Linux's isofs lower-cases names without Rock Ridge and drops
``;1``, so lower-case names come out unchanged. Source: ECMA-119, 4th edition, sections 6.3, 8.4 and 9.1.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

__all__ = ["SECTOR", "build"]

SECTOR = 2048
_SYSTEM_AREA_SECTORS = 16
_DATE = bytes((123, 1, 1, 0, 0, 0, 0))  # 2023-01-01 in a directory record; the content decides, not the clock
_LONG_DATE = b"2023010100000000\0"
_NO_DATE = b"0000000000000000\0"


def build(files: Mapping[str, bytes], *, label: str) -> bytes:
    """The image's bytes.

    :param files: name (at most 30 ASCII characters, no slash) to content; at most some twenty files.
    :param label: volume label, at most 32 ASCII characters.
    :raises ValueError: a name or the label is not allowed, or the directory does not fit one sector.
    """
    if len(label) > 32 or not label.isascii():
        raise ValueError(f"not a volume label: {label!r}")
    path_table, root = _SYSTEM_AREA_SECTORS + 2, _SYSTEM_AREA_SECTORS + 4
    position = root + 1
    records = [_record(b"\0", root, SECTOR, directory=True), _record(b"\1", root, SECTOR, directory=True)]
    body = b""
    for name, content in sorted(files.items()):
        if not name or len(name) > 30 or "/" in name or not name.isascii():
            raise ValueError(f"not a file name for the disc: {name!r}")
        records.append(_record(f"{name};1".encode(), position, len(content), directory=False))
        padded = _pad(content)
        body += padded
        position += len(padded) // SECTOR
    directory = b"".join(records)
    if len(directory) > SECTOR:
        raise ValueError("too many files for one directory sector")
    entry = struct.pack("<BBIH", 1, 0, root, 1) + b"\0\0"
    entry_big = struct.pack(">BBIH", 1, 0, root, 1) + b"\0\0"
    return b"".join(
        (
            bytes(_SYSTEM_AREA_SECTORS * SECTOR),
            _pad(
                _volume(
                    label, total=position, path_table=path_table, path_table_size=len(entry), root=records[0]
                )
            ),
            _pad(b"\xffCD001\x01"),
            _pad(entry),
            _pad(entry_big),
            _pad(directory),
            body,
        )
    )


def _volume(label: str, *, total: int, path_table: int, path_table_size: int, root: bytes) -> bytes:
    parts = (
        b"\x01CD001\x01\0",
        b" " * 32,
        label.encode().ljust(32),
        bytes(8),
        _both32(total),
        bytes(32),
        _both16(1),
        _both16(1),
        _both16(SECTOR),
        _both32(path_table_size),
        struct.pack("<II", path_table, 0),
        struct.pack(">II", path_table + 1, 0),
        root,
        b" " * (128 * 4),  # volume set, publisher, preparer, application
        b" " * (37 * 3),  # copyright, abstract and bibliographic file
        _LONG_DATE,
        _LONG_DATE,
        _NO_DATE,
        _NO_DATE,
        b"\x01",
    )
    return b"".join(parts)


def _record(name: bytes, extent: int, size: int, *, directory: bool) -> bytes:
    length = 33 + len(name) + (1 - len(name) % 2)
    head = struct.pack("BB", length, 0) + _both32(extent) + _both32(size) + _DATE
    record = (
        head
        + struct.pack("BBB", 2 if directory else 0, 0, 0)
        + _both16(1)
        + struct.pack("B", len(name))
        + name
    )
    return record.ljust(length, b"\0")


def _both16(value: int) -> bytes:
    return struct.pack("<H", value) + struct.pack(">H", value)


def _both32(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def _pad(data: bytes) -> bytes:
    return data.ljust(max(1, -(-len(data) // SECTOR)) * SECTOR, b"\0")
