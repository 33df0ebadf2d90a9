"""Converting many packages on all processors, each result kept by the digest of its inputs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import multiprocessing
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from builder import log
from builder.errors import HallmarkError
from builder.run import die_with_parent
from builder.sampledistro import deb, dotnet
from builder.sampledistro.convert import control_requires, convert, handmade
from builder.sampledistro.definition import Definition, load
from builder.sampledistro.rpm import write
from builder.sampledistro.translate import parse_relation
from builder.workspace import atomic_directory, digest_json

__all__ = ["Job", "available_names", "convert_all", "converter_digest"]

_WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Job:
    """One source of packages: a Debian package, or the handmade package ``name``."""

    kind: Literal["deb", "handmade", "dotnet"]
    name: str = ""
    source: Path | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class _Context:
    root: Path
    available: frozenset[str]


_definition: Definition | None = None


@cache
def converter_digest() -> str:
    """Of the code that a converted package depends on."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for name in (
        "bytecode",
        "content",
        "convert",
        "deb",
        "definition",
        "dotnet",
        "paths",
        "rpm",
        "translate",
    ):
        digest.update((here / f"{name}.py").read_bytes())
    digest.update(importlib.metadata.version("rpm-rs").encode())
    return digest.hexdigest()


def convert_all(jobs: Sequence[Job], *, root: Path, definition: Definition) -> list[Path]:
    """Make the packages of every job; the results are files below ``root/converted``.

    :raises HallmarkError: a source is damaged, or a rule of the data finds nothing to act on.
    """
    controls = {job.source: deb.read_control(job.source) for job in jobs if job.kind == "deb" and job.source}
    available = available_names(controls.values(), definition)
    context = _Context(root, frozenset(available))
    general = digest_json([converter_digest(), definition.common_digest()])
    wanted: dict[Path, Job] = {}
    for job in jobs:
        name, requires = job.name, []
        if job.kind == "deb" and job.source:
            control = controls[job.source]
            if definition.names.drops(control["Package"]):
                continue
            name = definition.names.rpm(control["Package"])
            # Instead of the tables: a package is made again only when a change of them reaches it.
            requires = [
                str(item) for item in control_requires(control, definition=definition, available=available)
            ]
        key = digest_json([general, job.kind, name, job.sha256, requires, definition.package_digest(name)])[
            :32
        ]
        wanted[root / "converted" / key] = job
    missing = {target: job for target, job in wanted.items() if not target.is_dir()}
    _check_changes(controls.values(), definition)
    if missing:
        _run_jobs(missing, context, definition)
    return [rpm for target in wanted for rpm in sorted(target.glob("*.rpm"))]


def available_names(controls: Collection[dict[str, str]], definition: Definition) -> set[str]:
    """Debian names that a dependency can be satisfied with, virtual ones included."""
    result: set[str] = set()
    for control in controls:
        if definition.names.drops(control["Package"]):
            continue
        result.add(control["Package"])
        for part in filter(None, (text.strip() for text in control.get("Provides", "").split(","))):
            result.add(parse_relation(part)[0])
    return result


def _check_changes(controls: Collection[dict[str, str]], definition: Definition) -> None:
    names = {definition.names.rpm(control["Package"]) for control in controls}
    for control in controls:
        name = control["Package"]
        if name in names and definition.names.rpm(name) != name and not definition.names.drops(name):
            raise HallmarkError(
                f"another package is renamed to {name}, the Debian name of {definition.names.rpm(name)}",
                where=definition.root / "names.yaml",
                why="dependencies on that name would be satisfied by either",
                hint="choose another name",
            )
    for name in definition.changes:
        if name not in names:
            raise HallmarkError(
                f"the data changes {name}, but no Debian package becomes {name}",
                where=definition.root / "changes" / f"{name}.yaml",
                hint="correct names.yaml or debs.yaml, or delete the change",
            )


def _run_jobs(missing: dict[Path, Job], context: _Context, definition: Definition) -> None:
    (context.root / "converted").mkdir(exist_ok=True)
    # Large packages first: a large one at the end would keep one processor waiting.
    order = sorted(missing, key=lambda target: -_size(missing[target]))
    pool = ProcessPoolExecutor(
        _WORKERS,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(definition.root,),
    )
    try:
        futures = [pool.submit(_work, target, missing[target], context) for target in order]
        failures = []
        for done, future in enumerate(as_completed(futures), start=1):
            if (failure := future.result()) is not None:
                failures.append(failure)
            log.progress("converted", done, len(futures), unit="packages")
        if failures:
            first = failures[0]
            raise HallmarkError(
                first.what,
                where=first.where,
                why=first.why,
                hint=first.hint,
                details=[*first.details, *(f"also: {other.where}: {other.what}" for other in failures[1:10])],
            )
    except BrokenProcessPool:
        raise HallmarkError(
            "a worker process was killed while it converted packages",
            why="usually the kernel ended it because memory ran out",
            hint="free memory (each worker needs about 1 GB) and run again: finished packages are kept",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Failure:
    """A HallmarkError on its way between processes (exceptions with keyword arguments can't be pickled)."""

    what: str
    where: str | None
    why: str | None
    hint: str | None
    details: tuple[str, ...]


def _start_worker(root: Path) -> None:
    global _definition
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is None or os.getppid() != parent.pid:
        os._exit(1)  # it was killed before this process could ask to go with it
    _definition = load(root)


def _work(target: Path, job: Job, context: _Context) -> _Failure | None:
    definition = _definition or load()
    try:
        with atomic_directory(target) as temporary:
            if job.kind == "deb" and job.source:
                specs = convert(deb.read(job.source), definition=definition, available=context.available)
            elif job.kind == "dotnet" and job.source:
                extra = dotnet.content(job.name, job.source)
                package = definition.handmade[job.name].model_copy(
                    update={"version": dotnet.version(job.source)}
                )
                specs = [handmade(package, name=job.name, definition=definition, extra=extra)]
            else:
                specs = [handmade(definition.handmade[job.name], name=job.name, definition=definition)]
            for spec in specs:
                write(
                    spec,
                    temporary / spec.filename,
                    secret_key=definition.secret_key,
                    source_date=definition.identity.source_date,
                )
    except HallmarkError as error:
        where = str(error.where or job.source or job.name)
        return _Failure(error.what, where, error.why, error.hint, error.details)
    return None


def _size(job: Job) -> int:
    return job.source.stat().st_size if job.source else 0
