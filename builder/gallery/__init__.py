"""Publishing a release to an Azure Compute Gallery, with the promises that its certificate proves."""

from __future__ import annotations

from builder.gallery.address import GalleryAddress, Region, parse_gallery, parse_region
from builder.gallery.clear import clear
from builder.gallery.proven import Proven, prove
from builder.gallery.publish import Offer, publish
from builder.gallery.version import exclude

__all__ = [
    "GalleryAddress",
    "Offer",
    "Proven",
    "Region",
    "clear",
    "exclude",
    "parse_gallery",
    "parse_region",
    "prove",
    "publish",
]
