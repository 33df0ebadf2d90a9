"""The disk view of a container image: the archive's documents, and the files of its layers laid together.

Nothing of the image runs. Layers are read as the "OCI Image Layer Filesystem Changeset" says, whiteouts
included.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from testinfra.backend.base import CommandResult

from builder import log
from builder.errors import HallmarkError
from builder.image import oci
from certification.evidence import EvidenceLog
from certification.model import Subject
from certification.views.base import disk_subject
from certification.views.inventory import Entry, Inventory
from certification.views.tree import TreeBackend, tree_host

__all__ = ["DESCRIPTION", "ContainerBackend", "ContainerImage", "ContainerView"]

#: The name under which the archive's documents are recorded.
DESCRIPTION = "container image"
_READ = 4 << 20
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_KINDS = {
    tarfile.REGTYPE: "f",
    tarfile.AREGTYPE: "f",
    tarfile.LNKTYPE: "f",
    tarfile.DIRTYPE: "d",
    tarfile.SYMTYPE: "l",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.FIFOTYPE: "p",
}


@dataclass(frozen=True)
class ContainerImage:
    """What an archive says of its image.

    ``layers`` have ``kind``, ``size`` and ``unpacked`` (bytes), ``diff_id`` (what the configuration says) and
    ``found`` (what the layer's tar has); ``strangers`` are files of the archive that nothing names.
    """

    name: str
    size: int
    digest: str
    reference: str
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    layers: tuple[Mapping[str, Any], ...]
    strangers: tuple[str, ...]

    @classmethod
    def recorded(cls, data: bytes) -> ContainerImage:
        """What was recorded of an image.

        :raises HallmarkError: it is damaged.
        """
        try:
            values = json.loads(data)
            sequences = {key: tuple(values[key]) for key in ("layers", "strangers")}
            return cls(**{**values, **sequences})
        except (ValueError, TypeError, KeyError):
            raise HallmarkError("the recorded container image is damaged") from None

    @cached_property
    def process(self) -> Mapping[str, Any]:
        """What an engine is told: user, environment, program."""
        found = self.config.get("config")
        return found if isinstance(found, dict) else {}

    @cached_property
    def labels(self) -> Mapping[str, str]:
        return {str(key): str(value) for key, value in (self.process.get("Labels") or {}).items()}

    @cached_property
    def environment(self) -> Mapping[str, str]:
        pairs = (str(item).partition("=") for item in self.process.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def user(self) -> str:
        """The user that the program runs as, without its group; "" is root."""
        return str(self.process.get("User", "")).partition(":")[0]

    @property
    def group(self) -> str:
        """The group, where one is named."""
        return str(self.process.get("User", "")).partition(":")[2]

    @property
    def ports(self) -> tuple[str, ...]:
        """``8080/tcp``."""
        return tuple(sorted(self.process.get("ExposedPorts") or {}))

    @property
    def program(self) -> tuple[str, ...]:
        """The words that are run unless whoever runs it says others."""
        return (*(self.process.get("Entrypoint") or ()), *(self.process.get("Cmd") or ()))

    @property
    def directory(self) -> str:
        """Where the program starts."""
        return str(self.process.get("WorkingDir") or "/")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file's bytes are: a layer's tar, offset and length."""

    layer: Path
    offset: int
    size: int


class LayerReader:
    """The files of an archive's layers (``certification.views.tree.TreeReader``).

    Layers are unpacked to tars in ``work``, not to files: nothing in them can touch this machine.

    :raises HallmarkError: the archive isn't whole.
    """

    def __init__(self, archive: Path, *, work: Path) -> None:
        self.entries: dict[str, Entry] = {}
        self._places: dict[str, _Place] = {}
        layers: list[dict[str, Any]] = []
        with oci.opened(archive) as opened:
            for number, (descriptor, diff_id, stream) in enumerate(opened.layers()):
                tar = work / f"layer-{number}.tar"
                found, unpacked = _unpack(stream, tar)
                layers.append(
                    {
                        "kind": descriptor["mediaType"],
                        "size": descriptor["size"],
                        "diff_id": diff_id,
                        "found": found,
                        "unpacked": unpacked,
                    }
                )
                self._apply(tar)
            self.image = ContainerImage(
                name=archive.name,
                size=archive.stat().st_size,
                digest=opened.digest,
                reference=str(
                    opened.entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "")
                ),
                manifest=opened.manifest,
                config=opened.config,
                layers=tuple(layers),
                strangers=opened.strangers(),
            )

    def read(self, path: str) -> bytes:
        """The content of a regular file."""
        place = self._places[path]
        with place.layer.open("rb") as stream:
            stream.seek(place.offset)
            return stream.read(place.size)

    def download(self, path: str, target: Path) -> None:
        """Copy a regular file."""
        target.write_bytes(self.read(path))

    def tar(self, directory: str, work: Path) -> bytes:
        """A tar of the regular files in a directory."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in self._places:
                if posixpath.dirname(path) == directory:
                    data = self.read(path)
                    member = tarfile.TarInfo(posixpath.basename(path))
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        return buffer.getvalue()

    def _apply(self, layer: Path) -> None:
        """Lay one layer on what is there."""
        with tarfile.open(layer, "r:") as archive:
            for member in archive:
                path = _path(member.name)
                name = posixpath.basename(path)
                if name == _OPAQUE:
                    self._remove(posixpath.dirname(path), itself=False)
                elif name.startswith(_WHITEOUT):
                    self._remove(posixpath.join(posixpath.dirname(path), name.removeprefix(_WHITEOUT)))
                else:
                    self._add(archive, member, path, layer)

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, layer: Path) -> None:
        kind = _KINDS.get(member.type)
        if kind is None:
            raise HallmarkError(f"a layer holds {path} as a file of a kind that nobody knows", where=layer)
        if kind != "d":
            self._remove(path)
        place, sha256, size = None, None, member.size
        if member.islnk():
            target = _path(member.linkname)
            place, first = self._places.get(target), self.entries.get(target)
            if place is None or first is None:
                raise HallmarkError(f"{path} is another name of {target}, which isn't there", where=layer)
            sha256, size = first.sha256, first.size
        elif kind == "f":
            place = _Place(layer, member.offset_data, member.size)
            stream = archive.extractfile(member)
            assert stream is not None, "a regular file"
            sha256 = oci.digest(stream)
        if place is not None:
            self._places[path] = place
        self._parents(path, member.mtime)
        capability = member.pax_headers.get("SCHILY.xattr.security.capability")
        self.entries[path] = Entry(
            path=path,
            type=kind,  # type: ignore[arg-type]  # one of find's letters
            mode=member.mode & 0o7777,
            uid=member.uid,
            gid=member.gid,
            size=size if kind == "f" else 0,
            mtime=float(member.mtime),
            device=0,
            link=member.linkname if kind == "l" else "",
            capability=capability.encode(errors="surrogateescape").hex() if capability else None,
            sha256=sha256,
        )

    def _parents(self, path: str, mtime: float) -> None:
        """Directories that a layer doesn't mention are made as engines make them."""
        parent = posixpath.dirname(path)
        while parent not in self.entries and path != "/":
            self.entries[parent] = Entry(parent, "d", 0o755, 0, 0, 0, float(mtime), 0)
            path, parent = parent, posixpath.dirname(parent)

    def _remove(self, path: str, *, itself: bool = True) -> None:
        if path not in self.entries:
            return
        below = path.rstrip("/") + "/"
        for name in [n for n in self.entries if n.startswith(below) or (itself and n == path)]:
            del self.entries[name]
            self._places.pop(name, None)


class ContainerBackend(TreeBackend):
    """testinfra's way into the files of a container image."""

    NAME = "container"

    def __init__(self, hostspec: str, *, reader: LayerReader, work: Path, evidence: EvidenceLog) -> None:
        super().__init__(hostspec, reader=reader, work=work, evidence=evidence)
        self._layers = reader

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """Nothing of a container image is run.

        :raises HallmarkError: always.
        """
        raise HallmarkError("nothing of a container image is run in this view", details=[command])

    def _gather(self) -> Inventory:
        self._evidence.fact("inventory", f"{len(self._layers.entries)} files")
        return Inventory(self._layers.entries)


class ContainerView:
    """A container image, opened; takes a few seconds."""

    def __init__(
        self,
        *,
        image: Path,
        work: Path,
        evidence: EvidenceLog,
        ssh_config: Path | None = None,
        force_tcg: bool = False,
        test_seconds: float = 120.0,
    ) -> None:
        self._work = work / "container"
        self._work.mkdir(parents=True, exist_ok=True)
        with log.step("read the layers"):
            reader = LayerReader(image, work=self._work)
        self._image = reader.image
        described = json.dumps(asdict(reader.image), sort_keys=True).encode()
        evidence.made(DESCRIPTION, lambda: described)
        self._host = tree_host(
            ContainerBackend(image.name, reader=reader, work=self._work, evidence=evidence)
        )

    @property
    def image(self) -> ContainerImage:
        return self._image

    @property
    def host(self) -> Any:
        return self._host

    def subject(self) -> Subject:
        return disk_subject(self._host.backend, kind="container")

    def check(self) -> None:
        """What is in an archive stays there."""

    def close(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)  # what matters of it is in the recording


def _path(name: str) -> str:
    """The absolute path that a name in a layer means."""
    return posixpath.normpath("/" + name.lstrip("/"))


def _unpack(stream: IO[bytes], target: Path) -> tuple[str, int]:
    """Write a layer's tar; its SHA-256 and length."""
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as sink:
        while data := stream.read(_READ):
            digest.update(data)
            size += len(data)
            sink.write(data)
    return digest.hexdigest(), size
