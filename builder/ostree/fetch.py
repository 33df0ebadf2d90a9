"""Take a commit from a repository that exists: on a server, in a directory, or in an archive of one."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from builder import log
from builder.errors import CommandFailed, HallmarkError
from builder.ostree import repository
from builder.ostree.compose import ARCHIVE, COMMIT
from builder.ostree.repository import Commit, ostree
from builder.recipe.model import Ostree, Plan
from builder.rootfs import manifest, sbom

__all__ = ["PACKAGES", "SBOM", "fetch", "newest"]

PACKAGES, SBOM = "packages.json", "sbom.cdx.json"
_DATABASES = ("/usr/share/rpm", "/usr/lib/sysimage/rpm")


def fetch(plan: Plan, *, key: str, commit: str | None, destination: Path, work: Path, logs: Path) -> Commit:
    """Make ``ostree.tar``, ``commit.json``, ``packages.json`` and ``sbom.cdx.json`` in ``destination``.

    :param key: the public key that must have signed the commit, armoured.
    :param commit: take this one (64 hexadecimal digits), not the newest of the ref.
    :param work: a directory for temporary files.
    :param logs: receives ``fetch.log``.
    :raises HallmarkError: the repository isn't there or doesn't answer, it lacks the commit or one of its
        objects, or the pinned key has not signed it. Nothing is taken without the key's good signature.
    """
    system = plan.ostree
    assert system is not None and system.ref and system.remote and system.url
    logs.mkdir(parents=True, exist_ok=True)
    log_file = logs / "fetch.log"
    log_file.write_bytes(b"")
    source = system.source or system.url
    repo = work / "repo"
    repository.make(repo, mode="archive")
    remote = system.remote
    repository.add_remote(repo, remote, url=source, ref=system.ref, key=key)
    wanted = commit or system.ref
    try:
        with log.step(f"fetch the commit from {source}"):
            words: tuple[str | Path, ...] = ("pull", remote, wanted)
            if urlsplit(source).scheme == "file":
                here = _local(source, system, work)
                words = ("pull-local", f"--remote={remote}", "--gpg-verify", "--untrusted", here, wanted)
            ostree(*words, repo=repo, log=log_file)
            checksum = commit or ostree("rev-parse", f"{remote}:{system.ref}", repo=repo).strip()
            found = repository.inspect(repo, checksum, ref=system.ref, remote=remote)
            ostree("fsck", "--quiet", repo=repo, log=log_file)
    except CommandFailed as error:
        raise _explained(error, source, system, wanted) from error
    shutil.rmtree(repo / "refs/remotes" / remote, ignore_errors=True)
    ostree("refs", f"--create={system.ref}", checksum, repo=repo)
    ostree("remote", "delete", remote, repo=repo)
    _inventory(repo, checksum, plan, destination=destination, work=work)
    repository.pack(repo, destination / ARCHIVE, timestamp=found.timestamp)
    found.save(destination / COMMIT)
    log.info(f"commit {checksum[:12]} of {system.ref}, version {found.version or 'unknown'}")
    return found


def newest(plan: Plan, *, key: str, work: Path) -> Commit:
    """The commit that the ref names now, without its files.

    :raises HallmarkError: as ``fetch``.
    """
    system = plan.ostree
    assert system is not None and system.ref and system.remote and system.url
    source = system.source or system.url
    if urlsplit(source).scheme == "file":
        source = _local(source, system, work).as_uri()
    repo = work / "repo"
    repository.make(repo, mode="archive")
    repository.add_remote(repo, system.remote, url=source, ref=system.ref, key=key)
    try:
        ostree("pull", "--commit-metadata-only", system.remote, system.ref, repo=repo)
    except CommandFailed as error:
        raise _explained(error, source, system, system.ref) from error
    return repository.inspect(repo, f"{system.remote}:{system.ref}", ref=system.ref, remote=system.remote)


def _local(source: str, system: Ostree, work: Path) -> Path:
    path = Path(unquote(urlsplit(source).path))
    if path.is_dir():
        return path
    if not path.is_file():
        raise HallmarkError(
            f"there is neither an ostree repository nor an archive of one at {path}",
            where=str(system.where),
            hint="name the absolute path of a repository, or of a tar of one, in ostree.source",
        )
    return repository.unpack(path, work / "archive")


def _inventory(repo: Path, checksum: str, plan: Plan, *, destination: Path, work: Path) -> None:
    for place in _DATABASES:
        target = work / "rpmdb"
        shutil.rmtree(target, ignore_errors=True)
        try:
            ostree("checkout", "--user-mode", f"--subpath={place}", checksum, target, repo=repo)
        except CommandFailed:
            continue  # not in this place
        packages = manifest.read(rpmdb=target)
        manifest.write(packages, destination / PACKAGES)
        sbom.write(plan, packages, destination / SBOM)
        return
    raise HallmarkError(
        "the commit has no package database",
        where=checksum,
        why="nobody could say what is in the image",
        hint=f"take a commit that was made of packages, with the database in {' or '.join(_DATABASES)}",
    )


def _explained(error: CommandFailed, source: str, system: Ostree, wanted: str) -> HallmarkError:
    complaints = [line.lower() for line in error.details if "error:" in line]
    if any("signature" in line or "gpg" in line for line in complaints):
        return HallmarkError(
            f"the commit at {source} has no good signature of the pinned key",
            where=str(system.where),
            why="anybody could have made it; nothing was taken",
            hint=f"the vendor says which key signs its commits; {system.fingerprint} is pinned",
            details=error.details,
        )
    return HallmarkError(
        f"cannot take {wanted} from {source}",
        where=str(system.where),
        hint="is the repository whole, and does it have this ref? `ostree refs` and `ostree fsck` tell; "
        "ostree.source names another place that has it",
        details=error.details,
    )
