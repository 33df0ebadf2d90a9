"""Line-oriented configuration files: accounts, fstab, key-value files, repository files."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "Account",
    "Mount",
    "assignments",
    "fstab",
    "group",
    "ini",
    "key_values",
    "modprobe_disabled",
    "passwd",
    "shadow",
    "significant",
]


@dataclass(frozen=True, slots=True)
class Account:
    """A line of passwd(5)."""

    name: str
    password: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of fstab(5)."""

    source: str
    target: str
    type: str
    options: tuple[str, ...]


def significant(text: str, *, comment: str = "#") -> list[str]:
    """The lines that are neither empty nor comments, stripped."""
    return [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith(tuple(comment))
    ]


def passwd(text: str) -> tuple[Account, ...]:
    """passwd(5). A malformed line raises ValueError: login would ignore it, a certificate must not."""
    accounts = []
    for line in significant(text):
        fields = line.split(":")
        if len(fields) != 7:
            raise ValueError(f"passwd line with {len(fields)} fields: {line}")
        accounts.append(Account(fields[0], fields[1], int(fields[2]), int(fields[3]), fields[5], fields[6]))
    return tuple(accounts)


def shadow(text: str) -> dict[str, str]:
    """The password field of each account of shadow(5) or gshadow(5), as it stands there."""
    return {line.split(":")[0]: ([*line.split(":"), ""])[1] for line in significant(text)}


def group(text: str) -> dict[str, int]:
    """The id of each group of group(5)."""
    return {line.split(":")[0]: int(line.split(":")[2]) for line in significant(text)}


def fstab(text: str) -> tuple[Mount, ...]:
    """fstab(5), with octal escapes for blanks undone."""
    mounts = []
    for line in significant(text):
        fields = [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), field) for field in line.split()]
        fields += ["", "", "defaults"][len(fields) - 1 :] if len(fields) < 4 else []
        mounts.append(Mount(fields[0], fields[1], fields[2], tuple(fields[3].split(","))))
    return tuple(mounts)


def key_values(text: str) -> dict[str, str]:
    """``Key=value`` lines such as waagent.conf's; comments after a value are dropped, the last line wins."""
    values: dict[str, str] = {}
    for line in significant(text):
        key, separator, value = line.partition("=")
        if separator:
            values[key.strip()] = re.split(r"\s+#", value, maxsplit=1)[0].strip()
    return values


def assignments(text: str) -> dict[str, str]:
    """Shell assignments such as /etc/default/grub and locale.conf, quotes removed."""
    values: dict[str, str] = {}
    for line in significant(text):
        match = re.match(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", line)
        if match:
            try:
                words = shlex.split(match[2], comments=True)
            except ValueError:
                words = [match[2]]
            values[match[1]] = " ".join(words)
    return values


def ini(text: str) -> Mapping[str, Mapping[str, str]]:
    """An INI file (repository files, keyfiles); keys keep their case, no interpolation.

    :raises ValueError: it can't be read as one.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # documented way to keep the case
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(str(error)) from None
    return {name: {key: value or "" for key, value in parser[name].items()} for name in parser.sections()}


def modprobe_disabled(text: str) -> set[str]:
    """Modules that a modprobe.d(5) file keeps from loading, ``-`` turned into ``_``.

    Counts ``blacklist`` lines and ``install`` lines that run true or false. An empty ``install`` command is
    none.
    """
    found = set()
    for line in significant(text):
        words = line.split()
        dead = words[0] == "install" and len(words) > 2 and words[2].rsplit("/", 1)[-1] in ("true", "false")
        if len(words) > 1 and (words[0] == "blacklist" or dead):
            found.add(words[1].replace("-", "_"))
    return found
