"""Reads a copy of the guest's rpm database with this machine's rpm: a second instead of a minute in the
guest.

``verify`` does the work of ``rpm -Va`` from the headers, the inventory and its digests. Configuration files
are reported too; what may differ is for the test to say.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from builder.errors import HallmarkError
from builder.run import run
from certification.views.inventory import Entry, Inventory

if TYPE_CHECKING:
    from certification.views.base import GuestAccess

__all__ = [
    "PLACES",
    "Deviation",
    "InstalledPackage",
    "PackageFile",
    "files",
    "packages",
    "query",
    "unpack",
    "verify",
]

PLACES = ("/usr/lib/sysimage/rpm", "/usr/share/rpm", "/var/lib/rpm")
_SEPARATOR = "\x1f"
# rpmfileAttrs (rpmfiles.h).
_CONFIG, _MISSING_OK, _GHOST = 1 << 0, 1 << 3, 1 << 6
# rpmfileState (rpmfiles.h): left out when the package was installed, documentation for example.
_NOT_INSTALLED = 2
# rpmVerifyAttrs: what a package's author asked to be verified (rpmfiles.h).
_VERIFY = {
    "5": 1 << 0,
    "S": 1 << 1,
    "L": 1 << 2,
    "U": 1 << 3,
    "G": 1 << 4,
    "T": 1 << 5,
    "M": 1 << 6,
    "D": 1 << 7,
}


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package of the guest. ``key`` is the long id (16 hex digits, lower case) of the key that signed
    it.
    """

    name: str
    epoch: str
    version: str
    release: str
    arch: str
    vendor: str
    packager: str
    key: str | None
    source: str
    licence: str

    @property
    def nevra(self) -> str:
        """name-epoch:version-release.arch, without the epoch when it is 0."""
        epoch = f"{self.epoch}:" if self.epoch not in ("", "0", "(none)") else ""
        return f"{self.name}-{epoch}{self.version}-{self.release}.{self.arch}"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file as its package describes it. ``digest`` is empty for what isn't a regular file.

    ``state`` is what rpm did with it.
    """

    package: str
    path: str
    mode: int
    user: str
    group: str
    size: int
    mtime: int
    digest: str
    link: str
    flags: int
    verify: int
    state: int = 0

    @property
    def config(self) -> bool:
        return bool(self.flags & _CONFIG)

    @property
    def ghost(self) -> bool:
        return bool(self.flags & _GHOST)


@dataclass(frozen=True, slots=True)
class Deviation:
    """A file that isn't as its package says; ``flags`` are rpm's letters (S size, M mode, 5 digest, L link,
    U, G, T).
    """

    package: str
    path: str
    flags: str
    config: bool
    detail: str

    def __str__(self) -> str:
        return f"{self.path} ({self.package}): {self.detail}"


# Weak: a closed view takes its cached queries along.
_cache: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def unpack(archive: bytes, target: Path) -> Path:
    """Write the regular files of a tar of the database's directory into ``target``.

    The tar comes from the subject, so nothing but plain names of plain files is believed.
    """
    target.mkdir(exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            source = members.extractfile(member) if member.isreg() else None
            if source is not None:
                (target / Path(member.name).name).write_bytes(source.read())
    return target


def query(access: GuestAccess, queryformat: str, *, names: tuple[str, ...] = ()) -> str:
    """``rpm -qa`` (or ``-q names``) with a query format over the copy of the guest's database.

    :raises HallmarkError: the database can't be read or holds no package.
    """
    directory = access.rpmdb()
    argv = ["rpm", "--dbpath", str(directory), "-q", *(names or ("-a",)), "--qf", queryformat]
    # Debian's rpm keeps the database in the home directory and would pick up macros from there.
    result = run(argv, env={"HOME": str(directory)}, timeout=120)
    if not result.stdout.strip():
        raise HallmarkError(
            "the guest's rpm database holds no package",
            where=directory,
            why="every question about packages would be answered with a silent 'all is well'",
        )
    return result.stdout


def packages(access: GuestAccess) -> tuple[InstalledPackage, ...]:
    """Every installed package, by name; keys that rpm keeps as ``gpg-pubkey`` are not among them."""
    cached = _cached(access)
    if "packages" not in cached:
        tags = ("NAME", "EPOCHNUM", "VERSION", "RELEASE", "ARCH", "VENDOR", "PACKAGER")
        wanted = [f"%{{{tag}}}" for tag in tags]
        wanted += [
            "%|RSAHEADER?{%{RSAHEADER:pgpsig}}:{%|DSAHEADER?{%{DSAHEADER:pgpsig}}:{%{SIGPGP:pgpsig}}|}|"
        ]
        wanted += ["%{SOURCERPM}", "%{LICENSE}"]
        found = []
        for line in query(access, _SEPARATOR.join(wanted) + "\\n").split("\n")[:-1]:
            name, epoch, version, release, arch, vendor, packager, signature, source, licence = line.split(
                _SEPARATOR
            )
            if name == "gpg-pubkey":
                continue
            key = signature.rsplit("Key ID ", 1)[1].strip().lower() if "Key ID " in signature else None
            vendor, packager = (("" if text == "(none)" else text) for text in (vendor, packager))
            found.append(
                InstalledPackage(name, epoch, version, release, arch, vendor, packager, key, source, licence)
            )
        cached["packages"] = tuple(sorted(found, key=lambda item: (item.name, item.version, item.release)))
    result: tuple[InstalledPackage, ...] = cached["packages"]
    return result


def files(access: GuestAccess) -> tuple[PackageFile, ...]:
    """Every file of every package as its header describes it."""
    cached = _cached(access)
    if "files" not in cached:
        tags = [
            "FILENAMES",
            "FILEMODES",
            "FILEUSERNAME",
            "FILEGROUPNAME",
            "FILESIZES",
            "FILEMTIMES",
            "FILEDIGESTS",
            "FILELINKTOS",
            "FILEFLAGS",
            "FILEVERIFYFLAGS",
            "FILESTATES",
        ]
        # `=NAME` repeats the one name for every file; numbers print as decimals.
        inner = _SEPARATOR.join(["%{=NAME}", *(f"%{{{tag}}}" for tag in tags)])
        found = []
        for line in query(access, f"[{inner}\\n]").split("\n")[:-1]:
            package, path, mode, user, group, size, mtime, digest, link, flags, verify_, state = line.split(
                _SEPARATOR
            )
            found.append(
                PackageFile(
                    package,
                    path,
                    int(mode) & 0xFFFF,
                    user,
                    group,
                    int(size),
                    int(mtime),
                    digest,
                    link,
                    int(flags),
                    int(verify_) & 0xFFFFFFFF,
                    int(state),
                )
            )
        cached["files"] = tuple(found)
    result: tuple[PackageFile, ...] = cached["files"]
    return result


def verify(access: GuestAccess) -> tuple[Deviation, ...]:
    """Compare every packaged file with the disk, as ``rpm -Va`` does (capabilities and scripts excepted).

    :raises HallmarkError: the view gathered no digests, so nothing could be said about contents.
    """
    cached = _cached(access)
    if "deviations" not in cached:
        inventory = access.inventory()
        if not any(entry.sha256 for entry in inventory):
            raise HallmarkError("file contents can't be compared: this view has no digests")
        names = _Names(access)
        found = []
        for item in files(access):
            deviation = _compare(item, inventory, names)
            if deviation is not None:
                found.append(deviation)
        cached["deviations"] = tuple(found)
    result: tuple[Deviation, ...] = cached["deviations"]
    return result


class _Names:
    """User and group names of the guest by id."""

    def __init__(self, access: GuestAccess) -> None:
        self.users = self._read(access, "/etc/passwd")
        self.groups = self._read(access, "/etc/group")

    @staticmethod
    def _read(access: GuestAccess, path: str) -> dict[int, str]:
        found: dict[int, str] = {}
        for line in (access.read_bytes(path) or b"").decode(errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[2].isdigit():
                found.setdefault(int(fields[2]), fields[0])
        return found


def _compare(item: PackageFile, inventory: Inventory, names: _Names) -> Deviation | None:
    entry = inventory.get(item.path, follow=False)
    if entry is None:
        if item.ghost or item.flags & _MISSING_OK or item.state == _NOT_INSTALLED:
            return None
        return Deviation(item.package, item.path, "missing", item.config, "missing")
    problems = _differences(item, entry, names)
    wanted = {flag: text for flag, text in problems.items() if item.verify & _VERIFY[flag]}
    if item.ghost:
        # A ghost's content, size and time belong to the running system.
        wanted = {flag: text for flag, text in wanted.items() if flag not in "S5TL"}
    if not wanted:
        return None
    return Deviation(item.package, item.path, "".join(wanted), item.config, "; ".join(wanted.values()))


def _differences(item: PackageFile, entry: Entry, names: _Names) -> dict[str, str]:
    found: dict[str, str] = {}
    kinds = {
        "f": 0o100000,
        "d": 0o040000,
        "l": 0o120000,
        "c": 0o020000,
        "b": 0o060000,
        "p": 0o010000,
        "s": 0o140000,
    }
    mode = kinds.get(entry.type, 0) | entry.mode
    regular = item.mode & 0o170000 == 0o100000
    if regular and entry.type == "f":
        if entry.size != item.size:
            found["S"] = f"size {entry.size}, packaged {item.size}"
        if item.digest and len(item.digest) == 64 and entry.sha256 != item.digest:
            found["5"] = "content differs"
        if int(entry.mtime) != item.mtime:
            found["T"] = f"time {int(entry.mtime)}, packaged {item.mtime}"
    if item.mode & 0o170000 == 0o120000:
        if entry.type == "l" and entry.link != item.link:
            found["L"] = f"links to {entry.link}, packaged {item.link}"
        if entry.type != "l":
            found["M"] = "no symbolic link any more"
    elif mode != item.mode:
        found["M"] = f"mode {mode:06o}, packaged {item.mode:06o}"
    user, group = names.users.get(entry.uid, str(entry.uid)), names.groups.get(entry.gid, str(entry.gid))
    if user != item.user:
        found["U"] = f"owner {user}, packaged {item.user}"
    if group != item.group:
        found["G"] = f"group {group}, packaged {item.group}"
    return found


def _cached(access: GuestAccess) -> dict[str, Any]:
    return _cache.setdefault(access, {})
