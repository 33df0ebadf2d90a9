"""The sample's root filesystem: what a real build leaves, twice the same, and nothing when it is killed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.recipe.model import BootstrapMode, Plan
from builder.recipe.packaging import bootstrap
from builder.rootfs import ResolvedRepository, build_rootfs, manifest, sbom, sweep
from builder.run import run
from builder.sampledistro import SampleRepository
from builder.workspace import Artefacts

pytestmark = pytest.mark.system

LABEL = "SCHILY.xattr.security.selinux"


class Tree:
    """The members of a rootfs.tar by absolute path."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self.archive = archive
        self.members = {"/" + member.name.removeprefix(".").lstrip("/"): member for member in archive}

    def read(self, path: str) -> bytes:
        stream = self.archive.extractfile(self.members[path])
        assert stream is not None, path
        return stream.read()

    def text(self, path: str) -> str:
        return self.read(path).decode()

    def below(self, directory: str) -> list[str]:
        return [path for path in self.members if path.startswith(directory.rstrip("/") + "/")]


@pytest.fixture(scope="module")
def tree(sample_image: Artefacts) -> Iterator[Tree]:
    with tarfile.open(sample_image.rootfs) as archive:
        yield Tree(archive)


@pytest.fixture(scope="module")
def final(sample_image: Artefacts) -> Plan:
    return Plan.model_validate_json(sample_image.plan.read_text())


@pytest.fixture(scope="module")
def repository(sample_repository: SampleRepository, final: Plan) -> ResolvedRepository:
    return ResolvedRepository(
        id=final.repositories[0].id,
        name=final.repositories[0].name,
        baseurl=sample_repository.path.as_uri(),
        key=sample_repository.key,
        fingerprint=final.repositories[0].fingerprint,
        where=final.repositories[0].where,
    )


def test_every_file_has_a_label(tree: Tree) -> None:
    assert [path for path, member in tree.members.items() if LABEL not in member.pax_headers] == []
    assert tree.members["/etc/shadow"].pax_headers[LABEL].startswith("system_u:object_r:shadow_t:s0")
    assert tree.members["/proc"].pax_headers[LABEL].startswith("system_u:object_r:proc_t:s0")


@pytest.mark.parametrize("path", ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/cache/dnf"])
def test_directories_are_there_and_empty(tree: Tree, path: str) -> None:
    assert tree.members[path].isdir()
    assert tree.below(path) == []


def test_every_user_can_reach_the_system(tree: Tree) -> None:
    for path in ("/", "/usr", "/usr/bin", "/etc", "/var", "/var/lib"):
        assert tree.members[path].mode & 0o555 == 0o555, path


def test_no_identity_and_no_leftovers(tree: Tree) -> None:
    assert tree.text("/etc/machine-id") == "uninitialized\n"
    assert tree.members["/etc/machine-id"].mode == 0o444
    unwanted = re.compile(
        r"/etc/ssh/ssh_host_.*|/etc/hostname|/etc/resolv\.conf(\.ORIG)?|/var/lib/systemd/random-seed"
        r"|/var/lib/dnf/history.*|.*rpmdb\.sqlite-(shm|wal)|/var/cache/ldconfig/aux-cache|/root/\.bash_history"
        r"|/usr/share/pkg-map.*|/lib/diskimage-builder.*|/etc/(passwd|group|shadow|gshadow)-|/lost\+found"
    )
    assert [path for path in tree.members if unwanted.fullmatch(path)] == []
    logs = [path for path in tree.below("/var/log") if tree.members[path].isreg() and tree.members[path].size]
    assert logs == []


def test_nothing_is_younger_than_the_plan(tree: Tree, final: Plan) -> None:
    assert max(member.mtime for member in tree.members.values()) == final.source_date_epoch
    assert {member.uname for member in tree.members.values()} == {""}


def test_it_can_boot_both_generations(tree: Tree, final: Plan) -> None:
    (kernel,) = [
        path.rpartition("/")[2] for path in tree.members if re.fullmatch(r"/usr/lib/modules/[^/]+", path)
    ]
    boot = {f"/boot/vmlinuz-{kernel}", f"/boot/initramfs-{kernel}.img"}
    assert boot <= set(tree.members)
    (entry,) = tree.below("/boot/loader/entries")
    assert f"initrd /initramfs-{kernel}.img" in tree.text(entry)
    assert f"options root=UUID={final.identifiers.root_fs} ro " in tree.text(entry)
    assert f"/vmlinuz-{kernel} root=UUID={final.identifiers.root_fs}" in tree.text("/boot/grub2/grub.cfg")
    core = tree.read("/boot/grub2/i386-pc/core.img")
    assert 20_000 < len(core) < (1 << 20), "it must fit the BIOS boot partition"
    assert len(tree.read("/boot/grub2/i386-pc/boot.img")) == 512
    for loader in [path for path in tree.below("/boot/efi/EFI") if path.endswith("/grubx64.efi")]:
        assert str(final.identifiers.boot_fs) in tree.text(loader.replace("grubx64.efi", "grub.cfg"))
    fstab = tree.text("/etc/fstab")
    for name in (final.identifiers.root_fs, final.identifiers.boot_fs, final.identifiers.esp_serial):
        assert f"UUID={name} " in fstab


def test_the_initramfs_has_the_hyperv_drivers(tree: Tree) -> None:
    (name,) = [path for path in tree.members if path.startswith("/boot/initramfs-")]
    unpacked = subprocess.run(("zstd", "-dcq"), input=tree.read(name), capture_output=True, check=True).stdout
    listing = subprocess.run(
        ("cpio", "-t", "--quiet"), input=unpacked, capture_output=True, check=True
    ).stdout
    (builtin,) = [tree.text(path) for path in tree.members if path.endswith("/modules.builtin")]
    for driver in ("hv_storvsc", "hv_vmbus", "hv_netvsc", "nvme"):
        assert f"/{driver}.ko".encode() in listing or f"/{driver}.ko" in builtin, driver
    assert b"/hv_storvsc.ko" in listing


def test_services_and_target(tree: Tree, final: Plan) -> None:
    links = {path.rpartition("/")[2] for path in tree.below("/etc/systemd/system")}
    for unit in final.services.enable:
        if not unit.endswith("@.service"):
            assert unit in links, unit
    for unit in final.services.mask:
        assert tree.members[f"/etc/systemd/system/{unit}"].linkname == "/dev/null"
    assert tree.members["/etc/systemd/system/default.target"].linkname.endswith(final.default_target)


def test_the_manifest_is_the_rpm_database(tree: Tree, sample_image: Artefacts, tmp_path: Path) -> None:
    (tmp_path / "rpmdb.sqlite").write_bytes(tree.read("/var/lib/rpm/rpmdb.sqlite"))
    listed = manifest.load(sample_image.packages)
    now = manifest.read(rpmdb=tmp_path)
    assert [item.model_copy(update={"repository": None}) for item in listed] == list(now)
    assert {item.repository for item in listed} == {"sample"}
    text = sample_image.sbom.read_text()
    sbom.validate(text)
    assert len(json.loads(text)["components"]) == len(listed)


def test_two_builds_are_identical(
    sample_image: Artefacts, final: Plan, repository: ResolvedRepository, tmp_path: Path
) -> None:
    again = build_rootfs(
        final, (repository,), destination=tmp_path / "out", work=tmp_path / "work", logs=tmp_path / "log"
    )
    for made, first in (
        (again.tar, sample_image.rootfs),
        (again.packages, sample_image.packages),
        (again.sbom, sample_image.sbom),
    ):
        assert digest(made) == digest(first), made.name


@pytest.mark.parametrize(
    ("mode", "step"), [("direct", "hallmark-step: installing"), ("two-stage", "hallmark-step: stage two")]
)
def test_killed_it_leaves_no_process_no_mount_and_no_loop_device(
    final: Plan, repository: ResolvedRepository, tmp_path: Path, mode: BootstrapMode, step: str
) -> None:
    plan = final.model_copy(update={"bootstrap": bootstrap(9, mode)})
    (tmp_path / "plan.json").write_text(plan.to_json())
    script = (
        "import sys; from pathlib import Path\n"
        "from builder.recipe.model import Plan; from builder.rootfs import *\n"
        "here, url, key, fingerprint = Path(sys.argv[1]), *sys.argv[2:]\n"
        "plan = Plan.model_validate_json((here / 'plan.json').read_text())\n"
        "repository = ResolvedRepository(id='sample', baseurl=url, key=Path(key), fingerprint=fingerprint)\n"
        "build_rootfs(plan, (repository,), destination=here / 'out', work=here / 'work', logs=here / 'log')\n"
    )
    log = tmp_path / "log/rootfs.log"
    arguments = (str(tmp_path), repository.baseurl or "", str(repository.key), repository.fingerprint)
    with subprocess.Popen(
        (sys.executable, "-c", script, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: log.exists() and "Installing       :" in log.read_text().partition(step)[2])
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not processes_naming(tmp_path))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert str(tmp_path) not in run(("losetup", "--list", "--output", "BACK-FILE")).stdout
    assert not (tmp_path / "out/rootfs.tar").exists()
    assert [path.name.partition(".")[0] for path in sweep(tmp_path / "work")] == ["rootfs"]
    assert list((tmp_path / "work").iterdir()) == []


def wait_for(condition: object, seconds: float = 120) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def processes_naming(path: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(path).encode() in line:
                found.append(entry.name)
    return found


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        assert isinstance(stream, io.BufferedReader)
        return hashlib.file_digest(stream, "sha256").hexdigest()
