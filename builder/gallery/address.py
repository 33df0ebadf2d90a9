"""Which gallery, and which regions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from builder.errors import HallmarkError

__all__ = ["GalleryAddress", "Region", "parse_gallery", "parse_region"]

_SUBSCRIPTION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_GROUP = re.compile(r"[\w.()-]{1,89}[\w()-]")
#: A gallery's name: letters, digits, dots and underscores, no dash (REST reference, Galleries).
_GALLERY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._]{0,78}[A-Za-z0-9])?")
_REGION = re.compile(r"[a-z0-9]+")
#: More replicas of one version in one region are refused (Microsoft Learn, gallery limits).
_MOST_REPLICAS = 100


@dataclass(frozen=True, slots=True)
class GalleryAddress:
    """A Compute Gallery: subscription id, resource group, name."""

    subscription: str
    group: str
    name: str

    def __str__(self) -> str:
        return f"{self.subscription}/{self.group}/{self.name}"


@dataclass(frozen=True, slots=True)
class Region:
    """A region that a version is replicated to; ``replicas`` limits how many machines start there at once."""

    name: str
    replicas: int = 1


def parse_gallery(text: str) -> GalleryAddress:
    """``SUBSCRIPTION/RESOURCE-GROUP/GALLERY``.

    :raises HallmarkError: it is something else, or a name breaks Azure's rules.
    """
    parts = text.split("/")
    if len(parts) != 3:
        raise _refuse(text, "it has three parts")
    subscription, group, name = parts
    if not _SUBSCRIPTION.fullmatch(subscription):
        raise _refuse(text, f"{subscription!r} is no subscription id")
    if not _GROUP.fullmatch(group):
        raise _refuse(text, f"{group!r} can't be a resource group")
    if not _GALLERY.fullmatch(name):
        raise _refuse(text, f"{name!r} can't be a gallery: letters, digits, dots and underscores")
    return GalleryAddress(subscription.lower(), group, name)


def parse_region(text: str) -> Region:
    """``westeurope`` or ``westeurope=3`` (replicas).

    :raises HallmarkError: the name isn't one, or the number isn't 1 to 100.
    """
    name, _, number = text.partition("=")
    name = name.replace(" ", "").lower()
    if not _REGION.fullmatch(name) or not (number or "1").isdecimal():
        raise HallmarkError(f"{text!r} is no region", hint="westeurope, or westeurope=3 for three replicas")
    replicas = int(number or 1)
    if not 1 <= replicas <= _MOST_REPLICAS:
        raise HallmarkError(f"{replicas} replicas in {name}: 1 to {_MOST_REPLICAS} are possible")
    return Region(name, replicas)


def _refuse(text: str, why: str) -> HallmarkError:
    return HallmarkError(f"{text!r} is not a gallery", why=why, hint="SUBSCRIPTION-ID/RESOURCE-GROUP/GALLERY")
