"""What every view offers, and what tests may ask of a guest whether or not it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from builder.errors import HallmarkError
from certification.model import Subject

if TYPE_CHECKING:
    from certification.views.format import ImageBytes
    from certification.views.inventory import Inventory

__all__ = ["GuestAccess", "OpenView", "identity", "parse_os_release"]


class OpenView(Protocol):
    """An opened view. ``close`` may be called more than once."""

    @property
    def image(self) -> ImageBytes:
        """The image's bytes.

        :raises HallmarkError: this view has none.
        """

    @property
    def host(self) -> Any:
        """The guest as a testinfra Host (untyped upstream).

        :raises HallmarkError: this view has no guest.
        """

    def subject(self) -> Subject | None:
        """What the guest says it is; None when the view can't see it."""

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


def identity(path: Path) -> str:
    """Device, inode, size and times of a file: any write changes it. (The digest is taken once, at the end.)

    :raises HallmarkError: there is no such file.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise HallmarkError(f"cannot look at the image: {error.strerror}", where=path) from None
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


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
