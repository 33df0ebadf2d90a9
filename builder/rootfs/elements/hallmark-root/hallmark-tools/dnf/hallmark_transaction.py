"""A dnf 4 plugin: writes down what dnf decided, and holds it to a lock.

It runs in the interpreter of the build host's dnf and knows nothing of Hallmark. From the environment:

HALLMARK_OUT   the directory that gets ``transaction.json`` (every package with its repository and file) and,
               for an exact lock, ``packages.sha256`` (for sha256sum), ``verified`` when that was checked, and
               ``drift.json``
HALLMARK_LOCK  a JSON file: ``packages`` (those of the lock), ``mode`` and ``free`` (names of packages);
               without it dnf is free
               mode "exact": nothing but these packages exists, and all of them must
               mode "prefer": these packages rather than others, but of the names in ``free`` only the newest

dnf logs an exception of a plugin and goes on; only its own Error stops it. Whoever runs dnf must therefore
ask for ``transaction.json`` and ``verified``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import dnf
import dnf.exceptions
import hawkey


class HallmarkTransaction(dnf.Plugin):  # type: ignore[misc]  # dnf has no types
    """What dnf calls: ``sack`` when it knows all packages, then ``resolved``, then ``pre_transaction``."""

    name = "hallmark_transaction"

    def __init__(self, base: Any, cli: Any) -> None:
        super().__init__(base, cli)
        self.out = Path(os.environ["HALLMARK_OUT"])
        lock = os.environ.get("HALLMARK_LOCK")
        self.lock: Any = json.loads(Path(lock).read_text()) if lock else None

    def sack(self) -> None:
        if self.lock is None:
            return
        if self.lock["mode"] == "prefer":
            self._prefer()
        else:
            self._restrict()

    def resolved(self) -> None:
        packages = [_describe(item.pkg) for item in self.base.transaction if item.pkg.repoid != "@System"]
        packages.sort(key=_identity)
        (self.out / "transaction.json").write_text(json.dumps(packages, indent=1))
        if self.lock is not None and self.lock["mode"] == "exact":
            digests = {_identity(item): item["sha256"] for item in self.lock["packages"]}
            lines = [f"{digests[_identity(item)]}  {item['path']}\n" for item in packages]
            (self.out / "packages.sha256").write_text("".join(lines))

    def pre_transaction(self) -> None:
        """The files are here, their signatures are good; nothing is installed yet."""
        if self.lock is None:
            return
        check = ("sha256sum", "--check", "--strict", "--quiet", str(self.out / "packages.sha256"))
        done = subprocess.run(check, capture_output=True, text=True, check=False)
        if done.returncode:
            raise dnf.exceptions.Error(f"hallmark-digest: {done.stdout}{done.stderr}")
        (self.out / "verified").touch()

    def _restrict(self) -> None:
        everything = self.base.sack.query().available()
        kept, drift = everything.filter(empty=True), []
        for wanted in self.lock["packages"]:
            same = everything.filter(
                **{key: wanted[key] for key in ("name", "epoch", "version", "release", "arch")}
            )
            same = same.filter(reponame=wanted["repository"])
            if any(_is(package, wanted) for package in same):
                kept = kept.union(same)
                continue
            others = same or everything.filter(name=wanted["name"], arch=wanted["arch"]).latest()
            drift.append({"locked": wanted, "available": _summary(others[0]) if others else None})
        if drift:
            (self.out / "drift.json").write_text(json.dumps(drift))
            raise dnf.exceptions.Error(f"hallmark-drift: {len(drift)} packages")
        self.base.sack.add_excludes(everything.difference(kept))

    def _prefer(self) -> None:
        everything = self.base.sack.query().available()
        free = set(self.lock["free"])
        for name in free:
            versions = everything.filter(name=name)
            self.base.sack.add_excludes(versions.difference(versions.latest()))
        for wanted in self.lock["packages"]:
            if wanted["name"] in free:
                continue
            same = everything.filter(
                **{key: wanted[key] for key in ("name", "epoch", "version", "release", "arch")}
            )
            for package in same.filter(reponame=wanted["repository"]):
                self.base.goal.install(package, optional=True)


def _identity(item: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(item[key]) for key in ("name", "epoch", "version", "release", "arch"))


def _is(package: Any, wanted: dict[str, Any]) -> bool:
    """Whether a package is the locked one, as far as the metadata can tell; its file is checked later."""
    digest = _digest(package)
    return digest is None or digest == wanted["sha256"]


def _digest(package: Any) -> str | None:
    """The package's SHA-256 according to its repository, or None if that speaks of another algorithm."""
    kind, value = package.chksum
    return value.hex() if kind == hawkey.CHKSUM_SHA256 else None


def _summary(package: Any) -> dict[str, Any]:
    """The fields of a package that the metadata know."""
    known = {
        "name": package.name,
        "epoch": package.epoch,
        "version": package.version,
        "release": package.release,
        "arch": package.arch,
        "repository": package.repoid,
    }
    digest = _digest(package)
    return {**known, "sha256": digest} if digest else known


def _describe(package: Any) -> dict[str, Any]:
    return {**_summary(package), "path": package.localPkg()}
