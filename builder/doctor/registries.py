"""Whether the package registries answer, each asked through the client that will use it.

So mirrors and proxies of the host's own configuration count.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from builder.doctor.finding import Finding, answer

__all__ = ["registries"]


def registries() -> list[Finding]:
    return [_apt(), _pypi(), _npm()]


def _apt() -> Finding:
    """Fetch the signed release files of every source that apt is configured with, into a directory of our
    own."""
    name = "registry: apt"
    if shutil.which("apt-get") is None:
        return Finding(
            name, None, "this system has no apt", "the sample distribution is made on Debian or Ubuntu only"
        )
    with tempfile.TemporaryDirectory(prefix="hallmark-apt-") as directory:
        lists = Path(directory) / "lists"
        (lists / "partial").mkdir(parents=True)
        lists.chmod(0o755)
        Path(directory).chmod(0o755)
        options = [
            f"Dir::State::lists={lists}",
            "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=",
            "Acquire::Retries=1",
            "Acquire::http::Timeout=15",
            "Acquire::https::Timeout=15",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::Packages::DefaultEnabled=false",
            "APT::Update::Error-Mode=any",
            "APT::Sandbox::User=root",
        ]
        argv = ["apt-get", "-q", *(word for option in options for word in ("-o", option)), "update"]
        failure = answer(argv, env={"LC_ALL": "C"})
        releases = len(list(lists.glob("*Release")))
    if failure or not releases:
        detail = failure or "no source is configured"
        return Finding(
            name, False, detail, "check /etc/apt/sources.list(.d) and the proxy in /etc/apt/apt.conf.d"
        )
    return Finding(name, True, f"{releases} configured sources answer")


def _pypi() -> Finding:
    name = "registry: PyPI"
    options = ["--timeout", "15", "--retries", "1", "--disable-pip-version-check"]
    argv = [sys.executable, "-m", "pip", "index", "versions", "diskimage-builder", *options]
    failure = answer(argv)
    if failure:
        return Finding(
            name, False, failure, "check `pip config list`: the index, its certificate and the proxy"
        )
    return Finding(name, True, "the index that pip is configured with answers")


def _npm() -> Finding:
    name = "registry: npm"
    npm = shutil.which("npm", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if npm is None:
        remedy = "publishing to a local Azurite needs it: install hallmark[azurite] into this environment"
        return Finding(name, None, "npm is not installed", remedy)
    timeouts = ["--fetch-timeout=15000", "--fetch-retries=1", "--fetch-retry-mintimeout=500"]
    failure = answer([npm, "view", "azurite", "version", "--prefer-online", *timeouts])
    if failure:
        return Finding(name, None, failure, "check `npm config list`: registry, cafile and proxy")
    return Finding(name, True, "the registry that npm is configured with answers")
