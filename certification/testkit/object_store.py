"""The object store of an ostree host, checked by the host itself: an errand, because it digests every byte of
the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from certification.parse.ostree import REPOSITORY
from certification.testkit import errand

if TYPE_CHECKING:
    from certification.views.base import GuestAccess

__all__ = ["begin", "collect"]

_NAME = "objects"


def begin(access: GuestAccess) -> str:
    """A shell line that starts ostree-fsck(1) in the background; a store that is whole stays as it is."""
    return errand.begin(access, _NAME, f"ostree fsck --quiet --repo={REPOSITORY}")


def collect(access: GuestAccess) -> str:
    """A shell line that waits for it and prints its status and what it says last."""
    return errand.collect(access, _NAME)
