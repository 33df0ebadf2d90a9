"""What every view offers, and what tests may ask of a guest whether or not it runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from builder.errors import HallmarkError
from builder.image.sparse import data_segments
from certification.model import Kind, Subject

if TYPE_CHECKING:
    from certification.views.container import ContainerImage
    from certification.views.format import ImageBytes
    from certification.views.inventory import Inventory

__all__ = [
    "GuestAccess",
    "OpenView",
    "booted_subject",
    "disk_subject",
    "glob_command",
    "identity",
    "is_archive",
    "parse_os_release",
]

_CELL = 1 << 20
_ZEROS = bytes(_CELL)
# hashlib and pread(2) let go of the interpreter's lock, so threads use the processors that there are.
_READERS = 4
_AT_A_TIME = 64


class OpenView(Protocol):
    """An opened view. ``close`` may be called more than once."""

    @property
    def image(self) -> ImageBytes | ContainerImage:
        """The image's bytes; of a container what its archive says.

        :raises HallmarkError: this view has none.
        """

    @property
    def host(self) -> Any:
        """The guest as a testinfra Host (untyped upstream).

        :raises HallmarkError: this view has no guest.
        """

    def subject(self) -> Subject | None:
        """What the guest says it is; None when the view can't see it."""

    def check(self) -> None:
        """Asked after the last test: the view still shows what it showed.

        :raises HallmarkError: it doesn't.
        """

    def close(self) -> None:
        """Give back processes and files."""


class GuestAccess(Protocol):
    """How suites reach into a guest, booted or not: ``host.backend`` offers it in both views."""

    def read_bytes(self, path: str) -> bytes | None:
        """A file's content, links followed; None when there is none. Cached."""

    def fetch(self, path: str) -> Path | None:
        """A copy of a guest file on this machine (for big files); None when there is none. Cached."""

    def glob(self, pattern: str) -> list[str]:
        """Absolute paths that match a shell pattern (``*`` does not cross ``/``), sorted."""

    def inventory(self) -> Inventory:
        """Every file of the guest's own filesystems: mode, owner, size, label, digest. Cached."""

    def rpmdb(self) -> Path:
        """A directory on this machine with a copy of the guest's rpm database. Cached."""

    def made(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` makes for a test on this machine; from a recording, what it made then.

        For what can't be made twice alike and becomes part of a command: a nonce, a compiled program.
        """


def disk_subject(access: GuestAccess, *, kind: Kind = "machine") -> Subject:
    """What the guest's files say that it is."""
    text = access.read_bytes("/etc/os-release") or b""
    fields = parse_os_release(text.decode(errors="replace"))
    ostree = access.inventory().get("/ostree") is not None
    return _identified(Subject.from_os_release(fields, ostree=ostree).model_copy(update={"kind": kind}))


def booted_subject(host: Any) -> Subject:
    """What a running guest says that it is."""
    result = host.run("cat /etc/os-release; test -e /run/ostree-booted && echo OSTREE=1; :")
    fields = parse_os_release(result.stdout)
    return _identified(Subject.from_os_release(fields, ostree="OSTREE" in fields))


def glob_command(pattern: str) -> str:
    """A shell line that prints the paths that match ``pattern``, one a line."""
    return f'for f in {pattern}; do if [ -e "$f" ] || [ -L "$f" ]; then printf "%s\\n" "$f"; fi; done'


def identity(path: Path) -> str:
    """A digest of a file's length and of everything in it that isn't zero; holes cost no reading time.

    It tells in a moment whether two looks saw the same bytes, and stands beside the SHA-256 of the whole file
    in the certificate, as ``sparseSha256``. It is the SHA-256 of the length in bytes (decimal, followed by
    ``;``) and then, for every cell of 1 MiB that isn't all zeros, of the cell's offset (decimal, followed by
    ``;``) and the 32 bytes of the cell's own SHA-256; cells begin at multiples of 1 MiB, the last one ends
    with the file. So only bytes count, not where the filesystem keeps holes.

    :raises HallmarkError: the file can't be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as stream, ThreadPoolExecutor(_READERS) as readers:
            handle = stream.fileno()
            size = os.fstat(handle).st_size
            digest.update(f"{size};".encode())
            cells = _cells(handle, size)
            while some := list(islice(cells, _AT_A_TIME)):
                found = readers.map(lambda cell: _digest(handle, cell), some)
                for cell, own in zip(some, found, strict=True):
                    if own is not None:
                        digest.update(f"{cell};".encode() + own)
    except OSError as error:
        raise HallmarkError(f"cannot read the image: {error.strerror}", where=path) from None
    return digest.hexdigest()


def _cells(handle: int, size: int) -> Iterator[int]:
    """The offsets of the cells of which the filesystem stores anything, each once, ascending."""
    position = 0
    for start, end in data_segments(handle, size):
        position = max(position, start - start % _CELL)
        while position < end:
            yield position
            position += _CELL


def _digest(handle: int, cell: int) -> bytes | None:
    """The SHA-256 of a cell; None if it is all zeros."""
    data = os.pread(handle, _CELL, cell)
    return hashlib.sha256(data).digest() if data != _ZEROS[: len(data)] else None


def is_archive(path: Path) -> bool:
    """Whether a file is a tar: a container image rather than a disk."""
    try:
        with path.open("rb") as stream:
            return stream.read(512)[257:262] == b"ustar"
    except OSError as error:
        raise HallmarkError(f"cannot read the image: {error.strerror}", where=path) from None


def _identified(subject: Subject) -> Subject:
    if not subject.id:
        raise HallmarkError(
            "the guest doesn't say what it is: its os-release has no ID",
            why="which requirements apply depends on it",
        )
    return subject


def parse_os_release(text: str) -> dict[str, str]:
    """The fields of an os-release(5) file, quotes removed."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            value = value.strip()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            fields[key] = value
    return fields
