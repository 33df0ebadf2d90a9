"""The ground of the guest helper: files, patterns and commands, the same on a disk and on a machine."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import HallmarkError
from certification.parse import initramfs, units

if TYPE_CHECKING:
    from certification.views.base import GuestAccess
    from certification.views.format import ImageBytes
    from certification.views.inventory import Inventory

__all__ = ["FileGuest"]


class FileGuest:
    """One guest behind a testinfra host.

    :param host: its ``backend`` is a ``certification.views.base.GuestAccess``; ``run`` works as root.
    :param booted: the guest runs; otherwise ``host`` looks at its disk.
    :param image: the bytes of its disk, where the view has them.
    """

    def __init__(self, host: Any, *, booted: bool, image: Callable[[], ImageBytes] | None = None) -> None:
        self.host = host
        self.booted = booted
        self._image = image
        self._units: dict[str, units.Unit] = {}
        self._ramdisks: dict[str, initramfs.Initramfs] = {}

    # Files

    @property
    def access(self) -> GuestAccess:
        access: GuestAccess = self.host.backend
        return access

    @property
    def inventory(self) -> Inventory:
        """Every file of the guest."""
        return self.access.inventory()

    @property
    def ostree(self) -> bool:
        """The system runs from an ostree deployment, which is how its subject is told, too."""
        return self.inventory.get("/ostree") is not None

    def read(self, path: str) -> str | None:
        """A text file; None when there is none."""
        data = self.access.read_bytes(path)
        return None if data is None else data.decode(errors="replace")

    def content(self, path: str) -> str:
        """A text file; "" when there is none."""
        return self.read(path) or ""

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a shell pattern."""
        return self.access.glob(pattern)

    def fetch(self, path: str) -> Path:
        """A copy of a guest file on this machine.

        :raises HallmarkError: there is no such file.
        """
        found = self.access.fetch(path)
        if found is None:
            raise HallmarkError(f"the guest has no file {path}")
        return found

    def exists(self, path: str) -> bool:
        """There is something at ``path``, if only a dangling link."""
        return bool(self.glob(path))

    def configuration(self, directories: tuple[str, ...], pattern: str = "*.conf") -> list[tuple[str, str]]:
        """Drop-in files as systemd reads them: by name; of two with one name the first directory's."""
        found: dict[str, str] = {}
        for directory in directories:
            for path in self.glob(f"{directory}/{pattern}"):
                found.setdefault(posixpath.basename(path), path)
        return [(found[name], self.content(found[name])) for name in sorted(found)]

    def command(self, command: str, *args: str, once: bool = False) -> str:
        """The output of a command that must succeed.

        :param once: it doesn't change while the guest runs; it need not be asked for again.
        :raises HallmarkError: it failed.
        """
        result = self.host.run(command, *args, once=once)
        if result.rc != 0:
            raise HallmarkError(
                f"the guest's command ended with status {result.rc}: {command}",
                details=result.stderr.splitlines()[-5:],
            )
        return str(result.stdout)
