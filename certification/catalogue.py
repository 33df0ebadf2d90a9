"""Reads the catalogue of requirements: ``requirements/*.yaml``, one file an area or topic of it.

A file is a mapping with one key, ``requirements``: a list of entries. Mistakes are reported with file and
line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from builder.errors import HallmarkError, Where
from certification.model import AREAS, Requirement

__all__ = [
    "AREA_TITLES",
    "REQUIREMENTS",
    "SUITES",
    "Catalogue",
    "area_rank",
    "digest_tree",
    "load",
    "load_yaml",
    "suites_digest",
]

AREA_TITLES = {
    "format": "Disk file",
    "ccsp": "Red Hat cloud certification",
    "azure": "Azure",
    "hyperv": "Hyper-V",
    "dotnet": ".NET",
    "atomic": "Atomic Host",
    "security": "Security",
    "hygiene": "Nothing left behind",
    "support": "Supportable",
    "container": "Container",
}
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
SUITES = Path(__file__).resolve().parent / "suites"


@dataclass(frozen=True)
class Catalogue:
    """Every requirement by its id, and the SHA-256 of the files that say so."""

    requirements: Mapping[str, Requirement]
    digest: str

    def __getitem__(self, identifier: str) -> Requirement:
        return self.requirements[identifier]

    def __contains__(self, identifier: object) -> bool:
        return identifier in self.requirements

    def __iter__(self) -> Iterator[Requirement]:
        return iter(self.requirements.values())

    def __len__(self) -> int:
        return len(self.requirements)


def load(directory: Path = REQUIREMENTS) -> Catalogue:
    """Read the catalogue.

    :raises HallmarkError: no file, unreadable YAML, an entry that doesn't fit the model, an id used twice, an
        id or area that doesn't fit the file it is in.
    """
    files = sorted(directory.glob("*.yaml"))
    if not files:
        raise HallmarkError(
            "the requirement catalogue is empty", where=directory, hint="expected *.yaml files there"
        )
    found: dict[str, Requirement] = {}
    origins: dict[str, Where] = {}
    for file in files:
        for requirement, where in _read(file):
            if requirement.id in found:
                raise HallmarkError(
                    f"requirement {requirement.id} is defined twice",
                    where=where,
                    details=[f"first defined at {origins[requirement.id]}"],
                    hint="give one of them another id",
                )
            found[requirement.id] = requirement
            origins[requirement.id] = where
    return Catalogue(dict(sorted(found.items())), digest_tree(directory, "*.yaml"))


def area_rank(area: str) -> int:
    """The place of an area in reports."""
    return AREAS.index(area)


def digest_tree(directory: Path, *patterns: str, without: Path | None = None) -> str:
    """The SHA-256 over names and bytes of the files below ``directory`` that match one of ``patterns``.

    :param without: a directory whose files don't count.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in directory.rglob(pattern)}):
        if without is not None and path.is_relative_to(without):
            continue
        data = path.read_bytes()
        digest.update(f"{path.relative_to(directory).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def suites_digest(suites: Path) -> str:
    """The SHA-256 of what decides: the suites; for Hallmark's own also the facts and code that they use.

    The mutants decide nothing: they test what does.
    """
    if suites.resolve() != SUITES:
        return digest_tree(suites, "*.py", "*.yaml")
    return digest_tree(SUITES.parent, "*.py", "*.yaml", without=SUITES.parent / "mutants")


def load_yaml(path: Path) -> tuple[Any, yaml.Node]:
    """A YAML file's value and its node tree, which knows the lines.

    :raises HallmarkError: no such file, no YAML, a key that is there twice, or a date that there isn't.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise HallmarkError(f"cannot read the file: {error.strerror}", where=path) from None
    except UnicodeDecodeError as error:
        raise HallmarkError(
            f"the file is no UTF-8 text: {error.reason} at byte {error.start}", where=path
        ) from None
    # libyaml where PyYAML has it: the catalogue is read several times in every certification.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _must_be_single(node, path)
        value = loader.construct_document(node) if node is not None else None
        return value, node or yaml.ScalarNode("tag:yaml.org,2002:null", "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        problem = getattr(error, "problem", None) or "it is no valid YAML"
        raise HallmarkError(
            f"the file cannot be read as YAML: {problem}", where=Where(path, line, column)
        ) from None
    except ValueError as error:  # what looks like a date and is none, such as 2027-02-30
        raise HallmarkError(f"the file has a value that can't be: {error}", where=path) from None


def _must_be_single(node: yaml.Node, path: Path) -> None:
    """Of a key that is there twice YAML's own rules would keep the last, silently."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if (first := seen.setdefault(str(key.value), line)) != line:
                raise HallmarkError(
                    f"the key {key.value!r} is there twice",
                    where=Where(path, line),
                    why=f"it is already set in line {first}, and one of the two would be lost",
                    hint="keep one",
                )
            _must_be_single(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _must_be_single(item, path)


def _read(path: Path) -> Iterator[tuple[Requirement, Where]]:
    value, node = load_yaml(path)
    if (
        not isinstance(value, dict)
        or set(value) != {"requirements"}
        or not isinstance(value["requirements"], list)
    ):
        raise HallmarkError(
            "a catalogue file is a mapping with the one key `requirements`", where=Where(path, 1)
        )
    assert isinstance(node, yaml.MappingNode)
    sequence = node.value[0][1]
    for entry, entry_node in zip(value["requirements"], sequence.value, strict=True):
        where = Where(path, entry_node.start_mark.line + 1)
        try:
            requirement = Requirement.model_validate(entry)
        except ValidationError as error:
            name = entry.get("id", "?") if isinstance(entry, dict) else "?"
            raise HallmarkError(
                f"requirement {name} is not well-formed",
                where=where,
                details=[f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors()],
                hint="certification/README.md shows a complete entry",
            ) from None
        if requirement.area != path.stem.split("-")[0]:
            raise HallmarkError(
                f"requirement {requirement.id} has area {requirement.area} but stands in {path.name}",
                where=where,
                hint=f"move it to {requirement.area}.yaml or {requirement.area}-TOPIC.yaml",
            )
        yield requirement, where
