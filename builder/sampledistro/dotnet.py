"""The .NET runtime: Microsoft's files as the PyPI wheel ``dotnetcore2`` carries them, in Enterprise Linux
places.

The only runtime in the language registries is 3.1, whose support ended on 2022-12-13; certification says so.
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

from builder import log
from builder.errors import CommandFailed, HallmarkError
from builder.run import run
from builder.sampledistro.rpm import Entry

__all__ = ["PACKAGES", "ROOT", "content", "fetch", "version"]

ROOT = "/usr/lib64/dotnet"
# Package → what of the wheel's bin/ directory belongs to it; the split is that of Enterprise Linux.
PACKAGES: dict[str, tuple[str, ...]] = {
    "dotnet-host": ("dotnet", "LICENSE.txt", "ThirdPartyNotices.txt"),
    "dotnet-hostfxr-3.1": ("host/fxr/",),
    "dotnet-runtime-3.1": ("shared/Microsoft.NETCore.App/",),
}
_PREFIX = "dotnetcore2/bin/"
_REQUIREMENT = "dotnetcore2>=3.1.23,<3.2"
_PROGRAMS = {"dotnet", "createdump"}


def fetch(directory: Path) -> Path:
    """The wheel, fetched with pip unless it is there.

    :raises HallmarkError: the registry can't be reached.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if found := sorted(directory.glob("dotnetcore2-*.whl")):
        return found[-1]
    with log.step("fetch the .NET runtime"):
        try:
            run(
                [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", directory, _REQUIREMENT],
                timeout=600,
            )
        except CommandFailed as error:
            raise HallmarkError(
                "cannot fetch the .NET runtime (dotnetcore2) from the Python package registry",
                why="the sample distribution's dotnet packages are made from it",
                hint="check the network and pip's configuration (`pip download dotnetcore2` must work)",
                details=error.details,
            ) from None
    found = sorted(directory.glob("dotnetcore2-*.whl"))
    if not found:
        raise HallmarkError("pip fetched no wheel of dotnetcore2", where=directory)
    return found[-1]


def version(wheel: Path) -> str:
    """The runtime's version, from the name of its directory in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if match := re.match(rf"{_PREFIX}shared/Microsoft\.NETCore\.App/([^/]+)/", name):
                return match[1]
    raise HallmarkError("the wheel holds no .NET runtime", where=wheel)


def content(package: str, wheel: Path) -> dict[str, Entry]:
    """The files of one of :data:`PACKAGES`."""
    result: dict[str, Entry] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inside = name.removeprefix(_PREFIX)
            if not name.startswith(_PREFIX) or name.endswith("/") or not inside.startswith(PACKAGES[package]):
                continue
            base = inside.rpartition("/")[2]
            is_license = base in ("LICENSE.txt", "ThirdPartyNotices.txt")
            path = f"{ROOT}/{inside}"
            mode = 0o755 if base in _PROGRAMS or base.endswith(".so") else 0o644
            result[path] = Entry(path, "file", mode=mode, content=archive.read(name), license=is_license)
    if not result:
        raise HallmarkError(f"the wheel holds nothing for {package}", where=wheel)
    return result
