"""A small image for the tests of certification: a real VHD with a GPT, an ESP and a root filesystem of a few
files.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import judged_tree
import pytest
import toy_looks
from small_disk import ROOT_UUID, make_disk, sh

# The fixtures of the helpers, for every test here.
looks = toy_looks.looks
tree, database, change = judged_tree.tree, judged_tree.database, judged_tree.change

OS_RELEASE = (
    'ID="hallmark-sample"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9"\nPRETTY_NAME="A small guest"\n'
)


@dataclass(frozen=True)
class SmallImage:
    """``image`` is the VHD, ``tree`` the directory that its root filesystem was made from."""

    image: Path
    tree: Path


@pytest.fixture(scope="session")
def plain_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VHD with partitions and an ESP and no root filesystem; quick to make, for the format view."""
    path = tmp_path_factory.mktemp("plain") / "image.vhd"
    make_disk(path, root=None, root_mib=4)
    return path


def make_tree(tree: Path) -> None:
    """A root filesystem with a shell that works, a package database with one package, links and odd names."""
    for directory in (
        "etc",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "var/lib/rpm",
        "tmp",
        "dev",
        "proc",
        "sys",
        "run",
    ):
        (tree / directory).mkdir(parents=True)
    for link, target in {
        "bin": "usr/bin",
        "sbin": "usr/sbin",
        "lib": "usr/lib",
        "lib64": "usr/lib64",
    }.items():
        (tree / link).symlink_to(target)
    for program in ("bash", "cat", "env", "sleep", "seq", "ls"):
        copy_program(Path(f"/usr/bin/{program}"), tree)
    (tree / "usr/bin/sh").symlink_to("bash")
    (tree / "usr/lib/os-release").write_text(OS_RELEASE)
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tree / "etc/fstab").write_text(
        f"UUID={ROOT_UUID} / ext4 defaults 0 1\n"
        "PARTLABEL=nowhere /srv ext4 nofail 0 0\n"
        "UUID=00000000-0000-4000-8000-00000000dead /opt ext4 nofail 0 0\n"
        "UUID=CAFE-F00D /boot/efi vfat umask=0077 0 0\n"
    )
    (tree / "boot/efi").mkdir(parents=True)
    (tree / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nguest:x:1000:1000::/home/guest:/bin/sh\n"
    )
    (tree / "etc/group").write_text("root:x:0:\nwheel:x:10:guest\nguest:x:1000:\n")
    (tree / "etc/shadow").write_text(
        "root:!locked:19000:0:99999:7:::\nguest:$6$salt$verysecrethash:19000::::::\n"
    )
    (tree / "etc/shadow").chmod(0o000)
    (tree / "etc/absolute").symlink_to("/etc/passwd")
    (tree / "etc/circle").symlink_to("circle")
    (tree / "etc/a name with\nnewline").write_text("odd")
    (tree / "etc/empty").touch()
    os.setxattr(tree / "etc/passwd", "security.selinux", b"system_u:object_r:passwd_file_t:s0\0")
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    os.setxattr(tree / "usr/bin/cat", "security.capability", capability)


def copy_program(program: Path, tree: Path) -> None:
    """Copy a program of the host and the libraries that it needs."""
    target = tree / "usr/bin" / program.name
    shutil.copy2(program, target)
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for word in listing.split():
        if word.startswith("/"):
            library = Path(word)
            place = (
                tree
                / ("usr/lib64" if library.parts[1] == "lib64" else "usr/lib/x86_64-linux-gnu")
                / library.name
            )
            place.parent.mkdir(exist_ok=True)
            if not place.exists():
                shutil.copy2(library.resolve(), place)


def install_package(tree: Path, work: Path) -> None:
    """Build an unsigned package and install it into the tree with the host's rpm; then change three of its
    files.
    """
    import rpm_rs

    config = rpm_rs.BuildConfig(format=rpm_rs.RpmFormat.V4, source_date=1_700_000_000)
    builder = rpm_rs.PackageBuilder("thing", "1.2", "GPL-2.0-only", "noarch", "a thing")
    builder.using_config(config)
    builder.release("3.el9")
    builder.vendor("Nobody")
    for name, content in {
        "/usr/share/thing/a": b"a\n",
        "/usr/share/thing/b": b"b\n",
        "/usr/share/thing/c": b"c\n",
        "/etc/thing.conf": b"x = 1\n",
    }.items():
        options = rpm_rs.FileOptions.new(
            name, permissions=0o644, user="root", group="root", config="/etc" in name
        )
        builder.with_file_contents(content, options)
    package = work / "thing.rpm"
    package.write_bytes(builder.build().to_bytes())
    sh(
        "rpm",
        "--root",
        tree,
        "--dbpath",
        "/var/lib/rpm",
        "-i",
        "--nodeps",
        "--noscripts",
        package,
        env={**os.environ, "HOME": str(work)},
    )
    (tree / "usr/share/thing/b").write_text("changed\n")
    (tree / "usr/share/thing/c").unlink()
    (tree / "etc/thing.conf").chmod(0o666)


@pytest.fixture(scope="session")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> SmallImage:
    """A VHD with a root filesystem, for the disk view. Making it takes root (owners, attributes)."""
    work = tmp_path_factory.mktemp("small")
    tree = work / "tree"
    make_tree(tree)
    install_package(tree, work)
    image = work / "image.vhd"
    make_disk(image, root=tree)
    return SmallImage(image, tree)


CATALOGUE = """
requirements:
  - &base
    id: azure.one
    title: The first thing
    severity: must
    area: azure
    views: [format, disk]
    rationale: Because.
    remedy: Do it.
    source: [A book]
  - {<<: *base, id: azure.two, title: The second thing, severity: should, views: [format]}
  - {<<: *base, id: azure.three, title: The third thing, views: [booted]}
  - {<<: *base, id: azure.four, title: The fourth thing, views: [format, booted]}
  - {<<: *base, id: azure.only-seven, views: [format], applies_to: {versions: "<8"}}
  - {<<: *base, id: azure.far-away, views: [], not_provable_here: a real machine in Azure}
"""
POLICY = """
name: toy
version: 3
title: A toy policy
summary: Everything.
select:
  - areas: [azure]
"""


@pytest.fixture
def toy_catalogue(tmp_path: Path) -> Path:
    """A directory with a catalogue of six requirements."""
    directory = tmp_path / "requirements"
    directory.mkdir()
    (directory / "azure.yaml").write_text(CATALOGUE)
    return directory


@pytest.fixture
def toy_policies(tmp_path: Path) -> Path:
    """A directory with the one policy ``toy``, which selects every requirement."""
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "toy.yaml").write_text(POLICY)
    return directory
