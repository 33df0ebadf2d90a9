"""testinfra modules for an unbooted guest, answered from the inventory and from files already read.

The stock modules would run stat, cat, getent and rpm inside the appliance, a tenth of a second each under
emulation. These have the same interface and cost nothing.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from datetime import UTC, datetime
from typing import Any

from testinfra.modules.file import File
from testinfra.modules.group import Group
from testinfra.modules.package import Package
from testinfra.modules.user import User

from certification.views import rpmdb
from certification.views.inventory import Entry

__all__ = ["NATIVE", "DiskFile", "DiskGroup", "DiskPackage", "DiskUser"]


class DiskFile(File):  # type: ignore[misc]  # testinfra ships no types
    """``host.file(path)`` from the inventory."""

    @classmethod
    def get_module_class(cls, host: Any) -> type[DiskFile]:
        return cls

    @property
    def _backend(self) -> Any:
        return self._host.backend

    def _entry(self, *, follow: bool = True) -> Entry | None:
        entry: Entry | None = self._backend.inventory().get(self.path, follow=follow)
        return entry

    def _required(self) -> Entry:
        entry = self._entry()
        assert entry is not None, f"{self.path} does not exist"
        return entry

    @property
    def exists(self) -> bool:
        return self._entry() is not None

    @property
    def is_file(self) -> bool:
        return self._is("f")

    @property
    def is_directory(self) -> bool:
        return self._is("d")

    @property
    def is_pipe(self) -> bool:
        return self._is("p")

    @property
    def is_socket(self) -> bool:
        return self._is("s")

    @property
    def is_symlink(self) -> bool:
        entry = self._entry(follow=False)
        return entry is not None and entry.type == "l"

    @property
    def is_executable(self) -> bool:
        entry = self._entry()
        return entry is not None and bool(entry.mode & 0o111)

    def _is(self, kind: str) -> bool:
        entry = self._entry()
        return entry is not None and entry.type == kind

    @property
    def linked_to(self) -> str | None:
        resolved: str | None = self._backend.inventory().resolve(self.path)
        return resolved

    @property
    def uid(self) -> int:
        return self._required().uid

    @property
    def gid(self) -> int:
        return self._required().gid

    @property
    def user(self) -> str:
        return _name(self._backend, "/etc/passwd", self.uid)

    @property
    def group(self) -> str:
        return _name(self._backend, "/etc/group", self.gid)

    @property
    def mode(self) -> int:
        return self._required().mode

    @property
    def size(self) -> int:
        return self._required().size

    @property
    def mtime(self) -> datetime:
        return datetime.fromtimestamp(self._required().mtime, UTC).replace(tzinfo=None)

    @property
    def sha256sum(self) -> str:
        return self._required().sha256 or hashlib.sha256(self.content).hexdigest()

    @property
    def md5sum(self) -> str:
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest()

    @property
    def content(self) -> bytes:
        data: bytes | None = self._backend.read_bytes(self.path)
        if data is None:
            raise RuntimeError(f"{self.path} does not exist or is no regular file")
        return data

    @property
    def content_string(self) -> str:
        return self.content.decode()

    def contains(self, pattern: str) -> bool:
        data: bytes | None = self._backend.read_bytes(self.path)
        return data is not None and re.search(pattern.encode(), data, re.MULTILINE) is not None

    def listdir(self) -> list[str]:
        entry = self._required()
        if entry.type != "d":
            raise RuntimeError(f"{self.path} is no directory")
        return [posixpath.basename(child.path) for child in self._backend.inventory().children(self.path)]


class DiskPackage(Package):  # type: ignore[misc]  # testinfra ships no types
    """``host.package(name)`` from the guest's rpm database, read on this machine."""

    @classmethod
    def get_module_class(cls, host: Any) -> type[DiskPackage]:
        return cls

    def _found(self) -> rpmdb.InstalledPackage | None:
        return next((item for item in rpmdb.packages(self._host.backend) if item.name == self.name), None)

    def _required(self) -> rpmdb.InstalledPackage:
        found = self._found()
        assert found is not None, f"package {self.name} is not installed"
        return found

    @property
    def is_installed(self) -> bool:
        return self._found() is not None

    @property
    def version(self) -> str:
        return self._required().version

    @property
    def release(self) -> str:
        return self._required().release


class DiskUser(User):  # type: ignore[misc]  # testinfra ships no types
    """``host.user(name)`` from the guest's own files: there is no name service on a disk."""

    @classmethod
    def get_module_class(cls, host: Any) -> type[DiskUser]:
        return cls

    @property
    def name(self) -> str:
        return str(self._name or "root")

    def _fields(self, path: str = "/etc/passwd") -> list[str]:
        found = _record(self._host.backend, path, self.name)
        assert found is not None, f"there is no user {self.name} in {path}"
        return found

    @property
    def exists(self) -> bool:
        return _record(self._host.backend, "/etc/passwd", self.name) is not None

    @property
    def uid(self) -> int:
        return int(self._fields()[2])

    @property
    def gid(self) -> int:
        return int(self._fields()[3])

    @property
    def group(self) -> str:
        return _name(self._host.backend, "/etc/group", self.gid)

    @property
    def groups(self) -> list[str]:
        others = [
            fields[0]
            for fields in _records(self._host.backend, "/etc/group")
            if len(fields) > 3 and self.name in fields[3].split(",") and fields[0] != self.group
        ]
        return [self.group, *others]

    @property
    def gids(self) -> list[int]:
        names = set(self.groups)
        return [int(f[2]) for f in _records(self._host.backend, "/etc/group") if f[0] in names]

    @property
    def gecos(self) -> str:
        return self._fields()[4]

    @property
    def home(self) -> str:
        return self._fields()[5]

    @property
    def shell(self) -> str:
        return self._fields()[6]

    @property
    def password(self) -> str:
        return self._fields("/etc/shadow")[1]

    @property
    def get_all_users(self) -> list[str]:
        return [fields[0] for fields in _records(self._host.backend, "/etc/passwd")]

    @property
    def get_local_users(self) -> list[str]:
        return self.get_all_users


class DiskGroup(Group):  # type: ignore[misc]  # testinfra ships no types
    """``host.group(name)`` from /etc/group."""

    @classmethod
    def get_module_class(cls, host: Any) -> type[DiskGroup]:
        return cls

    @property
    def exists(self) -> bool:
        return _record(self._host.backend, "/etc/group", self.name) is not None

    def _fields(self) -> list[str]:
        found = _record(self._host.backend, "/etc/group", self.name)
        assert found is not None, f"there is no group {self.name}"
        return found

    @property
    def gid(self) -> int:
        return int(self._fields()[2])

    @property
    def members(self) -> list[str]:
        return [name for name in self._fields()[3].split(",") if name]

    @property
    def get_all_groups(self) -> list[str]:
        return [fields[0] for fields in _records(self._host.backend, "/etc/group")]

    @property
    def get_local_groups(self) -> list[str]:
        return self.get_all_groups


NATIVE: dict[str, Any] = {"file": DiskFile, "package": DiskPackage, "user": DiskUser, "group": DiskGroup}


def _records(backend: Any, path: str) -> list[list[str]]:
    data: bytes = backend.read_bytes(path) or b""
    lines = data.decode(errors="replace").splitlines()
    return [line.split(":") for line in lines if line and not line.startswith(("#", "+"))]


def _record(backend: Any, path: str, name: str) -> list[str] | None:
    return next((fields for fields in _records(backend, path) if fields[0] == name), None)


def _name(backend: Any, path: str, number: int) -> str:
    """The name of a user or group id; its number when nobody has it, as ls(1) prints it."""
    for fields in _records(backend, path):
        if len(fields) > 2 and fields[2] == str(number):
            return fields[0]
    return str(number)
