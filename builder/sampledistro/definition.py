"""The data in ``images/sample-distribution/``: which packages, their names, and what is changed in them."""

from __future__ import annotations

import posixpath
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.errors import HallmarkError
from builder.sampledistro.paths import PathRules
from builder.sampledistro.translate import Names
from builder.workspace import PROJECT, digest_json

__all__ = ["DATA", "Attributes", "Change", "Definition", "Edit", "Handmade", "load"]

DATA = PROJECT / "images" / "sample-distribution"
Octal = Annotated[str, Field(pattern=r"^[0-7]{4}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_M = TypeVar("_M", bound=_Model)


class Identity(_Model):
    """distribution.yaml: who makes it and how it is signed. ``source_date``: seconds since 1970."""

    name: str
    vendor: str
    url: str
    source_date: int
    key: str
    secret_key: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]


class DebSets(_Model):
    """debs.yaml: sets of Debian packages, each resolved on its own."""

    release: str
    architecture: str
    sets: dict[str, tuple[str, ...]]


class NameTables(_Model):
    """names.yaml."""

    rename: dict[str, str]
    patterns: dict[str, str]
    drop: tuple[str, ...]


class PathTables(_Model):
    """paths.yaml."""

    drop: tuple[str, ...]
    keep: tuple[str, ...]
    move: dict[str, str]


class Attributes(_Model):
    """Mode and owner of a path; what is None stays as it is."""

    mode: Octal | None = None
    user: str | None = None
    group: str | None = None


class Edit(_Model):
    """A replacement in a text file: ``find`` is a regular expression that must match (MULTILINE)."""

    find: str
    replace: str


class Scriptlets(_Model):
    pre: str = ""
    post: str = ""
    posttrans: str = ""


class Trigger(_Model):
    path: str
    script: str


class Part(_Model):
    """A package split off another one: the paths that move there.

    ``required``: the rest depends on it; ``dependencies``: it has the dependencies of the whole.
    """

    summary: str
    paths: tuple[str, ...]
    requires: tuple[str, ...] = ()
    required: bool = True
    dependencies: bool = True


class Change(_Model):
    """What is added to, removed from or changed in a package. Paths are those of the result.

    The keys of ``move`` and ``copy`` and the values of ``concatenate`` are regular expressions for whole
    paths. Files to add or replace lie in ``overlays/<package>/`` and are no part of the YAML.
    """

    summary: str | None = None
    license: str | None = None
    drop: tuple[str, ...] = ()
    move: dict[str, str] = {}
    copy_: Annotated[dict[str, str], Field(alias="copy")] = {}
    concatenate: dict[str, str] = {}
    edits: dict[str, tuple[Edit, ...]] = {}
    links: dict[str, str] = {}
    directories: dict[str, Attributes] = {}
    modes: dict[str, Attributes] = {}
    ghosts: dict[str, Attributes] = {}
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    obsoletes: tuple[str, ...] = ()
    drop_requires: tuple[str, ...] = ()
    split: dict[str, Part] = {}
    scripts: Scriptlets = Scriptlets()
    triggers: tuple[Trigger, ...] = ()


class Handmade(Change):
    """A package that is not made from a Debian package."""

    version: str
    release: str = "1"
    summary: str
    license: str = "Apache-2.0"
    arch: Literal["x86_64", "noarch"] = "noarch"


class Definition(_Model):
    """All of it."""

    root: Path
    identity: Identity
    debs: DebSets
    name_tables: NameTables
    path_tables: PathTables
    changes: dict[str, Change]
    handmade: dict[str, Handmade]

    @cached_property
    def names(self) -> Names:
        tables = self.name_tables
        return Names(tables.rename, tuple(tables.patterns.items()), tables.drop)

    @cached_property
    def rules(self) -> PathRules:
        return PathRules(self.path_tables.drop, tuple(self.path_tables.move.items()))

    @cached_property
    def keep(self) -> re.Pattern[str]:
        return PathRules(self.path_tables.keep, ()).compile()

    @cached_property
    def owned_directories(self) -> frozenset[str]:
        """The directories of the package ``filesystem``: no other package lists them."""
        return frozenset(self.handmade["filesystem"].directories) | set(self.handmade["filesystem"].links)

    @property
    def key(self) -> Path:
        return self.root / self.identity.key

    @property
    def secret_key(self) -> bytes:
        return (self.root / self.identity.secret_key).read_bytes()

    def overlay(self, package: str) -> dict[str, tuple[Literal["file", "link"], int, bytes]]:
        """The files of ``overlays/<package>/``: path → kind, mode (0755 or 0644), content or link target."""
        root = self.root / "overlays" / package
        result: dict[str, tuple[Literal["file", "link"], int, bytes]] = {}
        for path in sorted(root.rglob("*")):
            name = "/" + path.relative_to(root).as_posix()
            if path.is_symlink():
                result[name] = ("link", 0o777, str(path.readlink()).encode())
            elif path.is_file():
                result[name] = ("file", 0o755 if path.stat().st_mode & 0o100 else 0o644, path.read_bytes())
        return result

    def common_digest(self) -> str:
        """Of what bears on every package; names do through its own name and dependencies only."""
        return digest_json(
            [
                self.identity.model_dump(),
                self.path_tables.model_dump(),
                sorted(self.owned_directories),
            ]
        )

    def package_digest(self, package: str) -> str:
        """Of what bears on one package only."""
        change = self.handmade.get(package) or self.changes.get(package)
        overlay = {
            name: (kind, mode, data.hex()) for name, (kind, mode, data) in self.overlay(package).items()
        }
        return digest_json([change.model_dump() if change else None, overlay])


def load(root: Path = DATA) -> Definition:
    """Read and check the data.

    :raises HallmarkError: a file is missing, is not YAML or has a field that it must not have.
    """
    identity = _parse(root / "distribution.yaml", Identity)
    handmade = {path.stem: _parse(path, Handmade) for path in sorted((root / "packages").glob("*.yaml"))}
    changes = {path.stem: _parse(path, Change) for path in sorted((root / "changes").glob("*.yaml"))}
    if "filesystem" not in handmade:
        raise HallmarkError("there is no packages/filesystem.yaml", where=root)
    known = set(handmade) | set(changes)
    for overlay in (root / "overlays").iterdir():
        if overlay.name not in known:
            raise HallmarkError(
                f"the overlay {overlay.name} belongs to no package",
                where=overlay,
                hint=f"add changes/{overlay.name}.yaml or packages/{overlay.name}.yaml",
            )
    return Definition(
        root=root,
        identity=identity,
        debs=_parse(root / "debs.yaml", DebSets),
        name_tables=_parse(root / "names.yaml", NameTables),
        path_tables=_parse(root / "paths.yaml", PathTables),
        changes=changes,
        handmade=handmade,
    )


def parents(path: str) -> list[str]:
    """The directories above a path, outermost first, without /."""
    result = []
    while (path := posixpath.dirname(path)) != "/":
        result.append(path)
    return result[::-1]


def _parse(path: Path, model: type[_M]) -> _M:
    try:
        data: Any = yaml.safe_load(path.read_text())
        return model.model_validate(data if data is not None else {})
    except OSError as error:
        raise HallmarkError(f"cannot read: {error.strerror}", where=path) from None
    except yaml.YAMLError as error:
        raise HallmarkError(f"not valid YAML: {error}", where=path) from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise HallmarkError(
            "the data of the sample distribution is wrong", where=path, details=lines
        ) from None
