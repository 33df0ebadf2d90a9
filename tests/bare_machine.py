"""Prove that the bootstrap installs all it needs: run it in a fresh Debian root.

    python -m tests.bare_machine [--root DIR] [--keep] [-s unit]

Makes a minimal Debian with debootstrap, clones the committed project into it and runs ``./ci/nox`` with the
other words there. The root shares this machine's kernel, devices, network and package registry settings, and
nothing else; it lives in its own mount and PID namespaces, so that nothing stays mounted or running.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from builder import log
from builder.errors import HallmarkError
from builder.run import die_with_parent, run
from builder.workspace import PROJECT

__all__ = ["main"]

# How this machine reaches its registries; absent files are passed over.
_SETTINGS = (
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/keyrings",
    "etc/pip.conf",
    "etc/npmrc",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/ssl/certs",
    "usr/local/share/ca-certificates",
    "usr/share/ca-certificates",
    "usr/share/keyrings",
    "root/.npmrc",
    "root/.config/pip",
)
_VARIABLES = ("proxy", "SSL", "_CA", "PIP_", "npm_config", "CERT")
_ENTER = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --rbind /sys "$1/sys"
root=$1; shift
exec chroot "$root" /usr/bin/env -i "$@"
"""


def main(arguments: list[str]) -> int:
    """Run the bootstrap in a fresh root; the value is its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="where to make the root (default: a temporary directory)")
    parser.add_argument("--keep", action="store_true", help="do not delete the root at the end")
    # The rest is for ci/nox; nox itself has taken the first ``--`` away.
    options, rest = parser.parse_known_args(arguments)
    log.configure()
    words = [word for word in rest if word != "--"] or ["-s", "unit"]
    root = options.root or Path(tempfile.mkdtemp(prefix="hallmark-bare-", dir="/var/tmp"))
    root = root.resolve()
    try:
        if not (root / "srv/hallmark").exists():
            with log.step("debootstrap"):
                _bootstrap(root)
            with log.step("clone the project"):
                run(["git", "clone", "--quiet", "--no-local", PROJECT, root / "srv/hallmark"])
        began = time.monotonic()
        status = _enter(root, ["./ci/nox", *words])
        log.info(
            f"./ci/nox {' '.join(words)} ended with status {status} after {time.monotonic() - began:.0f} s"
        )
        return status
    except HallmarkError as error:
        log.console.print(f"error: {error}", markup=False)
        return error.exit_code
    finally:
        if not options.keep:
            shutil.rmtree(root, ignore_errors=True)


def _bootstrap(root: Path) -> None:
    release = {}
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        release[name] = value.strip('"')
    if release.get("ID") != "debian":
        raise HallmarkError("the bare machine is made from this machine's Debian, and this is not one")
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"])
    codename = release["VERSION_CODENAME"]
    mirrors = [line.split()[0] for line in targets.stdout.splitlines() if line.split()[1:] == [codename]]
    if not mirrors:
        raise HallmarkError(f"apt knows no archive of {codename}", hint="run: apt-get update")
    root.mkdir(parents=True, exist_ok=True)
    run(
        [
            "debootstrap",
            "--variant=minbase",
            "--include=ca-certificates,apt-transport-https",
            codename,
            root,
            mirrors[0],
        ],
        timeout=900,
    )
    for name in _SETTINGS:
        source, target = Path("/") / name, root / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            run(["cp", "--archive", "--remove-destination", "--no-target-directory", source, target])
    (root / "var/tmp").mkdir(exist_ok=True)


def _enter(root: Path, command: list[str]) -> int:
    kept = {k: v for k, v in os.environ.items() if any(part in k for part in _VARIABLES)}
    variables = {
        **kept,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "CI": os.environ.get("CI", ""),
    }
    assignments = [f"{name}={value}" for name, value in variables.items()]
    words = ["sh", "-euc", 'cd /srv/hallmark && exec "$@"', "sh", *command]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    argv = [*namespaces, "sh", "-euc", _ENTER, "sh", str(root), *assignments, *words]
    return subprocess.run(argv, check=False, preexec_fn=die_with_parent).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
