"""cloud-init's configuration: cloud.cfg and all of cloud.cfg.d, merged in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

__all__ = ["CloudConfig", "merge", "module_names"]


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """``values`` after merging; ``problems`` names the files that cloud-init would ignore, and why."""

    values: Mapping[str, Any]
    problems: tuple[str, ...]

    def get(self, *path: str) -> Any:
        """A value by its path of keys; None when it isn't there."""
        value: Any = self.values
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                return None
            value = value[key]
        return value


def merge(files: Sequence[tuple[str, str]]) -> CloudConfig:
    """Merge (path, text) pairs, later ones over earlier ones: mappings by key, everything else replaced.

    cloud-init's own default (util.mergemanydict over the reversed list) does the same.
    """
    merged: dict[str, Any] = {}
    problems: list[str] = []
    for path, text in files:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            problems.append(f"{path}: {getattr(error, 'problem', None) or error}")
            continue
        if value is None:
            continue
        if not isinstance(value, dict):
            problems.append(f"{path}: a {type(value).__name__} where a mapping is expected")
            continue
        merged = _over(merged, value)
    return CloudConfig(merged, tuple(problems))


def module_names(value: Any) -> list[str]:
    """The names in a module list; an entry may be a name or a list of name, frequency and arguments."""
    names = []
    for entry in value if isinstance(value, list) else []:
        name = entry[0] if isinstance(entry, list) and entry else entry
        names.append(str(name).replace("-", "_"))
    return names


def _over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    result = dict(lower)
    for key, value in upper.items():
        below = result.get(key)
        result[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
