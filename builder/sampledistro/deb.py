"""Reading Debian packages (deb(5)): ar(5) archives of ``control.tar.*`` and ``data.tar.*``."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from builder.errors import HallmarkError

__all__ = ["Deb", "Member", "parse_control", "read", "read_control"]

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_MANDATORY = ("Package", "Version", "Architecture")


@dataclass(frozen=True, slots=True)
class Member:
    """One path of ``data.tar``; ``path`` is absolute, ``target`` that of a symbolic or hard link."""

    path: str
    kind: str
    mode: int
    user: str
    group: str
    content: bytes
    target: str


@dataclass(frozen=True, slots=True)
class Deb:
    """A package's control fields and its unpacked (not yet parsed) ``data.tar``."""

    path: Path
    control: dict[str, str]
    data: bytes

    def members(self) -> Iterator[Member]:
        """Every path, in the archive's order. Devices and the like don't occur in Debian: an error."""
        try:
            with tarfile.open(fileobj=io.BytesIO(self.data), mode="r:") as archive:
                for info in archive:
                    yield self._member(archive, info)
        except tarfile.TarError as error:
            raise HallmarkError(f"the package's data.tar is damaged: {error}", where=self.path) from None

    def _member(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
        path = "/" + info.name.removeprefix("./").strip("/")
        content, target = b"", ""
        if info.isfile():
            kind = "file"
            stream = archive.extractfile(info)
            content = stream.read() if stream else b""
        elif info.isdir():
            kind = "directory"
        elif info.issym():
            kind, target = "link", info.linkname
        elif info.islnk():
            kind, target = "hardlink", "/" + info.linkname.removeprefix("./").strip("/")
        else:
            raise HallmarkError(f"{path} is neither a file, a directory nor a link", where=self.path)
        return Member(
            path, kind, info.mode & 0o7777, info.uname or "root", info.gname or "root", content, target
        )


def read(path: Path) -> Deb:
    """Open a package.

    :raises HallmarkError: the file is no Debian package, or a part of it is missing or damaged.
    """
    try:
        parts = dict(_ar_members(path.read_bytes(), path))
        if "debian-binary" not in parts:
            raise HallmarkError("the archive holds no debian-binary: not a Debian package", where=path)
        control_tar = _unpack(_part(parts, "control.tar", path))
        data = _unpack(_part(parts, "data.tar", path))
    except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise HallmarkError(f"cannot read the Debian package: {error}", where=path) from None
    return Deb(path, _control(control_tar, path), data)


def read_control(path: Path) -> dict[str, str]:
    """The control fields only; the rest of the file isn't unpacked.

    :raises HallmarkError: as :func:`read`.
    """
    try:
        parts = dict(_ar_members(path.read_bytes(), path))
        return _control(_unpack(_part(parts, "control.tar", path)), path)
    except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise HallmarkError(f"cannot read the Debian package: {error}", where=path) from None


def _control(control_tar: bytes, path: Path) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(control_tar), mode="r:") as archive:
        for info in archive:
            if info.name.removeprefix("./") == "control":
                stream = archive.extractfile(info)
                control = parse_control(stream.read().decode() if stream else "")
                if missing := [field for field in _MANDATORY if field not in control]:
                    raise HallmarkError(f"the package's control file has no {', '.join(missing)}", where=path)
                return control
    raise HallmarkError("the package has no control file", where=path)


def parse_control(text: str) -> dict[str, str]:
    """The fields of one stanza (deb-control(5)); continuation lines are joined with newlines."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line[:1] in " \t":
            fields[name] += "\n" + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _ar_members(data: bytes, path: Path) -> Iterator[tuple[str, bytes]]:
    if not data.startswith(_AR_MAGIC):
        raise HallmarkError("not an ar archive, so not a Debian package", where=path)
    position = len(_AR_MAGIC)
    while position + _AR_HEADER <= len(data):
        header = data[position : position + _AR_HEADER]
        try:
            name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        except ValueError:
            raise HallmarkError(f"damaged archive header at byte {position}", where=path) from None
        position += _AR_HEADER
        if position + size > len(data):
            raise HallmarkError(f"the archive ends in the middle of {name}", where=path)
        yield name, data[position : position + size]
        position += size + size % 2


def _part(parts: dict[str, bytes], stem: str, path: Path) -> tuple[str, bytes]:
    for name, data in parts.items():
        if name == stem or name.startswith(stem + "."):
            return name, data
    raise HallmarkError(f"the package has no {stem}", where=path)


def _unpack(part: tuple[str, bytes]) -> bytes:
    name, data = part
    if name.endswith(".xz"):
        return lzma.decompress(data)
    if name.endswith(".zst"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    if name.endswith(".gz"):
        return gzip.decompress(data)
    return data
