"""The graph of stages: the one place that knows their order.

    recipe → plan → rootfs → image → verdicts → certificate → release → catalog

An ostree system takes the way rootfs → commit → sysroot → image; a commit that exists is fetched instead.

Each stage is a function of the digests of its inputs (``builder.stages``); none reaches back.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from builder import log, versions
from builder.errors import HallmarkError
from builder.ostree.stages import OstreeStages
from builder.recipe import Plan, Recipe, find, load, name_of, plan, refuse, substitute, tell
from builder.recipe.lock import Lock, of_plan
from builder.recipe.model import BootstrapMode
from builder.rootfs import ResolvedRepository, check_host
from builder.stages import Published, StageReport, code_digest, read_stamp, run_stage
from builder.workspace import Artefacts, Workspace, atomic_file, digest_file, digest_json

if TYPE_CHECKING:
    from builder.sampledistro import SampleRepository

__all__ = ["Pipeline"]

# What the digest of a plan leaves open: it is made with these before the version is known.
_NO_VERSION = "0.19700101.0"


@dataclass(slots=True)
class Pipeline:
    """One recipe on its way to a release.

    ``mirrors`` is the mirrors file, if there is one; ``reports`` holds what happened to each stage so far.
    """

    workspace: Workspace
    recipe: str
    wanted_version: str | None = None
    mirrors: Path | None = None
    bootstrap: BootstrapMode | None = None
    reports: list[StageReport] = field(default_factory=list)
    _repositories: tuple[ResolvedRepository, ...] = ()
    _repository_digest: str = ""
    _day: str = ""

    def build(self) -> Artefacts:
        """Recipe to image: every stage that is not up to date.

        :raises HallmarkError: the recipe is wrong, or a stage failed.
        """
        loaded, draft = self.draft()
        lock = of_plan(draft, loaded.root)
        name = draft.recipe
        with self.workspace.lock(name):
            self._resolve_repositories(draft, images=loaded.root)
            self._day = versions.day_taken(draft, lock, now=datetime.now(UTC))
            inputs = digest_json(
                {
                    "plan": draft.digest(),
                    "repositories": self._repository_digest,
                    "day": self._day,
                    "code": code_digest("builder/rootfs", "builder/disk", "builder/image", *_also(draft)),
                    "epoch": os.environ.get("SOURCE_DATE_EPOCH", ""),
                }
            )
            major = draft.distribution.major
            choose = partial(versions.choose, self.workspace, name, major=major, inputs=inputs)
            artefacts = choose(wanted=self.wanted_version)
            before = len(self.reports)
            try:
                self._make(loaded, lock, artefacts)
            except Published as problem:
                if self.wanted_version is not None:
                    raise
                log.info(f"{problem.what}: the next number is taken")
                del self.reports[before:]
                artefacts = choose(fresh=True)
                self._make(loaded, lock, artefacts)
        return artefacts

    def _make(self, loaded: Recipe, lock: Lock | None, artefacts: Artefacts) -> None:
        """Every stage of one version that is not up to date."""
        version = artefacts.root.name
        final = plan(
            loaded,
            version=version,
            source_date_epoch=versions.epoch_of(version),
            bootstrap=self.bootstrap,
        )
        log.info(f"{final.recipe} {version}: {artefacts.root}")
        with atomic_file(artefacts.plan) as temporary:
            temporary.write_text(final.to_json())
        if final.ostree is None or final.composed:
            self._rootfs(final, artefacts, lock)
        if final.ostree is not None:
            OstreeStages(
                final,
                artefacts,
                images=loaded.root,
                commit=lock.ostree if lock else None,
                day=self._day,
                scratch=self._scratch,
                reports=self.reports,
            ).run()
        if final.container is not None:
            self._container(final, artefacts)
        else:
            self._image(final, artefacts)
            self._formats(final, artefacts)

    def draft(self) -> tuple[Recipe, Plan]:
        """The recipe as this site's mirrors make it, and its plan as far as it is known without a version.

        :raises HallmarkError: the recipe is wrong, or cannot be built on this host.
        """
        loaded = load(find(self.recipe))
        written = plan(loaded, version=_NO_VERSION, source_date_epoch=0)
        if written.ostree is not None and written.ostree.image is not None:
            raise HallmarkError(
                f"{written.recipe} comes as a bootable container, which can't be built",
                where=loaded.where("ostree"),
                why="only bootc installs one so that its registry updates it, and this host's system has no "
                "package of it; it can be checked, explained and planned",
                hint="take an ostree commit: `url`, `ref` and `key` instead of `image`, or `compose: true`",
            )
        # The recipe as it is written must be right; a mirror may hold less than the recipe promises.
        refuse(loaded, written, today=datetime.now(UTC).date())
        loaded = substitute(loaded, self.mirrors)
        draft = plan(loaded, version=_NO_VERSION, source_date_epoch=0, bootstrap=self.bootstrap)
        check_host(draft)
        tell(draft)
        return loaded, draft

    def repositories(self, draft: Plan, *, images: Path) -> tuple[ResolvedRepository, ...]:
        """The repositories of a plan, ready to be read; the sample distribution is made if it isn't there."""
        self._resolve_repositories(draft, images=images)
        return self._repositories

    def _resolve_repositories(self, draft: Plan, *, images: Path) -> None:
        resolved = []
        digests = []
        sample: SampleRepository | None = None
        for repository in draft.repositories:
            baseurl = repository.baseurl
            key = images / repository.key
            if repository.embedded is not None:
                sample = sample or self._sample()
                baseurl = sample.path.as_uri()
                key = sample.key
                digests.append(sample.digest)
            resolved.append(
                ResolvedRepository(
                    id=repository.id,
                    baseurl=baseurl,
                    metalink=repository.metalink,
                    key=key,
                    fingerprint=repository.fingerprint,
                    name=repository.name,
                    where=repository.where,
                    tls=repository.tls,
                )
            )
            digests.append(repository.fingerprint)
        self._repositories = tuple(resolved)
        self._repository_digest = digest_json(digests)

    def _sample(self) -> SampleRepository:
        from builder import sampledistro

        began = log.step_times()
        sample = sampledistro.ensure(cache=self.workspace.cache)
        ended = log.step_times()[len(began) :]
        seconds = sum(step.seconds for step in ended if step.depth == 0)
        self.reports.append(StageReport("sample-distribution", "done" if ended else "up to date", seconds))
        return sample

    def _rootfs(self, final: Plan, artefacts: Artefacts, lock: Lock | None) -> None:
        from builder.rootfs import build_rootfs

        def make() -> None:
            with self._scratch("rootfs") as work:
                result = work / "result"
                result.mkdir()
                build_rootfs(
                    final,
                    self._repositories,
                    destination=result,
                    work=work,
                    logs=artefacts.log,
                    cache=self.workspace.cache / "dnf",
                    lock=lock,
                )
                for target in (artefacts.packages, artefacts.sbom, artefacts.rootfs):
                    (result / target.name).replace(target)

        self.reports.append(
            run_stage(
                artefacts,
                "rootfs",
                title="root filesystem",
                inputs={
                    "plan": final.digest(),
                    "repositories": self._repository_digest,
                    "day": self._day,
                    "code": code_digest("builder/rootfs"),
                },
                outputs=(artefacts.rootfs, artefacts.packages, artefacts.sbom),
                make=make,
            )
        )

    def _image(self, final: Plan, artefacts: Artefacts) -> None:
        from builder.disk import assemble
        from builder.image.vhd import write_footer
        from builder.vm.acceleration import probe

        def make() -> None:
            force_tcg = False
            if final.disk.filesystem != "ext4" or final.disk.layout != "plain":
                force_tcg = probe(cache=self.workspace.cache).kind == "tcg"
            with self._scratch("disk") as work:
                disk = work / "disk.raw"
                assemble(
                    artefacts.rootfs if final.ostree is None else artefacts.sysroot,
                    final,
                    destination=disk,
                    work=work,
                    logs=artefacts.log,
                    force_tcg=force_tcg,
                )
                write_footer(disk, timestamp=final.source_date_epoch, unique_id=final.identifiers.vhd)
                disk.replace(artefacts.image)

        before = "rootfs" if final.ostree is None else "sysroot"
        files = read_stamp(artefacts, before)
        assert files is not None, f"the image stage follows the {before} stage"
        self.reports.append(
            run_stage(
                artefacts,
                "image",
                title="disk and image",
                inputs={
                    "plan": final.digest(),
                    before: files.model_dump_json(exclude={"seconds"}),
                    "code": code_digest("builder/disk", "builder/image"),
                },
                outputs=(artefacts.image,),
                make=make,
            )
        )

    def _container(self, final: Plan, artefacts: Artefacts) -> None:
        from builder.image import container, outputs

        target = artefacts.output(final.image_format)

        def make() -> None:
            with self._scratch("container") as work:
                made = work / target.name
                contents = container.write(artefacts.rootfs, made, final, work=work)
                record = outputs.OutputFile(
                    name=target.name,
                    format=final.image_format,
                    sha256=digest_file(made),
                    size=made.stat().st_size,
                    virtual_size=contents.unpacked,
                    digest=contents.digest,
                )
                made.replace(target)
                outputs.save((record,), artefacts.outputs)
                log.info(f"sha256:{contents.digest}, {record.size >> 20} MiB to pull")

        rootfs = read_stamp(artefacts, "rootfs")
        assert rootfs is not None, "the image stage follows the rootfs stage"
        self.reports.append(
            run_stage(
                artefacts,
                "image",
                title="container image",
                inputs={
                    "plan": final.digest(),
                    "rootfs": rootfs.model_dump_json(exclude={"seconds"}),
                    "code": code_digest("builder/image"),
                },
                outputs=(target, artefacts.outputs),
                make=make,
            )
        )

    def _formats(self, final: Plan, artefacts: Artefacts) -> None:
        from builder.image import outputs

        wanted = outputs.further(final)
        if not wanted:
            outputs.discard(artefacts)
            return

        def make() -> None:
            with self._scratch("formats") as work:
                outputs.write(artefacts, final, work=work)

        image = read_stamp(artefacts, "image")
        assert image is not None, "the formats stage follows the image stage"
        self.reports.append(
            run_stage(
                artefacts,
                "formats",
                title="further formats",
                inputs={
                    "plan": final.digest(),
                    "image": image.model_dump_json(exclude={"seconds"}),
                    "code": code_digest("builder/image"),
                },
                outputs=(*(artefacts.output(kind) for kind in wanted), artefacts.outputs),
                make=make,
            )
        )

    @contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        """A fresh directory for one stage; what an earlier, killed run left in its place is removed."""
        from builder.rootfs import sweep

        base = self.workspace.work / f"{self.recipe_name}-{name}"
        sweep(base)
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        try:
            yield Path(tempfile.mkdtemp(dir=base))
        finally:
            shutil.rmtree(base, ignore_errors=True)

    @property
    def recipe_name(self) -> str:
        """The full name of the variant that is built, whether it was given as a name or as a path."""
        return name_of(self.recipe)


def _also(plan: Plan) -> tuple[str, ...]:
    """Where else the code is that makes this plan's image."""
    return () if plan.ostree is None else ("builder/ostree",)
