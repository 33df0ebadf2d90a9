"""The effective configuration of sshd: the first value that is read wins, includes are read in place."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["DEFAULTS", "SshdConfig", "effective", "from_dump"]

# sshd_config(5) of OpenSSH 8 and 9, for what certification asks about.
DEFAULTS = {
    "port": "22",
    "clientaliveinterval": "0",
    "permitrootlogin": "prohibit-password",
    "passwordauthentication": "yes",
    "kbdinteractiveauthentication": "yes",
    "permitemptypasswords": "no",
    "hostbasedauthentication": "no",
    "ignorerhosts": "yes",
    "permituserenvironment": "no",
    "x11forwarding": "no",
    "maxauthtries": "6",
    "logingracetime": "120",
    "authorizedkeysfile": ".ssh/authorized_keys .ssh/authorized_keys2",
}
_ALIASES = {"challengeresponseauthentication": "kbdinteractiveauthentication"}
_MANY = ("port", "listenaddress", "hostkey", "acceptenv")


@dataclass(frozen=True, slots=True)
class SshdConfig:
    """``values`` by keyword in lower case, ``origins`` the file each came from, ``ports`` all of them.

    ``matched`` holds what Match blocks set: (keyword, value, file).
    """

    values: dict[str, str]
    origins: dict[str, str]
    ports: tuple[str, ...]
    matched: tuple[tuple[str, str, str], ...]

    def get(self, keyword: str) -> str:
        """The effective value, or sshd's own default."""
        return self.values.get(keyword, DEFAULTS.get(keyword, ""))

    def origin(self, keyword: str) -> str:
        return self.origins.get(keyword, "sshd's default")


def effective(
    read: Callable[[str], str | None], glob: Callable[[str], list[str]], *, main: str = "/etc/ssh/sshd_config"
) -> SshdConfig:
    """Read ``main`` and its includes as sshd does.

    :raises ValueError: the main file doesn't exist, includes go too deep, or a line can't be parsed.
    """
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    ports: list[str] = []
    matched: list[tuple[str, str, str]] = []

    def walk(path: str, text: str, depth: int, conditional: bool) -> None:
        if depth > 16:
            raise ValueError(f"{path}: includes nest too deeply")
        inside = conditional
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            try:
                words = shlex.split(
                    stripped.replace("=", " ", 1) if "=" in stripped.split(None, 1)[0] else stripped,
                    comments=True,
                )
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
            keyword, rest = words[0].lower(), words[1:]
            keyword = _ALIASES.get(keyword, keyword)
            if keyword == "match":
                # `Match all` ends a block; what follows counts for everybody again.
                inside = [word.lower() for word in rest] != ["all"] or conditional
            elif keyword == "include":
                for pattern in rest:
                    pattern = pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}"
                    for name in sorted(glob(pattern)):
                        walk(name, read(name) or "", depth + 1, inside)
            elif inside:
                matched.append((keyword, " ".join(rest), path))
            elif keyword == "port":
                ports.append(" ".join(rest))
            elif keyword not in values or keyword in _MANY:
                values.setdefault(keyword, " ".join(rest))
                origins.setdefault(keyword, f"{path}:{number}")

    text = read(main)
    if text is None:
        raise ValueError(f"{main} doesn't exist")
    walk(main, text, 0, False)
    return SshdConfig(values, origins, tuple(ports) or (DEFAULTS["port"],), tuple(matched))


def from_dump(text: str) -> SshdConfig:
    """The output of ``sshd -T``."""
    values: dict[str, str] = {}
    ports: list[str] = []
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        keyword = _ALIASES.get(keyword.lower(), keyword.lower())
        if keyword == "port":
            ports.append(value)
        elif keyword:
            values.setdefault(keyword, value)
    return SshdConfig(values, dict.fromkeys(values, "sshd -T"), tuple(ports), ())
