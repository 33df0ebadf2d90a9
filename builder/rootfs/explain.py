"""From the log of a failed build to an error that names the recipe line.

The texts are those of dnf 4, libdnf, librepo and rpm 4, and the ``hallmark-error:`` lines of our hooks.
"""

from __future__ import annotations

import errno
import fnmatch
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from builder.errors import HallmarkError
from builder.recipe.model import Origin, Plan
from builder.rootfs.repositories import TrustedRepository

__all__ = ["failure", "os_error", "scriptlet_failures"]

_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \| ?")
_TAIL = 25
_DISK_FULL_HINT = "free space (build/, the package cache) or point --build-dir at a larger disk"


def failure(
    text: str, plan: Plan, repositories: Sequence[TrustedRepository], *, log_file: Path | None = None
) -> HallmarkError:
    """The error that explains a build log; without a known cause it carries the log's last lines."""
    lines = [_STAMP.sub("", line).rstrip() for line in text.splitlines()]
    for explain in _EXPLANATIONS:
        error = explain(lines, plan, repositories)
        if error is not None:
            if log_file is not None:
                error.details = (*error.details, f"log: {log_file}")
            return error
    return HallmarkError(
        "diskimage-builder failed",
        where=log_file,
        why="no root filesystem was made",
        hint="the first error in the log is the cause; what follows it is clean-up",
        details=[line for line in lines if line][-_TAIL:],
    )


def scriptlet_failures(text: str) -> list[str]:
    """Package scripts that failed although dnf went on: the image may lack what they do."""
    # Stage one is thrown away: only what happens in the image's own root matters.
    image = text.rpartition("hallmark-step: stage two")[2]
    lines = [_STAMP.sub("", line).strip() for line in image.splitlines()]
    return list(dict.fromkeys(_matching(lines, r"scriptlet failed, exit status|^Error in .* scriptlet")))


def os_error(error: OSError, directory: Path) -> HallmarkError:
    """The error for a failed file operation of ours below ``directory``."""
    where = error.filename or directory
    if error.errno == errno.ENOSPC:
        return HallmarkError(
            "the disk is full", where=where, why="no root filesystem was made", hint=_DISK_FULL_HINT
        )
    return HallmarkError(f"cannot write the root filesystem: {error.strerror}", where=where)


def _disk_full(lines: list[str], plan: Plan, _: Sequence[TrustedRepository]) -> HallmarkError | None:
    found = _matching(
        lines, r"No space left on device|At least \d+[KMG]?i?B? more space needed|needs \d+\w+ more space"
    )
    if not found:
        return None
    return HallmarkError(
        "the disk is full", why="no root filesystem was made", hint=_DISK_FULL_HINT, details=found[:3]
    )


def _own(lines: list[str], plan: Plan, _: Sequence[TrustedRepository]) -> HallmarkError | None:
    for line in lines:
        if line.startswith("hallmark-error: "):
            return HallmarkError(
                line.removeprefix("hallmark-error: "),
                where=f"recipe {plan.recipe}",
                why="the image would not be what the recipe says",
                hint="the log says more before that line; `hallmark plan` shows what was asked for",
            )
    return None


def _unknown_packages(
    lines: list[str], plan: Plan, repositories: Sequence[TrustedRepository]
) -> HallmarkError | None:
    excluded = _captured(lines, r"All matches were filtered out by exclude filtering for argument: (\S+)")
    if excluded:
        where = _origin(plan, excluded[0])
        return HallmarkError(
            f"the package {excluded[0]!r} is both asked for and excluded",
            where=str(where) if where else f"recipe {plan.recipe}",
            hint="take it out of `install` or out of `exclude`",
        )
    missing = list(dict.fromkeys(_captured(lines, r"No match for argument: (.+)")))
    missing += list(_captured(lines, r"Module or Group '(.+?)' (?:is not available|does not exist)"))
    if not missing:
        return None
    details = [f"{_origin(plan, name) or plan.recipe}: {name}" for name in missing]
    where = _origin(plan, missing[0])
    plural = "s" if len(missing) > 1 else ""
    return HallmarkError(
        f"no repository has the package{plural} {', '.join(missing)}",
        where=str(where) if where else f"recipe {plan.recipe}",
        why="the image would lack what the recipe asks for; nothing was installed",
        hint=f"correct the name, or add the repository that has it (searched: {_ids(repositories)})",
        details=details if len(missing) > 1 else (),
    )


def _repository_down(
    lines: list[str], plan: Plan, repositories: Sequence[TrustedRepository]
) -> HallmarkError | None:
    for name in _captured(lines, r"Failed to download metadata for repo '([^']+)'"):
        repository = next((item for item in repositories if item.id == name), None)
        reasons = _matching(
            lines, r"Curl error|Status code: \d+|Cannot download repomd|Cannot prepare internal mirrorlist"
        )
        return HallmarkError(
            f"the repository {name!r} does not answer",
            where=str(repository.where) if repository and repository.where else name,
            why="without its metadata nothing can be installed",
            hint="check the address, the network and the proxy; `hallmark doctor` tests the repositories",
            details=[*([f"address: {repository.address}"] if repository else []), *reasons[:4]],
        )
    return None


def _refused(lines: list[str], plan: Plan, repositories: Sequence[TrustedRepository]) -> HallmarkError | None:
    """A server that answers, but not to this client; the texts are curl's (OpenSSL or GnuTLS) and HTTP's."""
    reasons = _matching(
        lines,
        r"alert (?:certificate required|handshake failure|bad certificate|unknown ca|certificate expired)"
        r"|TLS fatal alert|Status code: 40[13]|Curl error \((?:58|60|77)\)",
    )
    name = next(iter(_captured(lines, r"Failed to download metadata for repo '([^']+)'")), None)
    repository = next((item for item in repositories if item.id == name), None)
    if repository is not None and not reasons:
        # TLS 1.3 refuses after the handshake: a client that is sending by then sees a broken connection only.
        reasons = _matching(lines, r"Curl error \((?:35|55|56)\): .* for https:")
    if not reasons or repository is None:
        return None
    if any("Curl error (60)" in reason for reason in reasons):
        hint = "name the server's authority as the repository's `ca`"
        what = f"the server of repository {name!r} has a certificate of an unknown authority"
    elif repository.tls.certificate is None:
        what = f"the repository {name!r} refuses a client without a certificate"
        hint = "set the repository's `client_certificate` and `client_key`, or name a mirror that needs none"
    else:
        what = f"the repository {name!r} refuses this client certificate"
        hint = f"check that {repository.tls.certificate.text} is entitled to this content and current"
    return HallmarkError(
        what,
        where=str(repository.where) if repository.where else name,
        why="nothing can be installed from it",
        hint=hint,
        details=[f"address: {repository.address}", *dict.fromkeys(reasons[:3])],
    )


def _bad_package(
    lines: list[str], plan: Plan, repositories: Sequence[TrustedRepository]
) -> HallmarkError | None:
    patterns = (
        r"GPG check FAILED|GPG Keys (?:are configured|listed)|Public key for .+ is not (?:installed|trusted)"
        r"|Package \S+ is not signed|incorrect checksum|Checksum doesn't match|checksum doesn't match"
        r"|hallmark-digest|\.rpm: FAILED|Problem opening package|does not verify"
        r"|Downloading successful, but checksum"
    )
    found = list(dict.fromkeys(_matching(lines, patterns)))
    if not found:
        return None
    return HallmarkError(
        "a package is damaged or not signed by the pinned key",
        where=str(repositories[0].where)
        if repositories and repositories[0].where
        else f"recipe {plan.recipe}",
        why="it could have been changed on its way; nothing was installed",
        hint="fetch the package anew from its vendor; pin another key only if the vendor really changed it",
        details=[
            *found[:6],
            *(f"pinned: {item.fingerprint} for repository {item.id}" for item in repositories),
        ],
    )


def _unresolvable(
    lines: list[str], plan: Plan, repositories: Sequence[TrustedRepository]
) -> HallmarkError | None:
    problems = _matching(
        lines,
        r"nothing provides |conflicts with |conflicts between attempted installs "
        r"|cannot install the best candidate|package \S+ is filtered out",
    )
    if not problems or not any("Problem" in line or line.startswith("Error:") for line in lines):
        return None
    named = " ".join(problems)
    asked = next(
        (item for item in plan.packages.install if re.search(rf"\b{re.escape(item.name)}-\d", named)), None
    )
    return HallmarkError(
        "the packages do not fit together",
        where=str(asked.where) if asked else f"recipe {plan.recipe}",
        why="nothing was installed",
        hint=f"add the repository that has what is missing (searched: {_ids(repositories)})",
        details=problems[:12],
    )


_EXPLANATIONS: tuple[Callable[[list[str], Plan, Sequence[TrustedRepository]], HallmarkError | None], ...] = (
    _disk_full,
    _refused,
    _repository_down,
    _unknown_packages,
    _bad_package,
    _unresolvable,
    _own,
)


def _origin(plan: Plan, name: str) -> Origin | None:
    for request in plan.packages.install:
        if request.name == name or fnmatch.fnmatchcase(name, request.name) or request.name == f"@{name}":
            return request.where
    return None


def _ids(repositories: Sequence[TrustedRepository]) -> str:
    return ", ".join(repository.id for repository in repositories) or "none"


def _matching(lines: list[str], pattern: str) -> list[str]:
    compiled = re.compile(pattern)
    return [line.strip() for line in lines if compiled.search(line)]


def _captured(lines: list[str], pattern: str) -> list[str]:
    compiled = re.compile(pattern)
    return [match.group(1).strip() for line in lines if (match := compiled.search(line))]
