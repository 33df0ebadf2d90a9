"""The further formats of an image: VHDX, qcow2 and OCI, all made from the VHD and all holding its disk.

``outputs.json`` records them beside the image; the certificate names their digests beside the VHD's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from builder import log
from builder.errors import HallmarkError
from builder.image import container_disk, oci, qcow2, vhdx_output
from builder.image.vhd import FOOTER_SIZE
from builder.recipe.model import OutputFormat, Plan
from builder.workspace import Artefacts, atomic_file, digest_file

__all__ = ["OutputFile", "certifiable", "discard", "further", "load", "save", "write"]


class OutputFile(BaseModel):
    """One further output. Sizes in bytes: ``size`` of the file, ``virtual_size`` of the disk in it.

    Of a container's image: ``virtual_size`` of the tars of its layers, ``digest`` (SHA-256 in hexadecimal) of
    its manifest, by which a registry knows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    format: OutputFormat
    sha256: str
    size: int
    virtual_size: int
    digest: str | None = None


_LIST = TypeAdapter(tuple[OutputFile, ...])


def further(plan: Plan) -> tuple[OutputFormat, ...]:
    """The formats besides the image itself."""
    return plan.outputs[1:]


def write(artefacts: Artefacts, plan: Plan, *, work: Path) -> None:
    """Make every further output of a plan beside its image, and ``outputs.json`` last.

    Each is compared with the image's disk before it gets its name.

    :param work: temporary files go here; on the same filesystem as the artefacts.
    :raises HallmarkError: a program failed, the disk is full, or an output holds another disk.
    """
    discard(artefacts)
    made: dict[OutputFormat, Path] = {}
    wanted = further(plan)
    packed = work / artefacts.output("qcow2").name
    if "qcow2" in wanted or "oci" in wanted:
        with log.step("qcow2"):
            qcow2.write(artefacts.image, packed)
        made["qcow2"] = packed
    if "vhdx" in wanted:
        made["vhdx"] = work / artefacts.output("vhdx").name
        with log.step("VHDX"):
            vhdx_output.write(artefacts.image, made["vhdx"], identity=plan.identifiers.vhd)
    if "oci" in wanted:
        made["oci"] = work / artefacts.output("oci").name
        with log.step("OCI archive"):
            container_disk.write(packed, made["oci"], description=_describe(plan))
    files = [_record(made[kind], kind, artefacts.image) for kind in wanted]
    for kind in wanted:
        made[kind].replace(artefacts.output(kind))
    save(files, artefacts.outputs)


def discard(artefacts: Artefacts) -> None:
    """Delete every further output and its stamp: what an earlier build of the same version left."""
    (artefacts.stages / "formats.json").unlink(missing_ok=True)
    artefacts.outputs.unlink(missing_ok=True)
    for kind in ("vhdx", "qcow2", "oci"):
        artefacts.output(kind).unlink(missing_ok=True)


def save(files: Sequence[OutputFile], path: Path) -> None:
    """Write ``outputs.json``."""
    data = [item.model_dump(mode="json", exclude_none=True) for item in files]
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[OutputFile, ...]:
    """Read ``outputs.json`` back; nothing when there is none.

    :raises HallmarkError: it can't be read.
    """
    try:
        return _LIST.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise HallmarkError(f"cannot read the list of outputs: {error.strerror}", where=path) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise HallmarkError(f"this is no list of outputs: {first['msg']}", where=path) from None


def certifiable(artefacts: Artefacts, plan: Plan) -> dict[str, str]:
    """The digests (SHA-256, by file name) of the further outputs, taken from the files now.

    :raises HallmarkError: one is missing, or not as the build left it.
    """
    recorded = {item.format: item for item in load(artefacts.outputs)}
    digests = {}
    for kind in further(plan):
        path, item = artefacts.output(kind), recorded.get(kind)
        if item is None or not path.is_file() or digest_file(path) != item.sha256:
            raise HallmarkError(
                f"the {kind} output is missing or not as the build left it",
                where=path,
                why="a certificate speaks for the bytes that the recipe produced",
                hint=f"build it again: hallmark build {plan.recipe}",
            )
        digests[path.name] = item.sha256
    return digests


def _record(path: Path, kind: OutputFormat, image: Path) -> OutputFile:
    status = path.stat()
    return OutputFile(
        name=path.name,
        format=kind,
        sha256=digest_file(path),
        size=status.st_size,
        virtual_size=image.stat().st_size - FOOTER_SIZE,
    )


def _describe(plan: Plan) -> oci.Description:
    return oci.Description(
        name=plan.recipe,
        version=plan.version,
        title=plan.title,
        summary=plan.summary,
        architecture=plan.architecture,
        epoch=plan.source_date_epoch,
        labels={},
        config={},
    )
