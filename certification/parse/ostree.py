"""An ostree host as its files show it: deployments, their origins, and the remotes that updates come from.

The paths are those of a host that runs from a deployment: the physical root is /sysroot, and /ostree leads to
/sysroot/ostree (ostree(1), deployment layout).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from certification.parse import text

__all__ = ["DEPLOY", "REPOSITORY", "Deployment", "Remote", "deployments", "remotes"]

DEPLOY = "/sysroot/ostree/deploy"
REPOSITORY = "/sysroot/ostree/repo"
Read = Callable[[str], str | None]
Glob = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployed commit: ``path`` is its root, ``origin`` its origin file by section."""

    path: str
    stateroot: str
    commit: str
    origin: Mapping[str, Mapping[str, str]]

    @property
    def refspec(self) -> str:
        """``remote:ref``, or an image's reference; "" when the origin names neither."""
        section = self.origin.get("origin", {})
        return (
            section.get("refspec")
            or section.get("baserefspec")
            or section.get("container-image-reference")
            or ""
        )

    @property
    def changes(self) -> list[str]:
        """What rpm-ostree layered, replaced or removed, and how /usr was unlocked."""
        found = []
        for section, values in self.origin.items():
            for key, value in values.items():
                layered = section in ("packages", "overrides") or key == "unlocked"
                if layered and value.strip(" ;[]") not in ("", "none", "false"):
                    found.append(f"{section}.{key}={value}")
        return found


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote of the repository, from the file ``where``. ostree verifies signatures unless ``gpg-verify``
    says no.
    """

    name: str
    where: str
    url: str
    verified: bool
    secure: bool


def deployments(read: Read, glob: Glob) -> list[Deployment]:
    """Every deployment that has an origin file, by path."""
    found = []
    for path in glob(f"{DEPLOY}/*/deploy/*.origin"):
        root = path.removesuffix(".origin")
        name = posixpath.basename(root)
        commit = re.fullmatch(r"([0-9a-f]{64})\.\d+", name)
        origin = text.ini(read(path) or "")
        found.append(Deployment(root, root.split("/")[4], commit[1] if commit else "", origin))
    return found


def remotes(read: Read, glob: Glob) -> dict[str, Remote]:
    """The remotes of the repository's own configuration and of remotes.d (ostree.repo-config(5))."""
    found: dict[str, Remote] = {}
    paths = [
        f"{REPOSITORY}/config",
        *glob("/etc/ostree/remotes.d/*.conf"),
        *glob("/usr/share/ostree/remotes.d/*.conf"),
    ]
    for path in paths:
        for section, values in text.ini(read(path) or "").items():
            name = re.fullmatch(r'remote "(.+)"', section)
            if name is None:
                continue
            gpg = values.get("gpg-verify", "true").lower() == "true"
            sign = values.get("sign-verify", "false").lower() not in ("false", "")
            tls = values.get("tls-permissive", "false").lower() != "true"
            url = values.get("metalink") or values.get("contenturl") or values.get("url", "")
            found[name[1]] = Remote(
                name[1],
                path,
                url,
                gpg or sign,
                tls and url.removeprefix("metalink=").startswith("https://"),
            )
    return found
