"""The disk: the root filesystem's files on a partitioned, bootable raw disk.

``builder.disk.assemble`` is the way in. It is loaded when it is asked for, because ``builder.disk.populate``
runs as a program of its own and needs little of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.disk.assembly import assemble

__all__ = ["assemble"]


def __getattr__(name: str) -> Any:
    if name == "assemble":
        from builder.disk import assembly

        return assembly.assemble
    raise AttributeError(name)
