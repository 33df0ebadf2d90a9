"""Programs: which machine they are for, which libraries they need, and who signed them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

__all__ = ["Elf", "elf", "module_signature", "pe_machine", "pe_signers"]

_MACHINES = {62: "x86_64", 183: "aarch64", 3: "i686"}
_PE_MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64", 0x14C: "i686"}
_MODULE_MAGIC = b"~Module signature appended~\n"


@dataclass(frozen=True, slots=True)
class Elf:
    """An ELF file's machine and the libraries (sonames) that it asks for."""

    machine: str
    needed: tuple[str, ...]
    soname: str | None


def elf(data: bytes) -> Elf | None:
    """Read a 64-bit little-endian ELF file; None when it is something else.

    :raises ValueError: its tables point outside the file.
    """
    if data[:4] != b"\x7fELF" or data[4] != 2 or data[5] != 1:
        return None
    try:
        machine = struct.unpack_from("<H", data, 18)[0]
        table = struct.unpack_from("<Q", data, 32)[0]
        size, count = struct.unpack_from("<HH", data, 54)
        segments = [struct.unpack_from("<IIQQQQQQ", data, table + index * size) for index in range(count)]
        needed, sonames, strings = [], [], 0
        for segment in segments:
            if segment[0] != 2:  # PT_DYNAMIC
                continue
            for offset in range(segment[2], segment[2] + segment[5], 16):
                tag, value = struct.unpack_from("<qQ", data, offset)
                if tag == 0:
                    break
                if tag == 1:
                    needed.append(value)
                elif tag == 14:
                    sonames.append(value)
                elif tag == 5:
                    strings = _file_offset(segments, value)

        def text(offset: int) -> str:
            start = strings + offset
            return data[start : data.index(b"\0", start)].decode(errors="replace")

        return Elf(
            _MACHINES.get(machine, str(machine)),
            tuple(text(value) for value in needed),
            text(sonames[0]) if sonames else None,
        )
    except struct.error as error:
        raise ValueError(f"the ELF file is cut off: {error}") from None


def _file_offset(segments: list[tuple[int, ...]], address: int) -> int:
    for kind, _flags, offset, start, _physical, length, *_ in segments:
        if kind == 1 and start <= address < start + length:  # PT_LOAD
            return offset + address - start
    raise ValueError("the dynamic string table is in no segment")


def pe_machine(data: bytes) -> str | None:
    """The machine of an EFI program or EFI-bootable kernel; None when it is none."""
    header = _pe_header(data)
    return (
        None if header is None else _PE_MACHINES.get(struct.unpack_from("<H", data, header + 4)[0], "unknown")
    )


def pe_signers(data: bytes) -> list[tuple[str, ...]]:
    """For each Authenticode signature of an EFI program: the common names in the certificates it carries.

    Each certificate gives its subject and its issuer. This says who claims to have signed; whether the
    signature is right is decided by firmware and shim at boot.

    :raises ValueError: the certificate table is damaged.
    """
    header = _pe_header(data)
    if header is None:
        raise ValueError("it is no EFI program")
    optional = header + 24
    plus = struct.unpack_from("<H", data, optional)[0] == 0x20B
    directory = optional + (112 if plus else 96) + 4 * 8
    offset, size = struct.unpack_from("<II", data, directory)
    found: list[tuple[str, ...]] = []
    end = offset + size
    if end > len(data):
        raise ValueError("its certificate table lies behind the end of the file")
    while size and offset + 8 <= end:
        length, _revision, kind = struct.unpack_from("<IHH", data, offset)
        if length < 8:
            raise ValueError("its certificate table is damaged")
        if kind == 2:
            names: list[str] = []
            for certificate in pkcs7.load_der_pkcs7_certificates(_der(data[offset + 8 : offset + length])):
                names += [_common_name(certificate.subject), _common_name(certificate.issuer)]
            found.append(tuple(dict.fromkeys(names)))
        offset += length + 7 & ~7
    return found


def _der(data: bytes) -> bytes:
    """The DER value at the start of ``data``, without the padding that follows it."""
    if len(data) < 2 or data[1] < 0x80:
        return data[: 2 + data[1]] if len(data) > 1 else data
    count = data[1] & 0x7F
    return data[: 2 + count + int.from_bytes(data[2 : 2 + count], "big")]


def _pe_header(data: bytes) -> int | None:
    if data[:2] != b"MZ" or len(data) < 64:
        return None
    header = int(struct.unpack_from("<I", data, 60)[0])
    return header if data[header : header + 4] == b"PE\0\0" else None


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def module_signature(data: bytes) -> bytes | None:
    """The PKCS#7 signature appended to a kernel module; None when it has none.

    :raises ValueError: the marker is there but the signature isn't.
    """
    if not data.endswith(_MODULE_MAGIC):
        return None
    tail = len(data) - len(_MODULE_MAGIC)
    length = struct.unpack(">I", data[tail - 4 : tail])[0]
    if not 0 < length <= tail - 12:
        raise ValueError("the module's signature is damaged")
    return data[tail - 12 - length : tail - 12]
