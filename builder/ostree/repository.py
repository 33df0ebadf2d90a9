"""ostree's own program and what it keeps: repositories, commits, signatures, archives of repositories."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

from builder.errors import CommandFailed, HallmarkError
from builder.run import Arg, run
from builder.workspace import atomic_file

__all__ = ["Commit", "add_remote", "inspect", "make", "ostree", "pack", "unpack"]

_TAR = ("tar", "--format=posix", "--sort=name", "--numeric-owner", "--owner=0", "--group=0")
_PAX = "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"


class Commit(BaseModel):
    """One commit: ``commit.json``.

    ``checksum`` (64 hexadecimal digits) names it; ``timestamp`` is in seconds since 1970; ``version`` is what
    its metadata say; ``signers`` are the ids (16 hexadecimal digits, lower case) of the keys whose signatures
    are good.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    checksum: str
    ref: str
    version: str | None
    timestamp: int
    parent: str | None
    signers: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write ``commit.json``."""
        with atomic_file(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Commit:
        """Read ``commit.json`` back."""
        return cls.model_validate_json(path.read_bytes())


def ostree(
    *words: Arg,
    repo: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Run ostree; returns what it printed, "" with ``log``, which then has it.

    :raises HallmarkError: it is not installed, or it failed.
    """
    argv: list[Arg] = ["ostree", *words]
    if repo is not None:
        argv.append(f"--repo={repo}")
    clean = {"LC_ALL": "C.UTF-8", "TZ": "UTC", **(env or {})}
    return run(argv, env=clean, log_file=log, stdin=stdin).stdout


def make(repo: Path, *, mode: str) -> None:
    """An empty repository; ``mode`` is ``archive`` (to serve and to keep) or ``bare`` (to run from)."""
    repo.mkdir(parents=True)
    ostree("init", f"--mode={mode}", repo=repo)
    # It is thrown away when a build is killed, and written out as a whole when it isn't.
    ostree("config", "set", "core.fsync", "false", repo=repo)


def add_remote(
    repo: Path,
    name: str,
    *,
    url: str,
    ref: str,
    key: str | None,
    options: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Tell a repository where commits come from and who signs them.

    :param key: the public key, ASCII-armoured; no other is trusted, and nothing unsigned is accepted. None:
        nobody signs there, and whoever takes a commit must know its checksum.
    :param options: more settings of the remote (ostree.repo-config(5)).
    """
    trust = ("--no-gpg-verify",) if key is None else ("--gpg-import=/dev/stdin", "--set=gpg-verify=true")
    settings = (f"--set={option}={value}" for option, value in options.items())
    ostree("remote", "add", *trust, *settings, name, url, ref, repo=repo, stdin=key)


def inspect(repo: Path, checksum: str, *, ref: str, remote: str, verify: bool = True) -> Commit:
    """What a commit says of itself and who signed it.

    :param remote: the remote whose keys decide about signatures.
    :param verify: one of these keys must have signed it.
    :raises HallmarkError: there is no such commit, or no good signature of the remote's key.
    """
    try:
        checksum = ostree("rev-parse", checksum, repo=repo).strip()
        shown = ostree("show", f"--gpg-verify-remote={remote}", checksum, repo=repo)
        raw = ostree("show", "--raw", checksum, repo=repo)
    except CommandFailed as error:
        raise HallmarkError(
            f"the repository has no commit {checksum}", where=repo, details=error.details
        ) from None
    blocks = shown.split("Signature made")[1:]
    signers = [re.search(r"key ID ([0-9A-F]{16,40})", block) for block in blocks if "Good signature" in block]
    if verify and not signers:
        raise HallmarkError(
            f"the commit {checksum[:12]} has no good signature of the pinned key",
            where=repo,
            why="anybody could have made it",
            hint="the vendor says which key signs its commits; pin that key's fingerprint in the recipe",
            details=[line.strip() for line in shown.splitlines() if "ignature" in line],
        )
    timestamp = re.search(r"\buint64 (\d+)", raw)
    version = re.search(r"^Version:\s+(.+)$", shown, re.M)
    parent = re.search(r"^Parent:\s+([0-9a-f]{64})$", shown, re.M)
    return Commit(
        checksum=checksum,
        ref=ref,
        version=version[1].strip() if version else None,
        timestamp=int(timestamp[1]) if timestamp else 0,
        parent=parent[1] if parent else None,
        signers=tuple(found[1].lower() for found in signers if found),
    )


def pack(repo: Path, target: Path, *, timestamp: int) -> None:
    """Write a repository as a tar: the same bytes for the same objects. Locks and caches are left out."""
    for name in ("tmp", "state", "extensions"):
        for path in sorted((repo / name).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    (repo / ".lock").unlink(missing_ok=True)
    run((*_TAR, _PAX, f"--mtime=@{timestamp}", "--create", "--file", target, "--directory", repo, "."))


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a tar of a repository below ``target``; returns the repository, wherever in the tar it is.

    :raises HallmarkError: it is no tar, leads out of the directory, or holds no repository.
    """
    target.mkdir(parents=True, exist_ok=True)
    # GNU tar follows no link and no ".." out of the directory.
    done = run(("tar", "--extract", "--no-same-owner", "--file", archive, "--directory", target), check=False)
    if done.returncode:
        raise HallmarkError(
            "cannot read the archive of the ostree repository",
            where=archive,
            hint="it is a tar of the repository's directory, compressed or not: tar -C REPO -cf FILE .",
            details=done.stderr.splitlines()[-5:],
        )
    for directory, names, files in os.walk(target):
        names.sort()
        if "config" in files and {"objects", "refs"} <= set(names):
            return Path(directory)
    raise HallmarkError(
        "the archive holds no ostree repository",
        where=archive,
        why="a repository has a file `config` beside the directories `objects` and `refs`",
        hint="make it of the whole repository: tar -C REPO -cf FILE .",
    )
