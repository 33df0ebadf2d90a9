"""The catalog: what consumers read to find, judge and fetch a release."""

from __future__ import annotations

from builder.catalog.model import Catalog, Channel, Entry, Package
from builder.catalog.write import write

__all__ = ["Catalog", "Channel", "Entry", "Package", "write"]
