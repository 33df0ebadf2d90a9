"""Fingerprints of OpenPGP public keys: as much of RFC 4880 and RFC 9580 as that takes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

__all__ = ["fingerprints"]

_PUBLIC_KEY = 6


def fingerprints(data: bytes) -> list[str]:
    """Fingerprints (upper case, hexadecimal) of the primary keys in a key file, armoured or binary.

    Empty when it holds none or can't be read.
    """
    found: list[str] = []
    for block in _blocks(data):
        for tag, body in _packets(block):
            if tag == _PUBLIC_KEY and body[:1] == b"\x04":
                # RFC 9580, 5.5.4.2: SHA-1 over 0x99, two octets of length, and the packet.
                prefix = b"\x99" + len(body).to_bytes(2, "big")
                found.append(hashlib.sha1(prefix + body, usedforsecurity=False).hexdigest().upper())
            elif tag == _PUBLIC_KEY and body[:1] == b"\x06":
                prefix = b"\x9b" + len(body).to_bytes(4, "big")
                found.append(hashlib.sha256(prefix + body).hexdigest().upper())
    return found


def _blocks(data: bytes) -> Iterator[bytes]:
    pattern = rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----"
    armoured = re.findall(pattern, data, re.DOTALL)
    if not armoured:
        yield data
    for text in armoured:
        # Headers end with an empty line; a line that starts with = is the checksum.
        lines = re.split(rb"\r?\n[ \t]*\r?\n", b"\n" + text, maxsplit=1)[-1].split()
        try:
            yield base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")))
        except binascii.Error:
            continue


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, body) of each packet; ends at the first byte that starts none."""
    at = 0
    while at + 1 < len(data) and data[at] & 0x80:
        first = data[at]
        if first & 0x40:
            tag, octet = first & 0x3F, data[at + 1]
            if octet < 192:
                size, head = octet, 2
            elif octet < 224:
                size, head = ((octet - 192) << 8) + int.from_bytes(data[at + 2 : at + 3], "big") + 192, 3
            elif octet == 255:
                size, head = int.from_bytes(data[at + 2 : at + 6], "big"), 6
            else:
                return
        else:
            tag, width = first >> 2 & 0x0F, 1 << (first & 3)
            if width == 8:
                return
            size, head = int.from_bytes(data[at + 1 : at + 1 + width], "big"), 1 + width
        yield tag, data[at + head : at + head + size]
        at += head + size
