"""Until when runtimes and releases are supported, and on what: ``support.yaml``, with its sources.

The certification has its own facts about support: this table saves a build that would not be certified, and
tells consumers in the catalog how long an image is worth using.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

__all__ = ["Support", "SupportEnd", "ends_of", "table"]

_TABLE = Path(__file__).with_suffix(".yaml")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Ends(_Frozen):
    """``ends`` maps a major release to the last day on which it is supported."""

    source: str
    ends: dict[str, date]


class _Offered(_Frozen):
    """``releases`` maps a major release of Enterprise Linux to the channels in its own repositories."""

    source: str
    releases: dict[str, tuple[str, ...]]


class _Dotnet(_Ends):
    """``ends`` maps a channel to the last day on which it is supported."""

    offered: _Offered


class Support(_Frozen):
    """The whole table; ``releases`` by the ID in os-release."""

    releases: dict[str, _Ends]
    dotnet: _Dotnet

    def release_end(self, distribution: str, major: int) -> date | None:
        """The last day on which a release is supported; None if nobody says."""
        known = self.releases.get(distribution)
        return known.ends.get(str(major)) if known else None

    def dotnet_end(self, channel: str) -> date | None:
        """The last day on which a .NET channel is supported; None if nobody says."""
        return self.dotnet.ends.get(channel)

    def dotnet_offered(self, major: int) -> tuple[str, ...]:
        """The .NET channels that a release of Enterprise Linux has in its own repositories."""
        return self.dotnet.offered.releases.get(str(major), ())


class SupportEnd(_Frozen):
    """One thing in an image and the last day on which its supplier maintains it, as ``source`` says."""

    what: str
    ends: date
    source: str


@lru_cache(maxsize=1)
def table() -> Support:
    """The table, read once."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Support.model_validate(yaml.load(_TABLE.read_text(encoding="utf-8"), Loader=loader))


def ends_of(
    *, distribution: str, name: str, release: str, channels: tuple[str, ...]
) -> tuple[SupportEnd, ...]:
    """Every known end of support of an image's release and its .NET channels, the earliest first.

    :param distribution: the ID in os-release.
    :param name: what people call the distribution.
    :param release: with or without its minor number.
    """
    known = table()
    major = release.partition(".")[0]
    found = []
    end = known.release_end(distribution, int(major))
    if end is not None:
        found.append(SupportEnd(what=f"{name} {major}", ends=end, source=known.releases[distribution].source))
    for channel in channels:
        end = known.dotnet_end(channel)
        if end is not None:
            found.append(SupportEnd(what=f".NET {channel}", ends=end, source=known.dotnet.source))
    return tuple(sorted(found, key=lambda item: (item.ends, item.what)))
