"""Take a commit from a repository that exists: on a server, in a directory, or in an archive of one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from builder import log
from builder.errors import CommandFailed, HallmarkError
from builder.ostree import repository
from builder.ostree.compose import ARCHIVE, COMMIT
from builder.ostree.repository import Commit, ostree
from builder.recipe.model import Ostree, Plan
from builder.rootfs import manifest, sbom
from builder.secrets import in_memory, resolve_tls

__all__ = ["PACKAGES", "SBOM", "fetch", "newest"]

PACKAGES, SBOM = "packages.json", "sbom.cdx.json"
#: Errors of libcurl that are about TLS: handshake, certificates of either side, authorities; and a connection
#: that the server ends (55, 56), which is how one refuses a client's certificate in TLS 1.3.
_CURL_TLS = (35, 51, 53, 54, 55, 56, 58, 59, 60, 66, 77, 80, 82, 83, 90, 91)
_DATABASES = ("/usr/share/rpm", "/usr/lib/sysimage/rpm")


def fetch(
    plan: Plan, *, key: str | None, commit: str | None, destination: Path, work: Path, logs: Path
) -> Commit:
    """Make ``ostree.tar``, ``commit.json``, ``packages.json`` and ``sbom.cdx.json`` in ``destination``.

    :param key: the public key that must have signed the commit, armoured. None: nobody signs there, and
        ``commit`` says which one is taken.
    :param commit: take this one (64 hexadecimal digits), not the newest of the ref.
    :param work: a directory for temporary files.
    :param logs: receives ``fetch.log``.
    :raises HallmarkError: the repository isn't there or doesn't answer, it lacks the commit or one of its
        objects, the commit is one of another ref, or the pinned key has not signed it. Nothing is taken
        without a good signature or by another checksum.
    """
    assert key is not None or commit is not None, "the plan pins a key or a commit"
    logs.mkdir(parents=True, exist_ok=True)
    log_file = logs / "fetch.log"
    log_file.write_bytes(b"")
    with _source(plan, key=key, work=work) as source, log.step(f"fetch the commit from {source.address}"):
        found = source.look(commit, log_file)
        source.take(found, log_file)
    repo, checksum = source.repo, found.checksum
    shutil.rmtree(repo / "refs/remotes" / source.remote, ignore_errors=True)
    ostree("refs", f"--create={source.ref}", checksum, repo=repo)
    ostree("remote", "delete", source.remote, repo=repo)
    _inventory(repo, checksum, plan, destination=destination, work=work)
    repository.pack(repo, destination / ARCHIVE, timestamp=found.timestamp)
    found.save(destination / COMMIT)
    log.info(f"commit {checksum[:12]} of {source.ref}, version {found.version or 'unknown'}")
    return found


def newest(plan: Plan, *, key: str | None, work: Path) -> Commit:
    """The commit that the recipe pins, or else the one that the ref names now, without its files.

    :raises HallmarkError: as ``fetch``.
    """
    assert plan.ostree is not None
    with _source(plan, key=key, work=work) as source:
        return source.look(plan.ostree.commit, work / "look.log")


@dataclass(frozen=True, slots=True)
class _Source:
    """Somebody's repository as the remote of one that is made for the purpose.

    ``address`` is what the recipe calls it; ``signed``: nothing without a good signature is taken.
    """

    plan: Plan
    system: Ostree
    repo: Path
    remote: str
    ref: str
    address: str
    signed: bool

    def look(self, commit: str | None, log_file: Path) -> Commit:
        """What the commit says of itself; the newest of the ref for None. None of its files are fetched."""
        wanted = f"{self.ref}@{commit}" if commit else self.ref
        try:
            ostree("pull", "--commit-metadata-only", self.remote, wanted, repo=self.repo, log=log_file)
        except CommandFailed as error:
            raise self._refused(error, commit) from error
        return repository.inspect(
            self.repo,
            commit or f"{self.remote}:{self.ref}",
            ref=self.ref,
            remote=self.remote,
            verify=self.signed,
        )

    def take(self, commit: Commit, log_file: Path) -> None:
        """Fetch every object of a commit and look at each."""
        wanted = f"{self.ref}@{commit.checksum}"
        try:
            ostree("pull", self.remote, wanted, repo=self.repo, log=log_file)
            ostree("fsck", "--quiet", repo=self.repo, log=log_file)
        except CommandFailed as error:
            answer = self._no_answer(error)
            raise answer or HallmarkError(
                f"the repository at {self.address} has the commit {commit.checksum[:12]}, and not all of it",
                where=str(self.system.where),
                why="an object is missing or damaged; nothing was taken",
                hint="`ostree fsck` there tells which; ostree.source names another place that has it whole",
                details=_complaints(error),
            ) from error

    def _refused(self, error: CommandFailed, commit: str | None) -> HallmarkError:
        complaints = "\n".join(_complaints(error))
        answer = self._no_answer(error)
        if answer is not None:
            return answer
        if "ref binding" in complaints:
            return HallmarkError(
                f"the commit {str(commit)[:12]} is none of {self.ref}",
                where=str(self.system.where),
                why="it is signed as part of another line of systems",
                hint="correct ostree.commit or ostree.ref",
                details=_complaints(error),
            )
        if "signature" in complaints.lower() or "gpg" in complaints.lower():
            return HallmarkError(
                f"the commit at {self.address} has no good signature of the pinned key",
                where=str(self.system.where),
                why="anybody could have made it; nothing was taken",
                hint=f"the vendor says which key signs its commits; {self.system.fingerprint} is pinned",
                details=_complaints(error),
            )
        if commit is None:
            what, hint = f"no commit of {self.ref}", "`ostree refs` there lists what it has"
        elif commit == self.system.commit:
            what, hint = f"no commit {commit}", "correct ostree.commit, or leave it out to take the newest"
        else:
            what = f"no longer the commit {commit[:12]} of the lock"
            hint = f"`hallmark lock {self.plan.recipe} --update` takes the one that the ref names now"
        return HallmarkError(
            f"the repository at {self.address} has {what}",
            where=str(self.system.where),
            hint=f"{hint}; ostree.source names another place that has it",
            details=_complaints(error),
        )

    def _no_answer(self, error: CommandFailed) -> HallmarkError | None:
        """The server, if it is why nothing came. The numbers are curl's (libcurl-errors(3))."""
        text = "\n".join(_complaints(error))
        number = re.search(r"While fetching \S+: \[(\d+)\]", text)
        status = re.search(r"HTTP (\d{3})", text)
        if number is None and (status is None or status[1] == "404"):
            return None
        if number is None:
            what = f"refuses: HTTP {status[1] if status else ''}"
            hint = "a server that knows its clients needs ostree.client_certificate and ostree.client_key"
        elif self.address.startswith("https:") and int(number[1]) in _CURL_TLS:
            what = "cannot be trusted, or does not trust this client: TLS failed"
            hint = (
                "ostree.ca names who vouches for the server, if the system's authorities don't; "
                "ostree.client_certificate and ostree.client_key are what it knows its clients by"
            )
        else:
            what, hint = "does not answer", "is it up, and the address right? ostree.source names another one"
        return HallmarkError(
            f"the repository at {self.address} {what}",
            where=str(self.system.where),
            hint=hint,
            details=_complaints(error),
        )


@contextmanager
def _source(plan: Plan, *, key: str | None, work: Path) -> Iterator[_Source]:
    """The place that a plan's commit comes from. What its server asks of clients is in memory only."""
    system = plan.ostree
    assert system is not None and system.ref and system.remote and system.url
    address = system.source or system.url
    place = _local(address, system, work).as_uri() if urlsplit(address).scheme == "file" else address
    repo = work / "repo"
    repository.make(repo, mode="archive")
    tls = resolve_tls(system.tls, f"the ostree remote {system.remote!r}")
    with ExitStack() as stack:
        options = {
            option: stack.enter_context(in_memory(text))
            for option, text in (
                ("tls-ca-path", tls.authority),
                ("tls-client-cert-path", tls.certificate),
                ("tls-client-key-path", tls.key),
            )
            if text is not None
        }
        repository.add_remote(repo, system.remote, url=place, ref=system.ref, key=key, options=options)
        yield _Source(plan, system, repo, system.remote, system.ref, address, key is not None)


def _complaints(error: CommandFailed) -> list[str]:
    """What ostree said, without what it was told and how far it came."""
    return [line.strip() for line in error.details if "error:" in line]


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
    for number, place in enumerate(_DATABASES):
        target = work / f"rpmdb.{number}"
        try:
            ostree("checkout", "--user-mode", f"--subpath={place}", checksum, target, repo=repo)
        except CommandFailed:
            continue  # not in this place
        if not target.is_dir() or not any(target.iterdir()):
            continue  # a link to the other place, or left empty
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
