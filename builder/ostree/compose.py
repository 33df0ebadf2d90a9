"""A root filesystem's tar becomes an ostree commit, signed, in a repository that can be served as it is.

The work is done by this module as a program of its own (``builder.apart``): the tree and the signing key are
in memory only, and gone when it ends.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from builder import apart, log
from builder.errors import HallmarkError
from builder.ostree import repository, tree
from builder.ostree.repository import Commit, ostree
from builder.recipe.model import Plan
from builder.rootfs.compile import rpmdb_path
from builder.run import register_secret, run

__all__ = ["ARCHIVE", "COMMIT", "compose"]

#: What the compose stage leaves: the repository as a tar, and what its one commit is.
ARCHIVE, COMMIT = "ostree.tar", "commit.json"
#: zlib's level of the objects: 2 takes a third of the time of 6 and makes them a twentieth larger.
_ZLIB_LEVEL = 2
_TAR = ("tar", "--extract", "--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*")


@dataclass(frozen=True, slots=True)
class _Job:
    rootfs: str
    destination: str
    work: str
    log: str
    memory: int
    rpmdb: str
    ref: str
    remote: str
    url: str
    version: str
    subject: str
    timestamp: int
    public_key: str
    secret_key: str
    fingerprint: str


def compose(
    rootfs: Path,
    plan: Plan,
    *,
    public_key: str,
    secret_key: str,
    destination: Path,
    work: Path,
    logs: Path,
) -> Commit:
    """Make ``ostree.tar`` and ``commit.json`` in the directory ``destination``.

    :param rootfs: the whole system as a tar, with SELinux labels.
    :param public_key: armoured; machines verify commits with it.
    :param secret_key: armoured, without a passphrase; its fingerprint must be the one that is pinned.
    :param work: a directory for temporary files.
    :param logs: receives ``compose.log``.
    :raises HallmarkError: the tree can't be one of ostree, the key doesn't sign, a program failed.
    """
    system = plan.ostree
    assert system is not None and system.ref and system.remote and system.url and system.fingerprint
    log_file = logs / "compose.log"
    logs.mkdir(parents=True, exist_ok=True)
    log_file.write_bytes(b"")
    job = _Job(
        rootfs=str(rootfs.resolve()),
        destination=str(destination.resolve()),
        work=str(work.resolve()),
        log=str(log_file.resolve()),
        # The tree, and its objects once more, compressed.
        memory=apart.available_memory(2 * rootfs.stat().st_size),
        rpmdb=rpmdb_path(plan),
        ref=system.ref,
        remote=system.remote,
        url=system.url,
        version=plan.version,
        subject=f"{plan.title} {plan.version}",
        timestamp=plan.source_date_epoch,
        public_key=public_key,
        secret_key=secret_key,
        fingerprint=system.fingerprint,
    )
    with log.step("make and sign the commit"):
        apart.call(__name__, json.dumps(asdict(job)), what="composing the commit", log=log_file)
    commit = Commit.load(destination / COMMIT)
    log.info(f"commit {commit.checksum[:12]} of {commit.ref}")
    return commit


def _compose(job: _Job) -> None:
    log_file = Path(job.log)
    base = Path(job.work) / "compose"
    base.mkdir()
    apart.mount_memory(base, job.memory)
    root = base / "tree"
    root.mkdir()
    run((*_TAR, "--directory", root, "--file", job.rootfs), log_file=log_file)
    tree.convert(root, rpmdb=job.rpmdb)
    repo = base / "repo"
    repository.make(repo, mode="archive")
    ostree("config", "set", "archive.zlib-level", str(_ZLIB_LEVEL), repo=repo)
    checksum = ostree(
        "commit",
        f"--branch={job.ref}",
        f"--tree=dir={root}",
        f"--timestamp=@{job.timestamp}",
        f"--subject={job.subject}",
        f"--add-metadata-string=version={job.version}",
        "--bootable",
        repo=repo,
    ).strip()
    _sign(job, repo, checksum)
    repository.add_remote(repo, job.remote, url=job.url, ref=job.ref, key=job.public_key)
    commit = repository.inspect(repo, checksum, ref=job.ref, remote=job.remote)
    # Whoever serves the archive gets commits and nothing about remotes.
    ostree("remote", "delete", job.remote, repo=repo)
    repository.pack(repo, Path(job.destination) / ARCHIVE, timestamp=job.timestamp)
    commit.save(Path(job.destination) / COMMIT)


def _sign(job: _Job, repo: Path, checksum: str) -> None:
    """Sign as if it were the commit's time: the same commit gets the same signature."""
    # The agent's socket must have a short path (unix(7): 108 bytes); the key itself is in memory only.
    with tempfile.TemporaryDirectory(prefix="hallmark-gpg-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        apart.mount_memory(home, 4 << 20)
        home.chmod(0o700)
        try:
            _sign_at_home(job, repo, checksum, home)
        finally:
            run(("gpgconf", "--homedir", home, "--kill", "all"), check=False)
            run(("umount", home), check=False)


def _sign_at_home(job: _Job, repo: Path, checksum: str, home: Path) -> None:
    (home / "gpg.conf").write_text(f"faked-system-time {job.timestamp}!\nno-tty\nbatch\n")
    gpg = ("gpg", "--homedir", home, "--batch", "--quiet")
    taken = run((*gpg, "--import"), stdin=job.secret_key, check=False)
    listed = run((*gpg, "--with-colons", "--list-secret-keys", job.fingerprint), check=False)
    if taken.returncode or listed.returncode:
        raise HallmarkError(
            "the signing key is not the secret half of the pinned key",
            why=f"machines accept commits that the key {job.fingerprint} has signed, and no others",
            hint="ostree.signing_key must name an armoured OpenPGP secret key without a passphrase, and "
            "ostree.fingerprint its fingerprint",
            details=[*taken.stderr.splitlines(), *listed.stderr.splitlines()][-5:],
        )
    ostree("gpg-sign", f"--gpg-homedir={home}", checksum, job.fingerprint, repo=repo)


def _main(text: str) -> None:
    job = _Job(**json.loads(text))
    register_secret(job.secret_key)
    _compose(job)


if __name__ == "__main__":
    sys.exit(apart.serve(_main))
