"""The mutants as data: ``*.yaml`` here, one file an area.

A file is a mapping: ``mutants`` (a list), ``recipe`` (whose image they damage), ``may_red`` (what any mutant
of the file may turn red besides its own, such as the comparison with the packages) and ``impossible`` (why a
requirement has none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from builder.errors import HallmarkError, Where
from certification.catalogue import Catalogue, load_yaml
from certification.model import Identifier, Model, Subject, Text

__all__ = [
    "DEFAULT_RECIPE",
    "MUTANTS",
    "Attributes",
    "Bytes",
    "Collection",
    "Copy",
    "Edit",
    "Entry",
    "Erase",
    "Install",
    "Length",
    "Link",
    "Mutant",
    "Operation",
    "Patch",
    "Ramdisk",
    "Remove",
    "Shrink",
    "Write",
    "load",
]

_SAYS = {"ID": "hallmark-sample", "ID_LIKE": "rhel centos fedora", "VERSION_ID": "9"}
#: What the sample images say of themselves, as far as requirements depend on it, by their recipe.
_SAMPLES = {
    "sample-9": Subject.from_os_release(_SAYS),
    "sample-atomic-9": Subject.from_os_release(_SAYS, ostree=True),
}
DEFAULT_RECIPE = "sample-9"
MUTANTS = Path(__file__).resolve().parent
#: A part of it may hold ``*``, which stands for the first match by name (versions change, directories don't).
GuestPath = Annotated[str, Field(pattern=r"^((/[A-Za-z0-9@+:._,*-]+)+|/)$")]
Octal = Annotated[str, Field(pattern=r"^[0-7]{3,4}$")]
Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]


class Attributes(Model):
    """``change`` a file's mode (octal digits), owner, group or SELinux label; None leaves it as it is."""

    change: GuestPath
    mode: Octal | None = None
    uid: int | None = None
    gid: int | None = None
    label: str | None = None


class Write(Model):
    """Make a file, and the directories above it; without ``label`` they get their parent's, as in Linux."""

    write: GuestPath
    text: str = ""
    mode: Octal = "0644"
    uid: int = 0
    gid: int = 0
    label: str | None = None


class Edit(Model):
    """Replace every match of the regular expression ``pattern`` (multi-line mode) in a file by ``to``."""

    edit: GuestPath
    pattern: Text
    to: str = ""


class Remove(Model):
    """Delete a file or a link."""

    remove: GuestPath


class Link(Model):
    """Make a symbolic link; what is there already is replaced."""

    link: GuestPath
    to: Text


class Copy(Model):
    """Copy a file of the image to another place in it."""

    copy_of: GuestPath
    to: GuestPath
    mode: Octal = "0644"
    label: str | None = None


class Patch(Model):
    """Change ``length`` bytes of a guest file at ``offset`` (counted from the end when negative)."""

    patch: GuestPath
    offset: int
    hex: Hex


class Ramdisk(Model):
    """Replace text of an initramfs's unpacked content (file names, small files) by text as long."""

    ramdisk: GuestPath
    pattern: Text
    to: Text

    @model_validator(mode="after")
    def _as_long(self) -> Ramdisk:
        if len(self.pattern) != len(self.to):
            raise ValueError("the replacement must be as long as what it replaces")
        return self


class Install(Model):
    """Enter a package into the rpm database. ``signed``: with the sample's test key; ``files``: paths that it
    claims to hold (nothing is written there).
    """

    install: Text
    version: str = "1"
    vendor: str = "Hallmark sample distribution"
    arch: str = "noarch"
    signed: bool = True
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    files: tuple[GuestPath, ...] = ()


class Erase(Model):
    """Take a package out of the rpm database; its files stay."""

    erase: Text


class Bytes(Model):
    """Overwrite bytes of the disk file.

    ``bytes`` says where ``offset`` counts from: the start of the file, its footer, the backup GPT header, or
    the first partition of a kind (``esp``, ``bios-boot``, ``linux``). ``checksum``: compute the footer's
    checksum again.
    """

    bytes: Literal["start", "footer", "backup", "esp", "bios-boot", "linux"]
    offset: int = Field(ge=0)
    hex: Hex
    checksum: bool = False


class Entry(Model):
    """Change a partition's first sector or type in both copies of the GPT, checksums included."""

    partition: int = Field(ge=1, le=128)
    first_lba: int | None = None
    type: str | None = None


class Shrink(Model):
    """Make the ext4 filesystem that is mounted at ``shrink`` as small as ``mib`` MiB (2^20 bytes)."""

    shrink: Annotated[str, Field(pattern=r"^/[a-z/]*$")]
    mib: int = Field(ge=8)


class Length(Model):
    """Make the file longer (or shorter, when negative) by ``length`` bytes; the footer stays at its end."""

    length: int


_KEYS = (
    "change",
    "write",
    "edit",
    "remove",
    "link",
    "copy_of",
    "patch",
    "ramdisk",
    "shrink",
    "install",
    "erase",
    "bytes",
    "partition",
    "length",
)


def _kind(value: Any) -> str | None:
    names = value if isinstance(value, Mapping) else type(value).model_fields
    return next((key for key in _KEYS if key in names), None)


Operation = Annotated[
    Annotated[Attributes, Tag("change")]
    | Annotated[Write, Tag("write")]
    | Annotated[Edit, Tag("edit")]
    | Annotated[Remove, Tag("remove")]
    | Annotated[Link, Tag("link")]
    | Annotated[Copy, Tag("copy_of")]
    | Annotated[Patch, Tag("patch")]
    | Annotated[Ramdisk, Tag("ramdisk")]
    | Annotated[Shrink, Tag("shrink")]
    | Annotated[Install, Tag("install")]
    | Annotated[Erase, Tag("erase")]
    | Annotated[Bytes, Tag("bytes")]
    | Annotated[Entry, Tag("partition")]
    | Annotated[Length, Tag("length")],
    Discriminator(
        _kind,
        custom_error_type="operation",
        custom_error_message=f"an operation has one of the keys {', '.join(_KEYS)}",
    ),
]


class Mutant(Model):
    """One damage.

    :param red: requirements that must fail, each with a text that its failure must contain: it fails for this
        reason and for no other. One that the undamaged image fails must say this only now.
    :param may_red: requirements that may change; every other one must be as on the undamaged image.
    :param recipe: whose image it damages; said once for a file.
    :param alone: the damage hides so much that no other may be judged in the same look.
    :param why: what such an image would do to its user, or why the neighbours may change.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    view: Literal["format", "disk"] = "disk"
    what: tuple[Operation, ...] = Field(min_length=1)
    red: Mapping[Identifier, Text] = Field(min_length=1)
    may_red: tuple[Identifier, ...] = ()
    recipe: str = DEFAULT_RECIPE
    alone: bool = False
    why: Text

    @property
    def targets(self) -> frozenset[str]:
        """What must turn red."""
        return frozenset(self.red)

    @property
    def touched(self) -> frozenset[str]:
        """What must or may change."""
        return self.targets | frozenset(self.may_red)


class Impossible(Model):
    """A requirement that has no mutant on the sample image, and the reason."""

    requirement: Identifier
    view: Literal["format", "disk"] = "disk"
    reason: Annotated[str, Field(min_length=20)]


class _File(Model):
    """One file. The entries are validated one by one, to name their lines."""

    mutants: tuple[Any, ...]
    recipe: str = DEFAULT_RECIPE
    may_red: tuple[Identifier, ...] = ()
    impossible: tuple[Impossible, ...] = ()

    @model_validator(mode="after")
    def _not_empty(self) -> _File:
        if not self.mutants and not self.impossible:
            raise ValueError("the file says nothing")
        if self.recipe not in _SAMPLES:
            raise ValueError(f"nobody has said what {self.recipe} is; there are {', '.join(_SAMPLES)}")
        return self


@dataclass(frozen=True, slots=True)
class Collection:
    """Every mutant in the order of files and lines, and the requirements that have none."""

    mutants: tuple[Mutant, ...]
    impossible: tuple[Impossible, ...]

    def missing(self, catalogue: Catalogue) -> list[str]:
        """``must`` requirements of the format and disk views with neither a mutant nor a reason.

        Requirements that don't apply to any sample image (about RHEL alone) can't turn red on it, and are not
        among them.
        """
        covered = {(name, item.view) for item in self.mutants for name in item.red}
        covered |= {(item.requirement, item.view) for item in self.impossible}
        return [
            f"{entry.id} ({view})"
            for entry in catalogue
            for view in entry.views
            if entry.severity == "must"
            and view != "booted"
            and (entry.id, view) not in covered
            and any(entry.applies_to.excludes(sample) is None for sample in _SAMPLES.values())
        ]

    def of(self, recipe: str) -> tuple[Mutant, ...]:
        """The mutants of a recipe's image."""
        return tuple(mutant for mutant in self.mutants if mutant.recipe == recipe)


def load(catalogue: Catalogue, directory: Path = MUTANTS) -> Collection:
    """Read every mutant.

    :raises HallmarkError: a file can't be read, an entry is not well-formed, an id is used twice, or a
        requirement is named that the catalogue doesn't know or doesn't decide in that view.
    """
    mutants: dict[str, Mutant] = {}
    impossible: list[Impossible] = []
    for path in sorted(directory.glob("*.yaml")):
        parsed, entries = _read(path)
        for item in parsed.impossible:
            _known(item.requirement, item.view, catalogue, Where(path, 1), decided=True)
            impossible.append(item)
        for mutant, where in entries:
            if mutant.id in mutants:
                raise HallmarkError(f"two mutants are called {mutant.id}", where=where)
            for name in mutant.touched:
                _known(name, mutant.view, catalogue, where, decided=name in mutant.red)
            mutants[mutant.id] = mutant
    killed = {(name, mutant.view) for mutant in mutants.values() for name in mutant.red}
    both = killed & {(item.requirement, item.view) for item in impossible}
    if both:
        raise HallmarkError(
            "requirements have a mutant and a reason why they can have none",
            where=directory,
            details=[f"{name} ({view})" for name, view in sorted(both)],
        )
    if not mutants:
        raise HallmarkError("there are no mutants", where=directory, hint="expected *.yaml files there")
    return Collection(tuple(mutants.values()), tuple(impossible))


def _known(name: str, view: str, catalogue: Catalogue, where: Where, *, decided: bool) -> None:
    if name not in catalogue:
        raise HallmarkError(f"the catalogue knows no requirement {name}", where=where)
    if decided and view not in catalogue[name].views:
        raise HallmarkError(f"requirement {name} isn't decided in the {view} view", where=where)


def _read(path: Path) -> tuple[_File, Iterator[tuple[Mutant, Where]]]:
    value, node = load_yaml(path)
    try:
        parsed = _File.model_validate(value)
    except ValidationError as error:
        raise HallmarkError(
            "the file of mutants is not well-formed", where=Where(path, 1), details=_details(error)
        ) from None
    lists = {key.value: item for key, item in node.value}
    lines = [entry.start_mark.line + 1 for entry in lists["mutants"].value]
    return parsed, _entries(path, parsed, lines)


def _entries(path: Path, parsed: _File, lines: Sequence[int]) -> Iterator[tuple[Mutant, Where]]:
    for entry, line in zip(parsed.mutants, lines, strict=True):
        where = Where(path, line)
        try:
            mutant = Mutant.model_validate(entry)
        except ValidationError as error:
            name = entry.get("id", "?") if isinstance(entry, dict) else "?"
            raise HallmarkError(
                f"mutant {name} is not well-formed",
                where=where,
                details=_details(error),
                hint="certification/README.md shows a complete one",
            ) from None
        shared = [name for name in parsed.may_red if name not in mutant.targets]
        more = {"may_red": (*mutant.may_red, *shared), "recipe": parsed.recipe}
        yield mutant.model_copy(update=more), where


def _details(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors()]
