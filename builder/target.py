"""A machine that runs already, by the address that is given for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from builder.errors import HallmarkError

__all__ = ["SshTarget"]


@dataclass(frozen=True, slots=True)
class SshTarget:
    """A machine: ``ssh://USER@HOST[:PORT][?identity=FILE&known-hosts=FILE]``."""

    user: str
    host: str
    port: int
    identity: Path | None = None
    known_hosts: Path | None = None

    @classmethod
    def parse(cls, url: str) -> SshTarget:
        """Read such a URL.

        :raises HallmarkError: it is no such URL.
        """
        expected = "ssh://USER@HOST[:PORT][?identity=FILE][&known-hosts=FILE]"
        shown = re.sub(r":[^:@/]*@", ":***@", url, count=1)
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            port = parts.port or 22
        except ValueError as error:
            raise HallmarkError(f"this is no address: {error}", where=shown, hint=expected) from None
        user, host = unquote(parts.username or ""), parts.hostname or ""
        unknown = sorted(set(options) - {"identity", "known-hosts"})
        plain = re.fullmatch(r"[A-Za-z0-9_][\w.@-]*", user) and re.fullmatch(r"[A-Za-z0-9_:][\w.:%-]*", host)
        if parts.scheme != "ssh" or not plain or parts.password or parts.path.strip("/") or unknown:
            details = [f"unknown: {name}" for name in unknown]
            raise HallmarkError(
                "this is no address of a machine",
                where=shown,
                hint=f"expected is {expected}",
                details=details,
            )
        files = {name: Path(value).expanduser() for name, value in options.items()}
        for name, path in files.items():
            if not path.is_file():
                raise HallmarkError(f"there is no such file for {name}", where=path)
            if re.search(r'["\n\r]', str(path)):
                raise HallmarkError("ssh can't be told a path with a quote in it", where=repr(str(path)))
        return cls(user, host, port, files.get("identity"), files.get("known-hosts"))

    @property
    def name(self) -> str:
        """For people and for the names of directories."""
        return re.sub(r"[^\w.-]", "-", self.host) + (f"-{self.port}" if self.port != 22 else "")

    def config(self, sockets: Path) -> str:
        """An ssh_config(5) with this machine under the name that the booted view uses.

        The machine must be known: who certifies whatever answers on an address certifies nothing.
        """
        lines = {
            "HostName": self.host,
            "Port": str(self.port),
            "User": self.user,
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": "20",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "ControlMaster": "auto",
            "ControlPath": f'"{sockets / "ssh"}"',
            "ControlPersist": "60",
            "LogLevel": "ERROR",
        }
        if self.identity is not None:
            lines |= {"IdentityFile": _quoted(self.identity), "IdentitiesOnly": "yes"}
        if self.known_hosts is not None:
            lines |= {"UserKnownHostsFile": _quoted(self.known_hosts), "GlobalKnownHostsFile": "/dev/null"}
        return "Host *\n" + "".join(f"  {key} {value}\n" for key, value in lines.items())


def _quoted(path: Path) -> str:
    return '"' + str(path.resolve()).replace("%", "%%") + '"'
