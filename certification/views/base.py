"""What every view offers, and what tests may ask of a guest whether or not it runs."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from builder.errors import HallmarkError
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

    It tells whether two looks saw the same bytes. The SHA-256 of the whole file, which others can check, is
    taken once, when the certificate is made.

    :raises HallmarkError: the file can't be read.
    """
    digest = hashlib.blake2b(digest_size=32)
    zeros = bytes(_CELL)
    try:
        with path.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            digest.update(f"{size};".encode())
            position = 0
            while position < size:
                try:
                    position = os.lseek(stream.fileno(), position, os.SEEK_DATA) // _CELL * _CELL
                except OSError as error:
                    if error.errno != errno.ENXIO:  # no data after this position
                        raise
                    break
                while position < size:
                    cell = os.pread(stream.fileno(), _CELL, position)
                    if cell == zeros[: len(cell)]:
                        break  # a run of zeros: look for the next data
                    digest.update(f"{position};".encode())
                    digest.update(cell)
                    position += _CELL
                position += _CELL
    except OSError as error:
        raise HallmarkError(f"cannot read the image: {error.strerror}", where=path) from None
    return digest.hexdigest()


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
