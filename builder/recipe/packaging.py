"""How each major release of Enterprise Linux keeps its package database, and how a root filesystem is made.

Sources: Red Hat article 6891951, "SQLite RPM database in Red Hat Enterprise Linux 9 and later" (format and
place in 9 and 10); mkosi, ``mkosi/distribution/centos.py`` (place). The rpm of 7 (4.11) and 8 (4.14) knows
Berkeley DB only. rpm 4.16 brought SQLite and a reader of Berkeley DB without its library (rpm pull request
980); the writer was removed after it (rpm pull request 1523), so no rpm of a current build host has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from builder.recipe.model import Bootstrap, BootstrapMode

__all__ = ["PACKAGING", "Packaging", "bootstrap"]


@dataclass(frozen=True, slots=True)
class Packaging:
    """One major release: ``rpmdb`` is the database's directory in the image, ``database`` its format.

    ``stage_one``: what the first of two stages installs, so that the release's own rpm can install the rest.
    """

    rpmdb: str
    database: Literal["berkeley-db", "sqlite"]
    stage_one: tuple[str, ...] = ("rpm",)

    @property
    def mode(self) -> BootstrapMode:
        """Two stages where the rpm of a modern build host cannot write the format."""
        return "two-stage" if self.database == "berkeley-db" else "direct"


PACKAGING: Mapping[int, Packaging] = MappingProxyType(
    {
        7: Packaging("/var/lib/rpm", "berkeley-db"),
        8: Packaging("/var/lib/rpm", "berkeley-db"),
        9: Packaging("/var/lib/rpm", "sqlite"),
        10: Packaging("/usr/lib/sysimage/rpm", "sqlite"),
    }
)


def bootstrap(major: int, wanted: BootstrapMode | None = None) -> Bootstrap:
    """How the root filesystem of a major release is made; ``wanted`` overrides the release's data."""
    known = PACKAGING.get(major)
    mode = wanted or (known.mode if known else "direct")
    if mode == "direct":
        return Bootstrap()
    return Bootstrap(mode=mode, packages=known.stage_one if known else ("rpm",))
