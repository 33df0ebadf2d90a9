"""Applies a mutant's operations to a copy of an image. An operation that changes nothing is an error."""

from __future__ import annotations

import gzip
import os
import re
import stat
import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import assert_never
from uuid import UUID

import zstandard

from builder.errors import HallmarkError
from builder.image import vhd
from builder.run import run
from builder.workspace import PROJECT
from certification.mutants.disk import Disk, Stat
from certification.mutants.model import (
    Attributes,
    Bytes,
    Copy,
    Edit,
    Entry,
    Erase,
    Install,
    Length,
    Link,
    Mutant,
    Patch,
    Ramdisk,
    Remove,
    Shrink,
    Write,
)
from certification.views.format import FOOTER, ImageBytes
from certification.views.partitions import SECTOR
from certification.views.rpmdb import PLACES

__all__ = ["apply"]

_KEY = PROJECT / "images/sample-distribution/keys/test-secret-key.asc"


def apply(mutant: Mutant, image: Path, *, work: Path, disk: Disk | None = None) -> None:
    """Damage ``image``, a copy, as ``mutant`` says.

    :param work: a directory for temporary files.
    :param disk: the copy's filesystems, when they were opened already (before other mutants changed fstab).
    :raises HallmarkError: an operation doesn't apply (no such file, no match) or changes nothing.
    """
    for number, operation in enumerate(mutant.what, 1):
        try:
            if isinstance(operation, Bytes | Entry | Length):
                _apply_to_bytes(operation, image)
            else:
                _apply_to_files(operation, disk or Disk(image), work)
        except HallmarkError as error:
            raise HallmarkError(
                f"operation {number} of mutant {mutant.id} doesn't apply: {error.what}",
                where=image,
                why="a mutant that damages nothing proves nothing",
                details=error.details,
                hint="mend the mutant, or the image changed and it has to follow",
            ) from None


def _apply_to_files(
    operation: Attributes | Write | Edit | Remove | Link | Copy | Patch | Ramdisk | Shrink | Install | Erase,
    disk: Disk,
    work: Path,
) -> None:
    match operation:
        case Attributes(change=path):
            found = _existing(disk, path)
            wanted = replace(
                found,
                mode=found.mode
                if operation.mode is None
                else stat.S_IFMT(found.mode) | int(operation.mode, 8),
                uid=found.uid if operation.uid is None else operation.uid,
                gid=found.gid if operation.gid is None else operation.gid,
                label=found.label if operation.label is None else operation.label,
            )
            if wanted == found:
                raise HallmarkError(f"{path} is so already")
            disk.change(path, wanted)
        case Write(write=path):
            like = Stat(
                stat.S_IFREG | int(operation.mode, 8),
                operation.uid,
                operation.gid,
                operation.label or disk.label_for(path),
            )
            data = operation.text.encode()
            if disk.stat(path) == like and disk.read(path) == data:
                raise HallmarkError(f"{path} is so already")
            disk.write(path, data, like=like)
        case Edit(edit=path, pattern=pattern, to=to):
            before = disk.read(path).decode(errors="surrogateescape")
            after = re.sub(pattern, to, before, flags=re.MULTILINE)
            if after == before:
                raise HallmarkError(f"{pattern!r} changes nothing in {path}")
            disk.write(path, after.encode(errors="surrogateescape"))
        case Remove(remove=path):
            _existing(disk, path)
            disk.remove(path)
        case Link(link=path, to=target):
            disk.link(path, target)
        case Copy(copy_of=source, to=path):
            found = _existing(disk, source)
            label = operation.label or disk.label_for(path)
            mode = stat.S_IFREG | int(operation.mode, 8)
            disk.write(path, disk.read(source), like=replace(found, mode=mode, label=label))
        case Patch(patch=path):
            content = bytearray(disk.read(path))
            patch = bytes.fromhex(operation.hex)
            begin = operation.offset + (len(content) if operation.offset < 0 else 0)
            if not 0 <= begin <= len(content) - len(patch) or content[begin : begin + len(patch)] == patch:
                raise HallmarkError(f"the bytes at {operation.offset} of {path} don't change")
            content[begin : begin + len(patch)] = patch
            disk.write(path, bytes(content))
        case Ramdisk(ramdisk=path, pattern=pattern, to=to):
            packed = disk.read(path)
            plain = _unpack(packed)
            changed = plain.replace(pattern.encode(), to.encode())
            if changed == plain:
                raise HallmarkError(f"{path} holds no {pattern!r}")
            disk.write(path, gzip.compress(changed, compresslevel=1, mtime=0))
        case Shrink(shrink=point, mib=mib):
            disk.shrink(point, mib, work=work)
        case Install() | Erase():
            _change_packages(operation, disk, work)
        case _:
            assert_never(operation)


def _unpack(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    raise HallmarkError("the initramfs is packed in a way that mutants don't unpack")


def _existing(disk: Disk, path: str) -> Stat:
    found = disk.stat(path)
    if found is None:
        raise HallmarkError(f"the image has no {path}")
    return found


def _change_packages(operation: Install | Erase, disk: Disk, work: Path) -> None:
    place = disk.existing([f"{place}/rpmdb.sqlite" for place in PLACES])
    before = disk.read(place)
    with tempfile.TemporaryDirectory(prefix="rpmdb-", dir=work) as name:
        directory = Path(name)
        database = directory / "rpmdb.sqlite"
        database.write_bytes(before)
        rpm = ["rpm", "--dbpath", str(directory)]
        # Debian's rpm would take macros and the database from the home directory.
        env = {"HOME": name}
        if isinstance(operation, Erase):
            run([*rpm, "-e", "--justdb", "--nodeps", "--noscripts", operation.erase], env=env, timeout=120)
        else:
            package = directory / "mutant.rpm"
            package.write_bytes(_package(operation))
            options = ["--justdb", "--nodeps", "--nosignature", "--nodigest", "--ignorearch", "--force"]
            run([*rpm, "-i", *options, str(package)], env=env, timeout=120)
        run([*rpm, "-q", "--qf", "", "-a"], env=env, timeout=120)
        after = database.read_bytes()
    if after == before:
        raise HallmarkError("the rpm database doesn't change")
    disk.write(place, after)


def _package(operation: Install) -> bytes:
    import rpm_rs

    builder = rpm_rs.PackageBuilder(
        operation.install, operation.version, "MIT", operation.arch, operation.install
    )
    builder.using_config(rpm_rs.BuildConfig(format=rpm_rs.RpmFormat.V4, source_date=1_700_000_000))
    builder.release("1")
    builder.vendor(operation.vendor)
    for name in operation.requires:
        builder.requires(name)
    for name in operation.provides:
        builder.provides(name)
    for path in operation.files:
        builder.with_file_contents(b"mutant", rpm_rs.FileOptions.new(path))
    made = builder.build_and_sign(rpm_rs.Signer(_KEY.read_bytes())) if operation.signed else builder.build()
    data: bytes = made.to_bytes()
    return data


def _apply_to_bytes(operation: Bytes | Entry | Length, image: Path) -> None:
    size = image.stat().st_size
    if isinstance(operation, Bytes):
        offset = _anchor(operation, image, size) + operation.offset
        _overwrite(image, offset, bytes.fromhex(operation.hex))
        if operation.checksum:
            footer = _read(image, size - FOOTER, FOOTER)
            _overwrite(image, size - FOOTER + 64, struct.pack(">I", vhd.checksum(footer)))
    elif isinstance(operation, Entry):
        _change_entry(operation, image, size)
    else:
        footer = _read(image, size - FOOTER, FOOTER)
        if not operation.length:
            raise HallmarkError("a length of 0 changes nothing")
        os.truncate(image, size - FOOTER)
        os.truncate(image, size - FOOTER + operation.length)
        with image.open("ab") as stream:
            stream.write(footer)


def _anchor(operation: Bytes, image: Path, size: int) -> int:
    if operation.bytes in ("start", "footer", "backup"):
        return {"start": 0, "footer": size - FOOTER, "backup": size - FOOTER - SECTOR}[operation.bytes]
    view = ImageBytes(image)
    try:
        part = view.partition(operation.bytes)
    finally:
        view.close()
    if part is None:
        raise HallmarkError(f"the image has no {operation.bytes} partition")
    return part.offset


def _change_entry(operation: Entry, image: Path, size: int) -> None:
    """Both copies stay valid: UEFI Specification 2.10, chapter 5.3 (GPT header, entry array)."""
    for header_at in (SECTOR, size - FOOTER - SECTOR):
        header = bytearray(_read(image, header_at, SECTOR))
        length = struct.unpack_from("<I", header, 12)[0]
        entries_lba, count, entry_size = struct.unpack_from("<QII", header, 72)
        entries = bytearray(_read(image, entries_lba * SECTOR, count * entry_size))
        at = (operation.partition - 1) * entry_size
        if header[:8] != b"EFI PART" or not any(entries[at : at + 16]):
            raise HallmarkError(f"the GPT has no partition {operation.partition}")
        before = bytes(entries)
        if operation.first_lba is not None:
            struct.pack_into("<Q", entries, at + 32, operation.first_lba)
        if operation.type is not None:
            entries[at : at + 16] = UUID(operation.type).bytes_le
        if entries == before:
            raise HallmarkError(f"partition {operation.partition} is so already")
        struct.pack_into("<I", header, 88, zlib.crc32(entries))
        struct.pack_into("<I", header, 16, 0)
        struct.pack_into("<I", header, 16, zlib.crc32(header[:length]))
        _overwrite(image, entries_lba * SECTOR, bytes(entries))
        _overwrite(image, header_at, bytes(header))


def _read(image: Path, offset: int, length: int) -> bytes:
    with image.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def _overwrite(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as stream:
        stream.seek(offset)
        if stream.read(len(data)) == data:
            raise HallmarkError(f"the bytes at {offset} are so already")
        stream.seek(offset)
        stream.write(data)
