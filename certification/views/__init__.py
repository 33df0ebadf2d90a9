"""The ways to look at an image, in one table: each opens from the same arguments and closes the same way."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from certification.evidence import EvidenceLog
from certification.model import View
from certification.views.base import OpenView

__all__ = ["VIEW_CLASSES", "open_view"]

# Literal and lazily imported: libguestfs's binding is loaded by the disk view only.
VIEW_CLASSES: dict[View, str] = {
    "format": "certification.views.format:FormatView",
    "disk": "certification.views.guestfs_backend:DiskView",
    "booted": "certification.views.ssh:BootedView",
}


def open_view(
    view: View,
    *,
    image: Path,
    work: Path,
    evidence: EvidenceLog,
    ssh_config: Path | None = None,
    force_tcg: bool = False,
) -> OpenView:
    """Open ``view`` on ``image``; ``work`` is a directory for the view's own files.

    :raises HallmarkError: the image can't be looked at that way, with the reason.
    """
    module, _, name = VIEW_CLASSES[view].partition(":")
    opened: OpenView = getattr(import_module(module), name)(
        image=image, work=work, evidence=evidence, ssh_config=ssh_config, force_tcg=force_tcg
    )
    return opened
