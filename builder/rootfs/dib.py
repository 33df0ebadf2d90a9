"""Run diskimage-builder: a plan and its repositories become a tar of the whole system.

The build lives in mount and PID namespaces of its own. Nothing is mounted where the host could see it, no
loop device is used, and when Hallmark dies (``kill -9`` included) the kernel ends every process and mount of
the build.
"""

from __future__ import annotations

import contextvars
import os
import platform
import shutil
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from builder import log, memory, workspace
from builder.errors import CommandFailed, HallmarkError
from builder.lock import drift
from builder.recipe.lock import Lock
from builder.recipe.model import Plan
from builder.rootfs import explain, manifest, progress, sbom
from builder.rootfs.compile import Element, compile_element
from builder.rootfs.isolation import SHIMS, credentials, isolated, proxies
from builder.rootfs.repositories import ResolvedRepository, TrustedRepository, trust
from builder.run import find_program, run
from builder.workspace import owned_directory

__all__ = ["PLUGINS", "Rootfs", "build_rootfs", "check_host", "sweep"]

_HERE = Path(__file__).resolve().parent
_ELEMENTS = _HERE / "elements"
#: The directory of dnf's plugin.
PLUGINS = _ELEMENTS / "hallmark-root/hallmark-tools/dnf"
_PREFIX = "rootfs."
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Building in memory spares the disk; a whole Enterprise Linux server tree plus dnf's own needs stays below.
_TMPFS_MEMORY = 8 << 30


@dataclass(frozen=True, slots=True)
class Rootfs:
    """What a build left: ``tar`` (the whole system), ``packages`` and ``sbom`` (JSON), and a count."""

    tar: Path
    packages: Path
    sbom: Path
    package_count: int


def build_rootfs(
    plan: Plan,
    repositories: Sequence[ResolvedRepository],
    *,
    destination: Path,
    work: Path,
    logs: Path,
    cache: Path | None = None,
    lock: Lock | None = None,
) -> Rootfs:
    """Make ``rootfs.tar``, ``packages.json`` and ``sbom.cdx.json`` in the directory ``destination``.

    :param work: temporary files go below it and are gone afterwards.
    :param logs: receives ``rootfs.log``, everything that diskimage-builder, dnf and dracut said.
    :param cache: downloaded packages stay here for the next build; without it they are temporary too.
    :param lock: install exactly its packages.
    :raises HallmarkError: not root, a key that is not the pinned one, a missing secret, an unknown package
        (with the recipe line that asks for it), a package that is not as the lock has it (with a table of
        what moved), a silent repository, a package with a bad signature, a full disk.
    """
    check_host(plan)
    trusted = trust(repositories)
    element = compile_element(plan, trusted, lock=lock)
    sweep(work)
    for directory in (destination, work, logs):
        directory.mkdir(parents=True, exist_ok=True)
    scratch = owned_directory(work, _PREFIX)
    try:
        return _build(
            plan,
            trusted,
            element,
            destination=destination,
            scratch=scratch,
            logs=logs,
            cache=cache,
            lock=lock,
        )
    except OSError as error:
        raise explain.os_error(error, destination) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sweep(work: Path) -> list[Path]:
    """Delete what killed builds left below ``work``; returns what was deleted.

    Only plain files can be left: the mounts of a killed build ended with its namespace.
    """
    return workspace.sweep(work, _PREFIX)


def _build(
    plan: Plan,
    trusted: Sequence[TrustedRepository],
    element: Element,
    *,
    destination: Path,
    scratch: Path,
    logs: Path,
    cache: Path | None,
    lock: Lock | None,
) -> Rootfs:
    elements = scratch / "elements"
    element.write(elements)
    tls = credentials(trusted)
    out, home, secrets = scratch / "out", scratch / "home", scratch / "secrets"
    packages_cache = cache or scratch / "cache"
    for directory in (out, home, secrets, packages_cache):
        directory.mkdir(parents=True, exist_ok=True)
    log_file = logs / "rootfs.log"
    log_file.write_bytes(b"")
    environment = _environment(
        scratch=scratch,
        elements=elements,
        out=out,
        home=home,
        cache=packages_cache,
        secrets=secrets,
        epoch=plan.source_date_epoch,
    )
    argv = (
        *isolated(environment, secrets=secrets),
        _disk_image_create(),
        *("-n", "-t", "tar", "--image-size", "1", "-o", str(destination / "rootfs"), element.name),
    )
    stop = threading.Event()
    with ThreadPoolExecutor(2, thread_name_prefix="rootfs") as pool:
        pool.submit(contextvars.copy_context().run, progress.follow, log_file, stop)
        inventory = pool.submit(
            _inventory, plan, trusted, lock=lock, out=out, destination=destination, stop=stop
        )
        try:
            run(argv, cwd=scratch, log_file=log_file, stdin=tls)
        except CommandFailed as error:
            report = out / "drift.json"
            if report.exists():
                raise drift.mismatch(drift.from_report(report), recipe=plan.recipe) from error
            raise explain.failure(
                log_file.read_text(errors="replace"), plan, trusted, log_file=log_file
            ) from error
        finally:
            stop.set()
    for problem in explain.scriptlet_failures(log_file.read_text(errors="replace")):
        log.warn(f"a package script failed: {problem}")
    return _result(inventory, destination)


def _inventory(
    plan: Plan,
    trusted: Sequence[TrustedRepository],
    *,
    lock: Lock | None,
    out: Path,
    destination: Path,
    stop: threading.Event,
) -> tuple[Path, Path, int]:
    """Write the manifest and the SBOM as soon as the package set is final, while the build goes on."""
    ready = out / "rpmdb"
    while not ready.is_dir():
        if stop.wait(0.1) and not ready.is_dir():
            raise HallmarkError("the build ended without a package database", where=ready)
    packages = manifest.read(rpmdb=ready, transaction=out / "transaction.json")
    manifest.check_signatures(packages, trusted)
    if lock is not None:
        manifest.check_lock(packages, lock)
    listing, bom = destination / "packages.json", destination / "sbom.cdx.json"
    manifest.write(packages, listing)
    sbom.write(plan, packages, bom)
    return listing, bom, len(packages)


def _result(inventory: Future[tuple[Path, Path, int]], destination: Path) -> Rootfs:
    listing, bom, count = inventory.result()
    tar = destination / "rootfs.tar"
    if not tar.is_file() or tar.stat().st_size == 0:
        raise HallmarkError("diskimage-builder ended well but left no tar", where=tar)
    return Rootfs(tar=tar, packages=listing, sbom=bom, package_count=count)


def _environment(
    *, scratch: Path, elements: Path, out: Path, home: Path, cache: Path, secrets: Path, epoch: int
) -> dict[str, str]:
    in_memory = memory.available() >= _TMPFS_MEMORY
    log.debug(f"building in {'memory' if in_memory else scratch}")
    return {
        **proxies(),
        "PATH": f"{SHIMS}:{Path(sys.executable).parent}:{_SYSTEM_PATH}",
        "HOME": str(home),
        "USER": "root",
        "LC_ALL": "C.UTF-8",
        "TMP_DIR": str(scratch),
        "ELEMENTS_PATH": f"{elements}:{_ELEMENTS}",
        "DIB_PYTHON_EXEC": sys.executable,
        "DIB_NO_TMPFS": "0" if in_memory else "1",
        "DIB_MIN_TMPFS": "1",
        "SOURCE_DATE_EPOCH": str(epoch),
        "HALLMARK_OUT": str(out),
        "HALLMARK_CACHE": str(cache),
        "HALLMARK_SECRETS": str(secrets),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _disk_image_create() -> str:
    beside = Path(sys.executable).parent / "disk-image-create"
    return str(beside) if beside.exists() else find_program("disk-image-create")


def check_host(plan: Plan) -> None:
    """Refuse a host that can't build this plan, before anything is fetched or made.

    :raises HallmarkError: not root, another architecture, or a program is missing.
    """
    if os.geteuid() != 0:
        raise HallmarkError(
            "building a root filesystem needs root",
            why="packages own files as many users, and their scripts run in the new root (chroot)",
            hint="run the command with sudo, or in a virtual machine or container where you are root",
        )
    if platform.machine() != plan.architecture:
        raise HallmarkError(
            f"cannot build {plan.architecture} on {platform.machine()}",
            why="the programs of the image run during the build",
            hint=f"build on a {plan.architecture} machine",
        )
    fetched = plan.ostree is not None and not plan.composed
    for program in (
        *(() if plan.ostree is None else ("ostree",)),
        *(() if fetched else ("dnf",)),
        *("rpm", "unshare", "gpg", "tar"),
    ):
        find_program(program)
