"""Commits by ostree itself: made, fetched, deployed, and refused."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from small_system import KERNEL, SECRET_KEY, rootfs, small_plan

from builder.disk import assemble
from builder.disk.layout import compute
from builder.errors import HallmarkError
from builder.ostree import repository
from builder.ostree.compose import compose
from builder.ostree.deploy import deploy
from builder.ostree.fetch import fetch, newest
from builder.ostree.repository import Commit
from builder.ostree.stages import public_key
from builder.run import run
from builder.workspace import PROJECT

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Commit]:
    """The small system's commit: the directory with ``ostree.tar``, and what it is."""
    directory = tmp_path_factory.mktemp("composed")
    return directory, _compose(directory)


def _compose(directory: Path, *, secret: str = SECRET_KEY) -> Commit:
    made = small_plan()
    work = directory / "work"
    work.mkdir()
    return compose(
        rootfs(directory),
        made,
        public_key=public_key(made, PROJECT / "images"),
        secret_key=secret,
        destination=directory,
        work=work,
        logs=directory / "log",
    )


def test_the_same_tree_gives_the_same_bytes(composed: tuple[Path, Commit], tmp_path: Path) -> None:
    directory, commit = composed
    assert commit.version == "9.20261122.0"
    assert commit.ref == "hallmark-sample/9/x86_64/atomic"
    assert commit.timestamp == 1_795_305_600
    assert commit.signers == ("aa81a34a9a583dee",)
    assert _compose(tmp_path) == commit
    assert (tmp_path / "ostree.tar").read_bytes() == (directory / "ostree.tar").read_bytes()


def test_a_key_that_is_not_the_pinned_one_signs_nothing(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="not the secret half of the pinned key") as caught:
        _compose(tmp_path, secret="-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nabcd\n")
    assert "abcd" not in f"{caught.value.details}{caught.value}"
    assert not (tmp_path / "ostree.tar").exists()


def test_a_deployment_is_a_disk_s_files(composed: tuple[Path, Commit], tmp_path: Path) -> None:
    directory, commit = composed
    made = small_plan()
    _deploy(directory / "ostree.tar", commit, tmp_path)
    with tarfile.open(tmp_path / "sysroot.tar") as archive:
        members = {item.name.removeprefix("./"): item for item in archive}

        def read(name: str) -> str:
            stream = archive.extractfile(members[name])
            assert stream is not None
            return stream.read().decode()

        root = f"ostree/deploy/hallmark-sample/deploy/{commit.checksum}.0"
        assert read(f"{root}.origin") == f"[origin]\nrefspec=hallmark-sample:{commit.ref}\n"
        entry = read("boot/loader.1/entries/ostree-1-hallmark-sample.conf")
        assert f"options root=UUID={made.identifiers.root_fs} rw console=tty1 " in entry
        assert " security=selinux ostree=/ostree/boot.1/hallmark-sample/" in entry
        configuration = read("boot/loader.1/grub.cfg")
        assert members["boot/grub2/grub.cfg"].linkname == "../loader/grub.cfg"
        for line in entry.splitlines():
            kind, _, value = line.partition(" ")
            if kind in ("linux", "initrd", "options"):
                assert value in configuration
        table = read(f"{root}/etc/fstab")
        assert f"UUID={made.identifiers.boot_fs} /boot ext4" in table
        assert f"{root}/usr/etc/fstab" not in members  # it would take every other disk's place at an update
        config = read("ostree/repo/config")
        assert "gpg-verify=true" in config
        assert "url=https://ostree.hallmark.invalid/repo" in config
        kernel = next(name for name in members if name.endswith(f"/vmlinuz-{KERNEL}"))
        assert members[kernel].isreg()
        # Every file has an SELinux label: of the tree its own, outside it what the policy says of the place.
        labels = {
            name: item.pax_headers.get("SCHILY.xattr.security.selinux", "") for name, item in members.items()
        }
        assert not [name for name, label in labels.items() if not label and not members[name].islnk()]
        assert ":usr_t:" in labels[f"{root}/usr/bin/true"]
        assert ":etc_t:" in labels[f"{root}/usr/etc/hostname"]
        assert ":etc_t:" in labels[f"{root}/etc"]
        assert ":etc_t:" in labels[f"{root}/etc/fstab"]
        assert labels[f"{root}/etc/hostname"] == labels[f"{root}/usr/etc/hostname"]
        assert ":boot_t:" in labels[kernel]
        assert ":var_t:" in labels["ostree/deploy/hallmark-sample/var"]
        assert ":var_log_t:" in labels["ostree/deploy/hallmark-sample/var/log"]


def test_on_the_disk_nothing_can_be_made_beside_a_tree(composed: tuple[Path, Commit], tmp_path: Path) -> None:
    directory, commit = composed
    made = small_plan()
    made = made.model_copy(update={"disk": made.disk.model_copy(update={"size_mib": 2048, "boot_mib": 256})})
    _deploy(directory / "ostree.tar", commit, tmp_path)
    disk = tmp_path / "disk.raw"
    (tmp_path / "disk").mkdir()
    assemble(
        tmp_path / "sysroot.tar",
        made,
        destination=disk,
        work=tmp_path / "disk",
        logs=tmp_path / "log",
        force_tcg=True,
    )
    start = compute(made.disk, made.identifiers).partition("root").start
    place = f"/ostree/deploy/hallmark-sample/deploy/{commit.checksum}.0"
    for path, flags in ((place, "0x80010"), (f"{place}/usr", "0x80000")):
        shown = run(("debugfs", "-R", f"stat {path}", f"{disk}?offset={start}")).stdout
        assert f"Flags: {flags}" in shown
    tree, store = (
        run(("debugfs", "-R", f"stat {path}", f"{disk}?offset={start}")).stdout
        for path in (f"{place}/usr/bin/true", _object_of(directory, commit, "/usr/bin/true"))
    )
    assert tree.split()[1] == store.split()[1], "the tree's file is the object itself, not a copy"
    run(("e2fsck", "-f", "-n", f"{disk}?offset={start}"))


def _object_of(directory: Path, commit: Commit, path: str) -> str:
    repo = repository.unpack(directory / "ostree.tar", directory / "looked-at")
    checksum = repository.ostree("ls", "-C", commit.checksum, path, repo=repo).split()[4]
    return f"/ostree/repo/objects/{checksum[:2]}/{checksum[2:]}.file"


def test_a_deployment_needs_a_boot_loader(composed: tuple[Path, Commit], tmp_path: Path) -> None:
    directory, commit = composed
    with pytest.raises(HallmarkError, match="the commit has no GRUB for BIOS"):
        _deploy(directory / "ostree.tar", commit, tmp_path, generations=(1, 2))
    assert not (tmp_path / "sysroot.tar").exists()


def test_a_commit_is_fetched_from_an_archive_and_from_a_repository(
    composed: tuple[Path, Commit], tmp_path: Path
) -> None:
    directory, commit = composed
    repo = repository.unpack(directory / "ostree.tar", tmp_path / "unpacked")
    for number, (source, pin) in enumerate(((directory / "ostree.tar", commit.checksum), (repo, None))):
        # The small system's package database is none, which is told after everything else was found good.
        with pytest.raises(HallmarkError, match="rpm"):
            _fetch(source, tmp_path / str(number), commit=pin)
        taken = tmp_path / str(number) / "work/repo"
        assert repository.ostree("refs", repo=taken).split() == [commit.ref]
        assert repository.ostree("rev-parse", commit.ref, repo=taken).strip() == commit.checksum
        assert repository.ostree("remote", "list", repo=taken) == ""
    pinned = "0" * 64
    with pytest.raises(HallmarkError, match="no longer the commit 000000000000 of the lock"):
        _fetch(directory / "ostree.tar", tmp_path / "pinned", commit=pinned)


def test_the_newest_commit_is_found_without_its_files(composed: tuple[Path, Commit], tmp_path: Path) -> None:
    directory, commit = composed
    made = small_plan(compose=False, signing_key=None, source=(directory / "ostree.tar").as_uri())
    assert newest(made, key=public_key(made, PROJECT / "images"), work=tmp_path) == commit
    assert not list(tmp_path.glob("repo/objects/*/*.filez"))


def _drop_object(repo: Path, commit: str) -> None:
    next(repo.glob("objects/*/*.filez")).unlink()


def _drop_signature(repo: Path, commit: str) -> None:
    (repo / f"objects/{commit[:2]}/{commit[2:]}.commitmeta").unlink()


def _change_commit(repo: Path, commit: str) -> None:
    done = subprocess.run(
        (
            "ostree",
            f"--repo={repo}",
            "commit",
            "--branch=hallmark-sample/9/x86_64/atomic",
            f"--tree=ref={commit}",
        ),
        check=True,
        capture_output=True,
        text=True,
    )
    meta = repo / f"objects/{commit[:2]}/{commit[2:]}.commitmeta"
    other = done.stdout.strip()
    shutil.copyfile(meta, repo / f"objects/{other[:2]}/{other[2:]}.commitmeta")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_drop_object, "and not all of it"),
        (_drop_signature, "no good signature of the pinned key"),
        (_change_commit, "no good signature of the pinned key"),
    ],
)
def test_a_damaged_repository_is_refused(
    composed: tuple[Path, Commit], tmp_path: Path, damage: Callable[[Path, str], None], complaint: str
) -> None:
    directory, commit = composed
    repo = repository.unpack(directory / "ostree.tar", tmp_path / "unpacked")
    damage(repo, commit.checksum)
    with pytest.raises(HallmarkError, match=complaint):
        _fetch(repo, tmp_path / "fetched")
    assert list((tmp_path / "fetched").glob("*.tar")) == []


@pytest.mark.parametrize("content", [b"", b"no tar at all", None])
def test_what_is_no_repository_is_refused(tmp_path: Path, content: bytes | None) -> None:
    source = tmp_path / "file.tar"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(HallmarkError, match="archive") as caught:
        _fetch(source, tmp_path / "fetched")
    assert caught.value.hint


def _fetch(source: Path, directory: Path, *, commit: str | None = None) -> Commit:
    made = small_plan(compose=False, signing_key=None, source=source.as_uri())
    (directory / "work").mkdir(parents=True)
    return fetch(
        made,
        key=public_key(made, PROJECT / "images"),
        commit=commit,
        destination=directory,
        work=directory / "work",
        logs=directory / "log",
    )


def _deploy(archive: Path, commit: Commit, directory: Path, *, generations: tuple[int, ...] = (2,)) -> None:
    made = small_plan()
    made = made.model_copy(update={"disk": made.disk.model_copy(update={"generations": generations})})
    (directory / "work").mkdir()
    deploy(
        archive,
        made,
        commit=commit,
        key=public_key(made, PROJECT / "images"),
        destination=directory,
        work=directory / "work",
        logs=directory / "log",
    )
