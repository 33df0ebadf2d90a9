"""A made-up container image that passes: by the real writer, with a small tree and a real rpm database.

``TREE`` maps a path to (mode, content, user, group); a path that ends in ``/`` is a directory, content that
starts with ``->`` is a link's target.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from small_packages import Made, install

from builder.image import container
from builder.recipe import Plan, find, load, plan

__all__ = ["TREE", "USER", "Change", "build", "database", "planned"]

USER = 1001
RUNTIME = "/usr/lib64/dotnet/shared/Microsoft.NETCore.App/3.1.23"
_FILLER = {f"/usr/share/filler/{number:03}": f"file {number}\n" for number in range(120)}
_NAMES = ("bash", "coreutils", "filesystem", "filler", "glibc", "setup")
_SCRIPT = "#!/bin/bash\nexec true\n"
File = tuple[int, str, int, int]

TREE: dict[str, File] = {
    "/etc/os-release": (
        0o644,
        'ID="hallmark-sample"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9"\nPRETTY_NAME="Small 9"\n',
        0,
        0,
    ),
    "/etc/passwd": (
        0o644,
        "root:x:0:0:root:/root:/bin/bash\ndefault:x:1001:0::/opt/app-root:/sbin/nologin\n",
        0,
        0,
    ),
    "/bin": (0o777, "->usr/bin", 0, 0),
    "/usr/bin/": (0o755, "", 0, 0),
    "/usr/bin/bash": (0o755, "a shell", 0, 0),
    "/usr/bin/newgrp": (0o4755, "a program of accounts", 0, 0),
    "/usr/bin/container-entrypoint": (0o755, _SCRIPT, 0, 0),
    **{f"/usr/libexec/s2i/{name}": (0o755, _SCRIPT, 0, 0) for name in ("assemble", "run", "usage")},
    "/opt/app-root/": (0o775, "", USER, 0),
    "/opt/app-root/app/": (0o775, "", USER, 0),
    "/opt/app-root/data/": (0o775, "", USER, 0),
    "/licenses/": (0o755, "", 0, 0),
    "/licenses/PACKAGES": (0o644, "".join(f"{name} 1-1: MIT\n" for name in _NAMES), 0, 0),
    f"{RUNTIME}/": (0o755, "", 0, 0),
    "/usr/lib64/dotnet/host/fxr/3.1.23/": (0o755, "", 0, 0),
    **{path: (0o644, text, 0, 0) for path, text in _FILLER.items()},
}
_FILES = tuple((path, text, 0o644) for path, text in _FILLER.items())
_PACKAGES = [Made(name, files=_FILES if name == "filler" else ()) for name in _NAMES]


@dataclass(frozen=True)
class Change:
    """What a case does to the good image: files (None removes one), the plan, the packages, the archive."""

    files: dict[str, File | None] = field(default_factory=dict)
    plan: Callable[[Plan], Plan] | None = None
    packages: tuple[Made, ...] = ()
    archive: Callable[[Path], None] | None = None


def planned(**changes: Any) -> Plan:
    """The plan of the sample container; ``changes`` are of its ``container``."""
    made = plan(load(find("dotnet-sample-9")), version="9.20261122.0", source_date_epoch=1_795_305_600)
    assert made.container is not None
    return made.model_copy(update={"container": made.container.model_copy(update=changes)})


def database(directory: Path, work: Path, *more: Made) -> Path:
    """An rpm database with the small packages and some more."""
    directory.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    install(directory, work, [*_PACKAGES, *more])
    return directory


def build(target: Path, rpms: Path, work: Path, change: Change) -> Path:
    """Write the archive of the good image with a change."""
    work.mkdir(parents=True, exist_ok=True)
    rootfs = work / "rootfs.tar"
    files = {path: item for path, item in {**TREE, **change.files}.items() if item is not None}
    with tarfile.open(rootfs, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, (mode, content, uid, gid) in sorted(files.items()):
            member = tarfile.TarInfo("." + path.rstrip("/"))
            member.mode, member.uid, member.gid, member.mtime = mode, uid, gid, 1_700_000_000
            if content == "device":
                member.type = tarfile.CHRTYPE
            elif path.endswith("/"):
                member.type = tarfile.DIRTYPE
            elif content.startswith("->"):
                member.type, member.linkname = tarfile.SYMTYPE, content[2:]
            else:
                member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()) if member.isreg() else None)
        for source in sorted(rpms.iterdir()):
            if source.is_file() and not source.name.startswith("."):
                tar.add(source, f"./var/lib/rpm/{source.name}")
    container.write(rootfs, target, (change.plan or (lambda plan: plan))(planned()), work=work)
    if change.archive is not None:
        change.archive(target)
    return target
