"""The LVM names and metadata of a disk whose root lies on a logical volume.

The volume group is described as text and restored (vgcfgrestore), because only so its identifiers can be
chosen: the same plan always gives the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID, uuid5

from builder.disk.layout import MIB, SECTOR, Partition

__all__ = ["EXTENT", "GROUP", "PHYSICAL_START", "VOLUME", "Volume", "metadata", "volume"]

#: As in Red Hat's images for Azure.
GROUP = "rootvg"
VOLUME = "rootlv"
EXTENT = 4 * MIB
#: Where a physical volume's first extent begins.
PHYSICAL_START = MIB


@dataclass(frozen=True, slots=True)
class Volume:
    """The one logical volume; ``offset`` (on the disk) and ``size`` in bytes; it is one linear segment."""

    partition: Partition
    extents: int
    physical_uuid: str

    @property
    def offset(self) -> int:
        return self.partition.start + PHYSICAL_START

    @property
    def size(self) -> int:
        return self.extents * EXTENT

    @property
    def device(self) -> str:
        return f"/dev/{GROUP}/{VOLUME}"


def volume(partition: Partition) -> Volume:
    """The largest volume that fits the partition."""
    extents = (partition.size - PHYSICAL_START) // EXTENT
    return Volume(partition, extents, _identifier(partition.guid, "physical volume"))


def metadata(item: Volume, *, timestamp: int) -> str:
    """The volume group in LVM2's text format; ``timestamp`` in seconds since 1970."""
    guid = item.partition.guid
    return f"""contents = "Text Format Volume Group"
version = 1
description = ""
creation_host = "hallmark"
creation_time = {timestamp}
{GROUP} {{
  id = "{_identifier(guid, "volume group")}"
  seqno = 1
  format = "lvm2"
  status = ["RESIZEABLE", "READ", "WRITE"]
  flags = []
  extent_size = {EXTENT // SECTOR}
  max_lv = 0
  max_pv = 0
  metadata_copies = 0
  physical_volumes {{
    pv0 {{
      id = "{item.physical_uuid}"
      device = "unknown"
      status = ["ALLOCATABLE"]
      flags = []
      dev_size = {item.partition.size // SECTOR}
      pe_start = {PHYSICAL_START // SECTOR}
      pe_count = {item.extents}
    }}
  }}
  logical_volumes {{
    {VOLUME} {{
      id = "{_identifier(guid, "logical volume")}"
      status = ["READ", "WRITE", "VISIBLE"]
      flags = []
      creation_time = {timestamp}
      creation_host = "hallmark"
      segment_count = 1
      segment1 {{
        start_extent = 0
        extent_count = {item.extents}
        type = "striped"
        stripe_count = 1
        stripes = ["pv0", 0]
      }}
    }}
  }}
}}
"""


def _identifier(guid: UUID, what: str) -> str:
    """LVM's 32 letters in groups of 6-4-4-4-4-4-6, from the partition's GUID."""
    text = uuid5(guid, what).hex
    cuts = (0, 6, 10, 14, 18, 22, 26, 32)
    return "-".join(text[begin:end] for begin, end in pairwise(cuts))
