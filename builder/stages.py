"""Stages that run once for the same inputs.

A stage's key is a digest of everything that it depends on: the digests of its inputs and of the code that
does the work. When a stage has ended well, a stamp records the key and what its outputs looked like. The
stage is up to date while both still hold; a kill before the stamp is written only means that the stage runs
again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from builder import log
from builder.errors import HallmarkError
from builder.run import may_go_on
from builder.workspace import PROJECT, Artefacts, atomic_file, digest_file, digest_json

__all__ = [
    "Output",
    "Published",
    "StageReport",
    "Stamp",
    "code_digest",
    "is_current",
    "output_of",
    "read_stamp",
    "run_stage",
]

#: The stages that decide the bytes of an image.
_OF_THE_IMAGE = frozenset({"rootfs", "commit", "sysroot", "image", "formats"})


class Published(HallmarkError):
    """A stage was about to make the image of a published version again. Nothing of it was changed."""


class Output(BaseModel):
    """How a file looked when its stage ended: ``size`` in bytes, ``mtime_ns`` since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    mtime_ns: int


class Stamp(BaseModel):
    """The record of a stage that ended well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    outputs: dict[str, Output]
    seconds: float


@dataclass(frozen=True, slots=True)
class StageReport:
    """What happened to a stage in this run; ``seconds`` is the time it took now."""

    name: str
    state: Literal["done", "up to date"]
    seconds: float


def output_of(path: Path) -> Output:
    """How a file looks now."""
    status = path.stat()
    return Output(size=status.st_size, mtime_ns=status.st_mtime_ns)


@cache
def code_digest(*places: str) -> str:
    """A digest of the source files below the named places of the project (``builder/rootfs``)."""
    files: list[Path] = []
    for place in places:
        path = PROJECT / place
        files += [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return digest_json(
        sorted((str(p.relative_to(PROJECT)), digest_file(p)) for p in files if "__pycache__" not in p.parts)
    )


def read_stamp(artefacts: Artefacts, name: str) -> Stamp | None:
    """The stamp of a stage, or None when it never ended well (an unreadable stamp counts as none)."""
    try:
        return Stamp.model_validate_json((artefacts.stages / f"{name}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def is_current(artefacts: Artefacts, name: str, key: str) -> bool:
    """Whether a stage ended well with this key and its outputs are as it left them."""
    stamp = read_stamp(artefacts, name)
    if stamp is None or stamp.key != key:
        return False
    for relative, output in stamp.outputs.items():
        path = artefacts.root / relative
        if not path.exists() or output_of(path) != output:
            return False
    return True


def run_stage(
    artefacts: Artefacts,
    name: str,
    *,
    title: str,
    inputs: Mapping[str, str],
    outputs: Sequence[Path],
    make: Callable[[], None],
) -> StageReport:
    """Run a stage, unless it is up to date.

    :param inputs: named digests; together they are the stage's key.
    :param outputs: files that ``make`` leaves below ``artefacts.root``.
    :raises Published: the stage decides bytes that are published, and isn't up to date.
    """
    key = digest_json(dict(inputs))
    began = time.monotonic()
    if is_current(artefacts, name, key):
        log.info(f"{title}: up to date")
        log.event("stage", name=name, state="up to date")
        return StageReport(name, "up to date", time.monotonic() - began)
    if name in _OF_THE_IMAGE and artefacts.release.exists():
        raise Published(
            f"version {artefacts.root.name} of {artefacts.root.parent.name} is published, and is not as its "
            f"build left it: {title}",
            where=artefacts.root,
            why="a published version must always mean the same bytes: what made them changed or is gone",
            hint="leave --version out: the next number is taken",
        )
    (artefacts.stages / f"{name}.json").unlink(missing_ok=True)
    with log.step(title):
        make()
        may_go_on()  # work whose programs were ended under it is not done
    seconds = time.monotonic() - began
    stamp = Stamp(
        stage=name,
        key=key,
        outputs={str(path.relative_to(artefacts.root)): output_of(path) for path in outputs},
        seconds=round(seconds, 3),
    )
    with atomic_file(artefacts.stages / f"{name}.json") as temporary:
        temporary.write_text(stamp.model_dump_json(indent=1) + "\n")
    log.event("stage", name=name, state="done", seconds=round(seconds, 3))
    return StageReport(name, "done", seconds)
