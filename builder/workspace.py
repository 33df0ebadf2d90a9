"""Where artefacts live, and how they get there in one piece.

Layout below the build directory (default ``build/`` in the project, or ``HALLMARK_BUILD_DIR``):

    <recipe>/<version>/   the artefacts of one build (``Artefacts`` names each file)
    <recipe>/latest       symbolic link to the last version that `hallmark release` brought to its end
    catalog/              what consumers read
    azurite/, containers/ what was published to the local destinations
    reports/              what `hallmark certify --replay` and `--hosts` write
    .work/                temporary files; anything in it may be deleted when nothing runs

The package cache (``~/.cache/hallmark`` or ``HALLMARK_CACHE_DIR``) holds what can be fetched or made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder import log
from builder.errors import HallmarkError

__all__ = [
    "PROJECT",
    "RESERVED",
    "Artefacts",
    "Workspace",
    "atomic_directory",
    "atomic_file",
    "digest_file",
    "digest_json",
    "one_at_a_time",
    "owned_directory",
    "sweep",
]

PROJECT = Path(__file__).resolve().parent.parent
#: What else lies beside the recipes' directories: no recipe can have such a name.
RESERVED = ("azurite", "catalog", "containers", "reports")


@dataclass(frozen=True, slots=True)
class Artefacts:
    """The files of one build of one recipe, by their final names."""

    root: Path

    @property
    def image(self) -> Path:
        """The image of a machine; ``output`` of its plan's ``image_format`` is the image of any plan."""
        return self.root / "image.vhd"

    def output(self, kind: Literal["vhd", "vhdx", "qcow2", "oci"]) -> Path:
        """The image in one of its formats."""
        return self.root / {"oci": "image.oci.tar"}.get(kind, f"image.{kind}")

    @property
    def outputs(self) -> Path:
        return self.root / "outputs.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def rootfs(self) -> Path:
        return self.root / "rootfs.tar"

    @property
    def ostree(self) -> Path:
        """An archive of the ostree repository that holds the commit of the image."""
        return self.root / "ostree.tar"

    @property
    def commit(self) -> Path:
        return self.root / "commit.json"

    @property
    def sysroot(self) -> Path:
        return self.root / "sysroot.tar"

    @property
    def packages(self) -> Path:
        return self.root / "packages.json"

    @property
    def sbom(self) -> Path:
        return self.root / "sbom.cdx.json"

    @property
    def certificate(self) -> Path:
        return self.root / "certificate.json"

    @property
    def report_html(self) -> Path:
        return self.root / "report.html"

    @property
    def report_xml(self) -> Path:
        return self.root / "report.xml"

    @property
    def results(self) -> Path:
        return self.root / "results.json"

    @property
    def evidence(self) -> Path:
        return self.root / "evidence.jsonl"

    @property
    def release(self) -> Path:
        return self.root / "release.json"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def stages(self) -> Path:
        return self.root / "stages"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The build directory and the package cache."""

    build: Path
    cache: Path

    @classmethod
    def default(cls, *, build: Path | None = None, cache: Path | None = None) -> Workspace:
        """From arguments, then the environment, then the defaults; the directories are made."""
        environ = os.environ
        build = build or Path(environ.get("HALLMARK_BUILD_DIR") or PROJECT / "build")
        home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cache = cache or Path(environ.get("HALLMARK_CACHE_DIR") or home / "hallmark")
        space = cls(build.resolve(), cache.resolve())
        for directory in (space.build, space.cache, space.work):
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise HallmarkError(
                    f"cannot make the directory: {error.strerror}",
                    where=directory,
                    hint="choose another place with --build-dir or HALLMARK_BUILD_DIR / HALLMARK_CACHE_DIR",
                ) from None
        return space

    @property
    def work(self) -> Path:
        """Temporary files, on the same filesystem as the artefacts so that renames are atomic."""
        return self.build / ".work"

    @property
    def catalog(self) -> Path:
        return self.build / "catalog"

    def artefacts(self, recipe: str, version: str) -> Artefacts:
        """The place of one version's files.

        :raises HallmarkError: the build directory holds something else by the recipe's name.
        """
        if recipe in RESERVED:
            raise HallmarkError(
                f"a recipe can't be called {recipe!r}",
                where=self.build / recipe,
                why="the build directory has something else there, which would replace its images",
                hint="rename the recipe; not to " + ", ".join(name for name in RESERVED if name != recipe),
            )
        return Artefacts(self.build / recipe / version)

    def latest(self, recipe: str) -> Artefacts | None:
        """The last version that was certified and published in one go, or None."""
        link = self.build / recipe / "latest"
        return Artefacts(link.resolve()) if link.is_symlink() and link.exists() else None

    def set_latest(self, recipe: str, version: str) -> None:
        """Point ``latest`` at a version, in one rename."""
        link = self.build / recipe / "latest"
        temporary = link.with_name(f".latest.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(version)
        temporary.replace(link)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold an exclusive lock (flock(2)); a second process that wants it gets a clear error at once."""
        path = self.work / f"{name}.lock"
        with path.open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HallmarkError(
                    f"another hallmark process is working on {name}",
                    where=path,
                    hint="wait for it to end, or give this run its own --build-dir",
                ) from None
            yield


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """One process at a time does ``what``, with flock(2) on ``path``; the others wait for it and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info(f"waiting for another process to {what}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside ``path``: renamed when the block ends well, deleted otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; it replaces ``path`` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.replace(old / "old")
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def owned_directory(parent: Path, prefix: str) -> Path:
    """A new directory below ``parent`` whose name begins with ``prefix`` and says which process made it."""
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}.", dir=parent))


def sweep(parent: Path, prefix: str) -> list[Path]:
    """Delete what ``owned_directory`` made of this name and whose process is gone; returns what was deleted.

    Directories of other users stay: ``parent`` may be one that everybody writes to.
    """
    swept = []
    for directory in sorted(parent.glob(f"{prefix}*")):
        owner, dot, _ = directory.name[len(prefix) :].partition(".")
        if not (dot and owner.isdigit()) or Path("/proc", owner).exists():
            continue
        with suppress(FileNotFoundError):  # another process may sweep at the same time
            status = directory.stat(follow_symlinks=False)
            if status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode):
                shutil.rmtree(directory, ignore_errors=True)
                swept.append(directory)
    return swept


def digest_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Holes cost no reading time."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        zeros = memoryview(bytes(4 << 20))
        buffer = memoryview(bytearray(4 << 20))
        position = 0
        while position < size:
            try:
                data = os.lseek(stream.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                data = size
            while position < data:
                length = min(data - position, len(zeros))
                digest.update(zeros[:length])
                position += length
            if position >= size:
                break
            hole = os.lseek(stream.fileno(), position, os.SEEK_HOLE)
            while position < hole:
                stream.seek(position)
                length = stream.readinto(buffer[: min(len(buffer), hole - position)])
                if not length:
                    raise HallmarkError("the file became shorter while it was read", where=path)
                digest.update(buffer[:length])
                position += length
    return digest.hexdigest()


def digest_json(value: object) -> str:
    """The SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
