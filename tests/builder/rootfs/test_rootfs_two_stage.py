"""The sample made in two stages: its own rpm installs it, and what comes out is the image of a direct build.

The sample's rpm is of the build host's version, so its database can't tell who wrote it. A package that only
stage one has therefore tells rpm to leave one directory out; the build host's rpm never hears of it.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.lock.resolve import resolve
from builder.recipe.lock import Lock, inputs_digest
from builder.recipe.model import Bootstrap, Origin, PackageRequest, Packages, Plan, Repository
from builder.rootfs import ResolvedRepository, Rootfs, build_rootfs, manifest
from builder.run import run
from builder.sampledistro import SampleRepository
from builder.workspace import Artefacts
from tests.small_repository import SmallRepository

pytestmark = pytest.mark.system

LEFT_OUT = "/usr/share/hallmark-left-out"
MACROS = "/usr/lib/rpm/macros.d/macros.hallmark-stage-one"
TRACE = "/usr/share/hallmark-trace"
# The build host's dnf makes these two again after the package that owns them; the image's rpm doesn't.
_DNF_MAKES = {"/var/cache/dnf", "/var/lib/dnf"}


@dataclass(frozen=True)
class Built:
    """A locked build in two stages, with the lock that it was given and everything that its log says."""

    rootfs: Rootfs
    lock: Lock
    log: str


@pytest.fixture(scope="module")
def built(
    sample_image: Artefacts,
    sample_repository: SampleRepository,
    tmp_path_factory: pytest.TempPathFactory,
) -> Built:
    here = tmp_path_factory.mktemp("two-stage")
    direct = Plan.model_validate_json(sample_image.plan.read_bytes())
    extra = SmallRepository(here / "extra")
    extra.add("hallmark-stage-one", "1.0", files={MACROS: f"%_netsharedpath {LEFT_OUT}\n"})
    extra.add("hallmark-trace", "1.0", files={f"{LEFT_OUT}/file": "no\n", f"{TRACE}/file": "yes\n"})
    sample = direct.repositories[0]
    where = Origin(path="extra.yaml", line=1)
    plan = direct.model_copy(
        update={
            "repositories": (*direct.repositories, sample.model_copy(update={"id": "extra", "where": where})),
            "packages": Packages(
                install=(*direct.packages.install, PackageRequest(name="hallmark-trace", where=where)),
                exclude=direct.packages.exclude,
            ),
            "bootstrap": Bootstrap(mode="two-stage", packages=("rpm", "hallmark-stage-one")),
        }
    )
    repositories = [_resolved(sample, sample_repository, sample_repository.path)]
    repositories.append(_resolved(plan.repositories[1], sample_repository, extra.path))
    (here / "resolve").mkdir()

    cache = here / "cache"
    packages = resolve(plan, repositories, work=here / "resolve", log_file=here / "lock.log", cache=cache)
    when = datetime(2026, 11, 22, tzinfo=UTC)
    lock = Lock(recipe=plan.recipe, when=when, inputs=inputs_digest(plan), packages=packages)
    rootfs = build_rootfs(
        plan, repositories, destination=here, work=here / "work", logs=here, cache=cache, lock=lock
    )
    return Built(rootfs, lock, (here / "rootfs.log").read_text())


def _resolved(repository: Repository, sample: SampleRepository, path: Path) -> ResolvedRepository:
    return ResolvedRepository(
        id=repository.id, baseurl=path.as_uri(), key=sample.key, fingerprint=sample.fingerprint
    )


def test_the_locked_packages_are_installed_and_no_others(built: Built, sample_image: Artefacts) -> None:
    packages = manifest.load(built.rootfs.packages)
    assert {item.nevra for item in packages} == {item.nevra for item in built.lock.packages}
    assert {item.nevra: item.repository for item in packages} == {
        item.nevra: item.repository for item in built.lock.packages
    }
    direct = manifest.load(sample_image.packages)
    assert [item for item in packages if item.repository == "sample"] == list(direct)
    (other,) = [item for item in packages if item.repository == "extra"]
    assert other.name == "hallmark-trace"


def test_its_own_rpm_installed_it(built: Built) -> None:
    members = _members(built.rootfs.tar)
    assert f"{TRACE}/file" in members
    assert LEFT_OUT not in members and f"{LEFT_OUT}/file" not in members
    count = len(built.lock.packages)
    assert f"stage two: installing {count} packages with the distribution's own RPM version" in built.log


def test_the_tree_is_that_of_a_direct_build(built: Built, sample_image: Artefacts) -> None:
    """So nothing of stage one is left: no file, no package, no mount point, no key but the pinned one."""
    direct, two = _members(sample_image.rootfs), _members(built.rootfs.tar)
    assert {path for path in two.keys() ^ direct.keys() if not path.startswith(TRACE)} == set()
    different = {path for path in direct if two[path] != direct[path]}
    assert different - _DNF_MAKES == {"/var/lib/rpm/rpmdb.sqlite"}


def test_the_image_reads_its_own_database(built: Built, tmp_path: Path) -> None:
    run(("tar", "-xf", str(built.rootfs.tar), "-C", str(tmp_path)))
    listing = run(("chroot", str(tmp_path), "rpm", "-qa", "--qf", "%{NAME}\n")).stdout.split()
    wanted = sorted(["gpg-pubkey", *(item.name for item in built.lock.packages)])
    assert sorted(listing) == wanted
    verified = run(("chroot", str(tmp_path), "rpm", "-V", "hallmark-trace", "bash"), check=False)
    # What rpm was told to leave out is no damage to it.
    assert verified.stdout == ""


def _members(path: Path) -> dict[str, tuple[object, ...]]:
    """Everything about each member of a tar by absolute path, the content as a digest."""
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(path) as archive:
        for item in archive:
            stream = archive.extractfile(item) if item.isreg() else None
            digest = hashlib.file_digest(stream, "sha256").hexdigest() if stream else ""
            labels = item.pax_headers.get("SCHILY.xattr.security.selinux")
            key = "/" + item.name.removeprefix(".").lstrip("/")
            found[key] = (item.type, item.mode, item.uid, item.gid, item.mtime, item.linkname, labels, digest)
    return found
