"""Ask the repositories which packages a plan would install, without installing them.

The same dnf, configuration, plugin and keys as in a build; dnf downloads into the package cache, so that a
build afterwards finds the packages there, and checks every signature. Digests and keys are read from the
files.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from builder.errors import CommandFailed
from builder.recipe.lock import LockedPackage
from builder.recipe.model import Plan
from builder.rootfs import ResolvedRepository, explain, manifest, progress
from builder.rootfs.compile import dnf_conf, lock_orders, rpmdb_path
from builder.rootfs.dib import PLUGINS
from builder.rootfs.isolation import SHIMS, credentials, isolated, proxies
from builder.rootfs.repositories import TrustedRepository, trust
from builder.run import run
from builder.workspace import digest_file

__all__ = ["resolve"]


def resolve(
    plan: Plan,
    repositories: Sequence[ResolvedRepository],
    *,
    work: Path,
    log_file: Path,
    cache: Path,
    keep: Sequence[LockedPackage] | None = None,
    free: Collection[str] = (),
) -> tuple[LockedPackage, ...]:
    """The packages that a build of ``plan`` would install now, sorted by name and architecture.

    :param work: an empty directory for temporary files.
    :param log_file: receives everything that dnf said.
    :param keep: packages that stay as they are unless something needs another version of them.
    :param free: names of packages that must become the newest in spite of ``keep``.
    :raises HallmarkError: as ``build_rootfs``: an unknown package, a silent repository, a bad signature.
    """
    trusted = trust(repositories)
    asked = [request.name for request in plan.packages.install]
    solver = _Solver(plan, trusted, work=work, log_file=log_file, cache=cache)
    with progress.shown(log_file):
        if keep is None:
            return solver.solve(asked)
        preferred = solver.solve(asked, orders=lock_orders(keep, free=free))
        # Packages that were kept although nothing needs them any more drop out when only these are on offer.
        return solver.solve(asked, orders=lock_orders(preferred))


class _Solver:
    def __init__(
        self,
        plan: Plan,
        trusted: Sequence[TrustedRepository],
        *,
        work: Path,
        log_file: Path,
        cache: Path,
    ) -> None:
        self.plan, self.trusted, self.work, self.log_file, self.cache = plan, trusted, work, log_file, cache
        self.out, self.secrets = work / "out", work / "secrets"
        keys = work / "keys"
        for directory in (keys, self.secrets):
            directory.mkdir()
        self.config = work / "dnf.conf"
        text = dnf_conf(plan, trusted)
        for mark, place in (("@KEYS@", keys), ("@SECRETS@", self.secrets), ("@PLUGINS@", PLUGINS)):
            text = text.replace(mark, str(place))
        self.config.write_text(text, encoding="utf-8")
        for repository in trusted:
            (keys / f"{repository.id}.asc").write_text(repository.key, encoding="utf-8")
        (work / ".rpmmacros").write_text(f"%_dbpath {rpmdb_path(plan)}\n")
        log_file.write_bytes(b"")

    def solve(self, names: Sequence[str], *, orders: str | None = None) -> tuple[LockedPackage, ...]:
        """One run of dnf's solver; ``orders`` is what the plugin holds it to."""
        root = self.work / "root"
        for directory in (root, self.out):
            shutil.rmtree(directory, ignore_errors=True)
        (root / "var/cache").mkdir(parents=True)
        self.out.mkdir()
        # dnf puts its cache below the root.
        self.cache.mkdir(parents=True, exist_ok=True)
        (root / "var/cache/dnf").symlink_to(self.cache.resolve())
        environment = {
            **proxies(),
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.work),
            "LC_ALL": "C.UTF-8",
            "HALLMARK_OUT": str(self.out),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        settings: tuple[str, ...] = ()
        if orders is not None:
            lock = self.work / "lock.json"
            lock.write_text(orders, encoding="utf-8")
            environment["HALLMARK_LOCK"] = str(lock)
            # "best" insists on the newest version of what is asked for, kept or not.
            settings = ("--setopt=best=0",)
        argv = (
            *isolated(environment, secrets=self.secrets),
            *(str(SHIMS / "with-cache"), str(self.cache)),
            *("dnf", f"--config={self.config}", f"--installroot={root}", "--assumeyes", "--downloadonly"),
            *(f"--releasever={self.plan.distribution.releasever}", *settings, "install", *names),
        )
        try:
            run(argv, log_file=self.log_file, stdin=credentials(self.trusted))
        except CommandFailed as error:
            text = self.log_file.read_text(errors="replace")
            raise explain.failure(text, self.plan, self.trusted, log_file=self.log_file) from error
        return self._read()

    def _read(self) -> tuple[LockedPackage, ...]:
        chosen = json.loads((self.out / "transaction.json").read_text(encoding="utf-8"))
        paths = {item["path"]: item["repository"] for item in chosen}
        packages = manifest.read_files([Path(path) for path in paths])
        manifest.check_signatures(packages, self.trusted)
        locked = [
            LockedPackage(
                name=package.name,
                epoch=package.epoch,
                version=package.version,
                release=package.release,
                arch=package.arch,
                sha256=digest_file(Path(path)),
                repository=repository,
                key=package.signature_key or "",
            )
            for package, (path, repository) in zip(packages, paths.items(), strict=True)
        ]
        return tuple(sorted(locked, key=lambda item: (item.name, item.arch, item.nevra)))
