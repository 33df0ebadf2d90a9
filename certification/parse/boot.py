"""Boot entries: Boot Loader Specification files, grub.cfg, grubenv and what the next entry is made from."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

__all__ = ["BootEntry", "argument_values", "bls", "grub_cfg", "grubenv", "has_argument", "split_arguments"]


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One way to boot. ``origin`` is the file that says so, ``arguments`` the kernel's in order."""

    origin: str
    title: str
    kernel: str
    initrds: tuple[str, ...]
    arguments: tuple[str, ...]


def split_arguments(line: str) -> tuple[str, ...]:
    """A kernel command line in words; double quotes protect blanks, as in the kernel."""
    return tuple(re.findall(r'(?:[^\s"]|"[^"]*")+', line))


def argument_values(arguments: tuple[str, ...], key: str) -> list[str]:
    """Every value given for ``key=``, in order."""
    return [word.split("=", 1)[1] for word in arguments if word.startswith(f"{key}=")]


def has_argument(arguments: tuple[str, ...], wanted: str) -> bool:
    """The argument is there. ``key=value`` must be exact; for a key alone any value counts."""
    if "=" in wanted:
        return wanted in arguments
    return any(word == wanted or word.startswith(f"{wanted}=") for word in arguments)


def bls(text: str, *, origin: str, variables: dict[str, str] | None = None) -> BootEntry:
    """A loader entry (BLS type 1), with GRUB's ``$kernelopts`` and other variables of grubenv filled in."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.strip().split(None, 1)
        if words and not words[0].startswith("#"):
            fields.setdefault(words[0], []).append(words[1] if len(words) > 1 else "")
    options = _expand(" ".join(fields.get("options", [])), variables or {})
    initrds = tuple(
        word for line in fields.get("initrd", []) for word in line.split() if not word.startswith("$")
    )
    return BootEntry(
        origin=origin,
        title=" ".join(fields.get("title", [])),
        kernel=" ".join(fields.get("linux", [])),
        initrds=initrds,
        arguments=split_arguments(options),
    )


def grubenv(text: str) -> dict[str, str]:
    """The variables of a GRUB environment block."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def grub_cfg(text: str, *, origin: str, variables: dict[str, str] | None = None) -> tuple[BootEntry, ...]:
    """The static menu entries of a grub.cfg; those that blscfg makes are not in the file."""
    text = re.sub(r"\\\n", " ", text)
    values = dict(variables or {})
    for match in re.finditer(r'^\s*set\s+(\w+)=(?:"([^"\n]*)"|(\S*))\s*$', text, re.M):
        # In grub.cfg a default is set only if grubenv has none: `if [ -z "${kernelopts}" ]`.
        values.setdefault(match[1], match[2] if match[2] is not None else match[3])
    entries: list[BootEntry] = []
    title, kernel, arguments, initrds = "", "", (), ()
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("menuentry "):
            match_title = re.match(r"menuentry\s+(?:'([^']*)'|\"([^\"]*)\"|(\S+))", stripped)
            title = next((part for part in match_title.groups() if part), "") if match_title else ""
        elif re.match(r"(linux|linux16|linuxefi)\s", stripped):
            kernel, *rest = ([*_expand(stripped, values).split(None, 1)[1].split(None, 1), ""])[:2]
            arguments = split_arguments(rest[0])  # type: ignore[assignment]  # grown from the empty tuple
        elif re.match(r"(initrd|initrd16|initrdefi)\s", stripped):
            initrds = tuple(_words(stripped)[1:])  # type: ignore[assignment]  # grown from the empty tuple
        elif stripped == "}" and kernel:
            entries.append(BootEntry(origin, title, kernel, initrds, arguments))
            title, kernel, arguments, initrds = "", "", (), ()
    return tuple(entries)


def _expand(text: str, variables: dict[str, str]) -> str:
    """Fill in variables; an unknown one becomes nothing, as GRUB does it."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: variables.get(match[1], ""), text)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
