"""The further outputs of a release (VHDX, qcow2, OCI): what its record says of them; their way to a share."""

from __future__ import annotations

from pathlib import Path

from builder.errors import HallmarkError
from builder.image import outputs
from builder.publish import share
from builder.publish.gate import Certified
from builder.publish.release import ImageFile
from builder.workspace import Artefacts

__all__ = ["certified_outputs", "deliver"]


def certified_outputs(certified: Certified, artefacts: Artefacts, *, name: str) -> dict[Path, ImageFile]:
    """The outputs beside a certified VHD, with sizes from the build and digests from the certificate.

    :param name: what the VHD is published as; the others differ in their ending.
    :raises HallmarkError: the build's list of outputs can't be read, or isn't what was certified.
    """
    recorded = {item.name: item for item in outputs.load(artefacts.outputs)}
    found = {}
    for path, sha256 in certified.further().items():
        item = recorded.get(path.name)
        if item is None or item.sha256 != sha256:
            raise HallmarkError(
                f"{path.name} isn't the one that was certified",
                where=artefacts.outputs,
                why="the release record and the catalog would tell consumers another digest",
                hint="build and certify again",
            )
        found[path] = ImageFile(
            name=Path(name).with_suffix("".join(path.suffixes)).name,
            format=item.format,
            size=item.size,
            virtual_size=item.virtual_size,
            sha256=sha256,
        )
    return found


def deliver(further: dict[Path, ImageFile], directory: Path) -> None:
    """Copy the outputs into a directory, each compared with its digest before it gets its name.

    :raises HallmarkError: as ``share.deliver``.
    """
    for path, output in further.items():
        share.deliver(path, directory / output.name, sha256=output.sha256)
