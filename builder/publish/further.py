"""The further outputs of a release (VHDX, qcow2, OCI): what is recorded of them; their way beside the VHD."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from azure.storage.blob import ContainerClient

from builder.errors import HallmarkError
from builder.image import outputs
from builder.publish import block, share
from builder.publish.gate import Certified
from builder.publish.parcel import Contents
from builder.publish.release import ImageFile
from builder.recipe.model import OutputFormat, Plan
from builder.workspace import Artefacts
from certification.certificate import must_resemble

__all__ = ["certified_outputs", "deliver", "upload"]


def certified_outputs(certified: Certified, artefacts: Artefacts, *, name: str) -> dict[Path, ImageFile]:
    """The outputs beside a certified VHD, with sizes from the build and digests from the certificate.

    :param name: what the VHD is published as; the others differ in their ending.
    :raises HallmarkError: the build's list of outputs can't be read, or isn't what was certified; or an
        output is missing or was changed since (of what only the SHA-256 is certified, that is seen when it
        is delivered).
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
        must_resemble(path, certified.certificate, name=path.name)
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


def upload(
    further: dict[Path, ImageFile],
    container: ContainerClient,
    *,
    plan: Plan,
    tags: dict[str, str],
    known: Mapping[OutputFormat, str],
) -> dict[OutputFormat, str]:
    """Put each output into a container as a block blob; their etags.

    :param tags: those of the release.
    :param known: the etags of their last verified states.
    :raises HallmarkError: as ``block.deliver``.
    """
    etags: dict[OutputFormat, str] = {}
    for path, output in further.items():
        contents = Contents(path, output.sha256, plan.recipe, plan.version, tags)
        blob = container.get_blob_client(output.name)
        etags[output.format] = block.deliver(blob, contents, known_etag=known.get(output.format))
    return etags
