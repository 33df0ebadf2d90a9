"""systemd units on a disk: where they come from, whether they start, without a running systemd."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["UNIT_PATH", "State", "Unit", "look_up"]

UNIT_PATH = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
State = Literal["enabled", "disabled", "static", "masked", "missing"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit's name, its file ("" when there is none) and what makes it start.

    ``state`` is what ``systemctl is-enabled`` would say; ``starts`` is True for enabled units and for those
    that the vendor's own links want. ``by`` lists these links.
    """

    name: str
    path: str
    state: State
    starts: bool
    by: tuple[str, ...]


def look_up(
    name: str,
    *,
    glob: Callable[[str], list[str]],
    link: Callable[[str], str | None],
    read: Callable[[str], str | None],
) -> Unit:
    """Find a unit the way systemd does.

    :param link: the target of a symbolic link, "" for a file that is none, None for nothing.
    """
    path = ""
    for directory in UNIT_PATH:
        target = link(f"{directory}/{name}")
        if target is None:
            continue
        path = f"{directory}/{name}"
        if target == "/dev/null" or posixpath.basename(target) == "null":
            return Unit(name, path, "masked", False, ())
        break
    by: list[str] = []
    vendor: list[str] = []
    for directory in UNIT_PATH:
        found = [path for kind in ("wants", "requires") for path in glob(f"{directory}/*.{kind}/{name}")]
        (by if directory == UNIT_PATH[0] else vendor).extend(found)
    # An alias: a link in /etc with another name that leads to this unit (dbus-org..., default.target).
    by += [
        alias
        for alias in glob(f"{UNIT_PATH[0]}/*")
        if posixpath.basename(alias) != name and posixpath.basename(link(alias) or "") == name
    ]
    if not path:
        return Unit(name, "", "missing", False, tuple(by))
    if by:
        return Unit(name, path, "enabled", True, tuple(by))
    text = read(path)
    if text == "":
        return Unit(name, path, "masked", False, ())
    if vendor:
        return Unit(name, path, "static", True, tuple(vendor))
    installable = "[Install]" in (text or "")
    return Unit(name, path, "disabled" if installable else "static", False, ())
