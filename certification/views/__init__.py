"""The ways to look at an image, in one table: each opens from the same arguments and closes the same way."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from builder.errors import HallmarkError
from certification.evidence import EvidenceLog
from certification.model import View
from certification.recording import Recording
from certification.views.base import OpenView, is_archive

__all__ = ["VIEW_CLASSES", "open_view"]

# Literal and lazily imported: libguestfs's binding is loaded by the disk view only.
VIEW_CLASSES: dict[View, str] = {
    "format": "certification.views.format:FormatView",
    "disk": "certification.views.guestfs_backend:DiskView",
    "booted": "certification.views.ssh:BootedView",
}
_CONTAINER = "certification.views.container:ContainerView"


def open_view(
    view: View,
    *,
    image: Path | None,
    work: Path,
    evidence: EvidenceLog,
    ssh_config: Path | None = None,
    force_tcg: bool = False,
    test_seconds: float = 120.0,
    recording: Recording | None = None,
) -> OpenView:
    """Open ``view`` on ``image``; ``work`` is a directory for the view's own files.

    :param image: None: a running machine of which nobody has the image, or a recording.
    :param test_seconds: the deadline of a test; a command in a running guest gets less.
    :param recording: answers in the place of the image and of the guest.
    :raises HallmarkError: the image can't be looked at that way, with the reason.
    """
    if recording is not None:
        from certification.views.replay import ReplayView

        return ReplayView(recording, work=work, evidence=evidence)
    if image is None and view != "booted":
        raise HallmarkError(f"the {view} view needs an image")
    container = view == "disk" and image is not None and is_archive(image)
    module, _, name = (_CONTAINER if container else VIEW_CLASSES[view]).partition(":")
    opened: OpenView = getattr(import_module(module), name)(
        image=image,
        work=work,
        evidence=evidence,
        ssh_config=ssh_config,
        force_tcg=force_tcg,
        test_seconds=test_seconds,
    )
    return opened
