"""The stages between packages, or somebody's repository, and the files of the disk.

commit   the tree as one signed commit: made of ``rootfs.tar``, or fetched
sysroot  the commit, deployed: what the disk stage writes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from builder.errors import HallmarkError
from builder.ostree.repository import Commit
from builder.recipe.model import Ostree, Plan
from builder.rootfs.repositories import ResolvedRepository, trust
from builder.secrets import SecretReference, resolve
from builder.stages import StageReport, code_digest, read_stamp, run_stage
from builder.workspace import Artefacts, digest_json

__all__ = ["OstreeStages", "public_key"]


@dataclass(frozen=True, slots=True)
class OstreeStages:
    """The stages of one build.

    :param images: the directory of the recipes, which keys are relative to.
    :param commit: the commit of the recipe's lock.
    :param day: when the newest commit of the ref is taken (``versions.day_taken``).
    :param scratch: makes a fresh directory for a stage.
    :param reports: what happened to each stage is appended.
    """

    plan: Plan
    artefacts: Artefacts
    images: Path
    commit: str | None
    day: str
    scratch: Callable[[str], AbstractContextManager[Path]]
    reports: list[StageReport]

    def run(self) -> None:
        """Every stage that is not up to date.

        :raises HallmarkError: a key is missing or not the pinned one, a signature isn't good, or a stage
            failed.
        """
        key = public_key(self.plan, self.images)
        if self.plan.composed:
            assert key is not None, "what is composed is signed"
            self._composed(key)
        else:
            self._fetched(key)
        self._sysroot(key)

    @property
    def _system(self) -> Ostree:
        assert self.plan.ostree is not None
        return self.plan.ostree

    def _composed(self, key: str) -> None:
        from builder.ostree.compose import compose

        artefacts = self.artefacts
        rootfs = read_stamp(artefacts, "rootfs")
        assert rootfs is not None, "the commit stage follows the rootfs stage"

        def make(result: Path, work: Path) -> None:
            compose(
                artefacts.rootfs,
                self.plan,
                public_key=key,
                secret_key=self._secret_key(),
                destination=result,
                work=work,
                logs=artefacts.log,
            )

        made_of = {"rootfs": rootfs.model_dump_json(exclude={"seconds"})}
        self._commit(key, made_of, (artefacts.ostree, artefacts.commit), make)

    def _fetched(self, key: str | None) -> None:
        from builder.ostree.fetch import fetch

        artefacts = self.artefacts
        wanted = self._wanted()

        def make(result: Path, work: Path) -> None:
            fetch(self.plan, key=key, commit=wanted, destination=result, work=work, logs=artefacts.log)

        outputs = (artefacts.ostree, artefacts.commit, artefacts.packages, artefacts.sbom)
        self._commit(key, {"commit": wanted or "", "day": self.day}, outputs, make)

    def _commit(
        self,
        key: str | None,
        made_of: Mapping[str, str],
        outputs: Sequence[Path],
        fill: Callable[[Path, Path], None],
    ) -> None:
        """The commit stage; ``fill`` puts the outputs into the first directory, the second is its scratch."""

        def make() -> None:
            with self.scratch("commit") as work:
                result = work / "result"
                result.mkdir()
                fill(result, work)
                for target in outputs:
                    (result / target.name).replace(target)

        self.reports.append(
            run_stage(
                self.artefacts,
                "commit",
                title="ostree commit",
                inputs={
                    "plan": self.plan.digest(),
                    "key": digest_json(key),
                    "code": code_digest("builder/ostree"),
                    **made_of,
                },
                outputs=outputs,
                make=make,
            )
        )

    def _sysroot(self, key: str | None) -> None:
        from builder.ostree.deploy import deploy

        artefacts = self.artefacts

        def make() -> None:
            with self.scratch("sysroot") as work:
                result = work / "result"
                result.mkdir()
                commit = Commit.load(artefacts.commit)
                deploy(
                    artefacts.ostree,
                    self.plan,
                    commit=commit,
                    key=key,
                    destination=result,
                    work=work,
                    logs=artefacts.log,
                )
                (result / artefacts.sysroot.name).replace(artefacts.sysroot)

        before = read_stamp(artefacts, "commit")
        assert before is not None, "the sysroot stage follows the commit stage"
        self.reports.append(
            run_stage(
                artefacts,
                "sysroot",
                title="deployment",
                inputs={
                    "plan": self.plan.digest(),
                    "commit": before.model_dump_json(exclude={"seconds"}),
                    "key": digest_json(key),
                    "code": code_digest("builder/ostree", "builder/rootfs/bootfiles.py"),
                },
                outputs=(artefacts.sysroot,),
                make=make,
            )
        )

    def _wanted(self) -> str | None:
        """The commit that the recipe or its lock pins, which must agree; None: the newest of the ref."""
        pinned, locked = self._system.commit, self.commit
        if pinned is not None and locked is not None and pinned != locked:
            raise HallmarkError(
                f"the lock of {self.plan.recipe} has the commit {locked[:12]}, the recipe {pinned[:12]}",
                where=str(self._system.where),
                why="a locked build takes exactly the lock's commit",
                hint=f"run `hallmark lock {self.plan.recipe} --update`",
            )
        return pinned or locked

    def _secret_key(self) -> str:
        from builder.sampledistro.definition import load

        signing = self._system.signing_key
        assert signing is not None
        if signing.secret is not None:
            return resolve(SecretReference(signing.secret, str(signing.where)), "the key that signs commits")
        return load().secret_key.decode()


def public_key(plan: Plan, images: Path) -> str | None:
    """The pinned key of a plan's commits alone, armoured; None where a checksum is all that pins them.

    :param images: the directory of the recipes.
    :raises HallmarkError: the key file is missing or doesn't hold the pinned key.
    """
    system = plan.ostree
    assert system is not None and system.remote
    if system.key is None or system.fingerprint is None:
        return None
    place = ResolvedRepository(
        id=system.remote,
        key=images / system.key,
        fingerprint=system.fingerprint,
        baseurl=system.url,
        where=system.where,
    )
    return trust((place,))[0].key
