"""Debian packages through apt, with a state of its own: the host's package database is not touched."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import log
from builder.errors import CommandFailed, HallmarkError
from builder.run import find_program, run

__all__ = ["Apt", "DebFile"]

_URI = re.compile(
    r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE
)
_HOST_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
_TIMEOUT = 900.0
_CONFIGURATION = """\
Dir::State "{root}/state";
Dir::State::lists "{root}/state/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Cache::archives "{root}/cache/archives";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Dir::Log "{root}/log";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Post-Invoke-Success {{}};
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::ForceHash "SHA256";
DPkg::Post-Invoke {{}};
"""


@dataclass(frozen=True, slots=True)
class DebFile:
    """A package that apt chose: its file name in apt's archive directory, size in bytes, and SHA-256."""

    file: str
    size: int
    sha256: str


class Apt:
    """apt-get with its own lists, archives and (empty) package database below ``root``.

    :param sources: one-line-style source entries; default: those of the host for this Debian release.
    :raises HallmarkError: apt is not installed, or the host has no sources of the release.
    """

    def __init__(
        self, root: Path, *, release: str, architecture: str, sources: Sequence[str] | None = None
    ) -> None:
        find_program(
            "apt-get",
            hint="make the sample distribution on Debian (or in a Debian container with the same cache)",
        )
        self.root = root.resolve()
        self.archives = self.root / "cache" / "archives"
        for directory in (
            self.root / "state" / "lists" / "partial",
            self.archives / "partial",
            self.root / "log",
        ):
            directory.mkdir(parents=True, exist_ok=True)
        (self.root / "status").write_text("")
        lines = list(sources) if sources is not None else host_sources(release)
        (self.root / "sources.list").write_text("".join(f"{line}\n" for line in lines))
        self._config = self.root / "apt.conf"
        self._config.write_text(_CONFIGURATION.format(root=self.root, architecture=architecture))

    def update(self) -> None:
        """Fetch the package lists.

        :raises HallmarkError: no package list could be fetched.
        """
        self._run("update")

    def resolve(self, names: Sequence[str]) -> list[DebFile]:
        """The packages and everything that they depend on.

        :raises HallmarkError: a name is unknown or the set can't be installed together.
        """
        # apt leaves out what it has fetched already, so it is shown an archive directory without anything.
        nothing = self.root / "cache" / "empty"
        (nothing / "partial").mkdir(parents=True, exist_ok=True)
        result = self._run(
            "--option", f"Dir::Cache::archives={nothing}", "--yes", "--print-uris", "install", *names
        )
        files = [
            DebFile(match["file"], int(match["size"]), match["sha256"]) for match in _URI.finditer(result)
        ]
        if not files:
            raise HallmarkError("apt chose no package", details=result.splitlines()[-10:])
        return files

    def download(self, names: Sequence[str]) -> None:
        """Fetch what :meth:`resolve` gives and isn't there yet; apt checks the digests."""
        self._run("--yes", "--download-only", "install", *names)

    def _run(self, *arguments: str) -> str:
        try:
            return run(
                ["apt-get", "--quiet=2", *arguments],
                env={"APT_CONFIG": str(self._config), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
                timeout=_TIMEOUT,
            ).stdout
        except CommandFailed as error:
            raise _explain(error, self.root / "sources.list") from None


def host_sources(release: str, *, paths: Sequence[Path] = _HOST_SOURCES) -> list[str]:
    """The host's apt sources for one release of Debian, as one-line entries (sources.list(5)).

    Sources of other suites (third-party repositories) are left out, so the result is the same everywhere.
    """
    files: list[Path] = []
    for path in paths:
        files += sorted(path.glob("*.list")) + sorted(path.glob("*.sources")) if path.is_dir() else [path]
    lines: list[str] = []
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text()
        lines += _one_line(text, release) if file.suffix == ".list" else _deb822(text, release)
    if not lines:
        raise HallmarkError(
            f"the host has no apt sources for Debian {release}",
            where=paths[0],
            why="the sample distribution is made from the packages of that release",
            hint="run on Debian 12, or put `deb [signed-by=…] <mirror> "
            f"{release} main` into a file and name it in HALLMARK_APT_SOURCES",
        )
    return list(dict.fromkeys(lines))


def _is_suite(suite: str, release: str) -> bool:
    return suite == release or suite in (f"{release}-updates", f"{release}-security", f"{release}/updates")


def _one_line(text: str, release: str) -> list[str]:
    result = []
    for line in text.splitlines():
        match = re.match(
            r"^\s*deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<rest>.*)$", line
        )
        if match and _is_suite(match["suite"], release) and "main" in match["rest"].split():
            options = f"[{match['options'].strip()}] " if match["options"] else ""
            result.append(f"deb {options}{match['uri']} {match['suite']} main")
    return result


def _deb822(text: str, release: str) -> list[str]:
    result = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        if "main" not in fields.get("components", "").split():
            continue
        signed = fields.get("signed-by", "")
        # A key in the stanza itself can't be said on one line; Debian's keyrings are then the default.
        options = f"[signed-by={signed}] " if signed.startswith("/") and " " not in signed else ""
        result += [
            f"deb {options}{uri} {suite} main"
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
            if _is_suite(suite, release)
        ]
    return result


def _fields(stanza: str) -> Mapping[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t") and name:
            fields[name] += " " + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _explain(error: CommandFailed, sources: Path) -> HallmarkError:
    output = error.output
    log.debug(f"failed: {shlex.join(error.argv)}")
    lines = [line for line in output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    details = lines[-8:] or error.details
    if re.search(r"Unable to locate package|has no installation candidate", output):
        return HallmarkError(
            "the Debian release has no such package",
            details=details,
            hint="correct images/sample-distribution/debs.yaml",
        )
    if re.search(
        r"Failed to fetch|Could not (resolve|connect)|Temporary failure|Unable to fetch|no longer", output
    ):
        return HallmarkError(
            "the Debian package registry can't be reached",
            where=sources,
            why="the sample distribution is made from Debian packages; those fetched before are kept",
            hint="check the network, the proxy and the host's apt sources (`apt-get update` must work)",
            details=details,
        )
    if "No space left" in output:
        return HallmarkError(
            "the disk is full",
            where=sources.parent,
            hint="the package cache needs about 2 GB",
            details=details,
        )
    return error
