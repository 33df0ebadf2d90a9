"""Debian's names, versions and dependencies in RPM's terms: pure functions over the tables of names.yaml."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from builder.errors import HallmarkError
from builder.sampledistro.rpm import Dependency, Operator

__all__ = ["Names", "Version", "dependencies", "parse_relation", "provides"]

_RELATION = re.compile(
    r"^(?P<name>[^\s(:\[]+)(?::\S+)?\s*(?:\(\s*(?P<op><<|<=|=|>=|>>)\s*(?P<version>\S+)\s*\))?"
)
_OPERATORS: dict[str, Operator] = {"<<": "<", "<=": "<=", "=": "=", ">=": ">=", ">>": ">"}


@dataclass(frozen=True, slots=True)
class Version:
    """A Debian version ([epoch:]upstream[-revision]) in RPM's parts.

    ``release`` is empty if there is no revision.
    """

    epoch: int
    version: str
    release: str

    @classmethod
    def parse(cls, text: str) -> Version:
        """Translate; RPM allows no ``-`` inside a version, it becomes a dot. ``~`` sorts the same in both."""
        epoch, colon, rest = text.rpartition(":")
        upstream, dash, revision = rest.rpartition("-")
        if not dash:
            upstream, revision = rest, ""
        return cls(int(epoch) if colon else 0, upstream.replace("-", "."), revision)

    @property
    def evr(self) -> str:
        """[epoch:]version[-release]."""
        text = f"{self.epoch}:{self.version}" if self.epoch else self.version
        return f"{text}-{self.release}" if self.release else text


@dataclass(frozen=True, slots=True)
class Names:
    """How packages are called. ``renamed``: Debian name → RPM name; patterns are tried after plain names."""

    renamed: Mapping[str, str]
    patterns: tuple[tuple[str, str], ...]
    dropped: Collection[str]

    def rpm(self, name: str) -> str:
        """The RPM name of a Debian package."""
        if name in self.renamed:
            return self.renamed[name]
        for pattern, replacement in self.patterns:
            if re.fullmatch(pattern, name):
                return re.sub(pattern, replacement, name)
        return name

    def drops(self, name: str) -> bool:
        """Whether the package, and every dependency on it, is left out."""
        return name in self.dropped or any(
            entry.endswith("*") and name.startswith(entry[:-1]) for entry in self.dropped
        )


def parse_relation(text: str) -> tuple[str, Operator, str]:
    """``name``, ``operator`` and ``version`` of one alternative such as ``libc6:any (>= 2.36)``."""
    match = _RELATION.match(text.strip())
    if match is None:
        raise HallmarkError(f"not a package relation: {text!r}")
    operator = match["op"]
    return match["name"], _OPERATORS[operator] if operator else "", match["version"] or ""


def dependencies(field: str, *, names: Names, available: Collection[str]) -> list[Dependency]:
    """Translate a Depends field.

    RPM has no ``a | b`` that dnf resolves the same way everywhere, so the first alternative that the
    distribution has wins. A dependency whose every alternative is dropped disappears.

    :param available: the Debian names in the distribution, virtual ones included, without the dropped ones.
    """
    result: list[Dependency] = []
    for group in filter(None, (part.strip() for part in field.replace("\n", " ").split(","))):
        for alternative in group.split("|"):
            name, operator, version = parse_relation(alternative)
            if name in available and not names.drops(name):
                result.append(_dependency(names.rpm(name), operator, version))
                break
    return result


def provides(field: str) -> list[Dependency]:
    """Translate a Provides field: virtual names keep Debian's spelling."""
    result = []
    for group in filter(None, (part.strip() for part in field.replace("\n", " ").split(","))):
        name, operator, version = parse_relation(group)
        result.append(_dependency(name, operator, version))
    return result


def _dependency(name: str, operator: Operator, version: str) -> Dependency:
    if not operator:
        return Dependency(name)
    translated = Version.parse(version)
    if operator == ">" and not translated.release:
        # "> 2.36" excludes 2.36-9 in RPM, where a version without a release matches every release.
        operator = ">="
    return Dependency(name, operator, translated.evr)
