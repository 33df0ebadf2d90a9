"""What differs is said, in every section; what could not be compared is said too."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diff_support import run

from builder.cli import main
from builder.diff import Side, compare
from builder.diff.command import EXIT_DIFFERENT
from builder.image.outputs import OutputFile
from builder.recipe import Plan, find, load, plan
from builder.recipe.model import Script
from builder.rootfs import manifest
from builder.workspace import PROJECT, Artefacts

LABEL = {"SCHILY.xattr.security.selinux": "system_u:object_r:etc_t:s0\0"}


def test_added_removed_and_changed_are_told_apart() -> None:
    one = Side("one", {"packages": {"gone": "1", "same": "1", "new": "1"}})
    two = Side("two", {"packages": {"same": "1", "new": "2", "more": "1"}})
    change = compare(one, two).changes["packages"]
    assert (change.removed, change.added, change.changed) == (
        {"gone": "1"},
        {"more": "1"},
        {"new": ("1", "2")},
    )
    assert compare(one, one).equal and not compare(one, two).equal


def test_what_one_side_cannot_say_is_not_equal() -> None:
    one = Side("one", {"packages": {}, "files": {}})
    two = Side("two", {"packages": {}}, {"files": "there is no rootfs.tar"})
    found = compare(one, two)
    assert found.equal
    assert found.not_compared == {"files": "two: there is no rootfs.tar"}


# --- recipes ---------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A tree with a copy of the sample's recipe to change."""
    directory = tmp_path / "images"
    directory.mkdir()
    for name in ("layers", "sample-distribution/keys", "waivers"):
        shutil.copytree(PROJECT / "images" / name, directory / name)
    (directory / "sample-9.yaml").write_text((PROJECT / "images" / "sample-9.yaml").read_text())
    return directory / "sample-9.yaml"


RECIPES = [
    ("settings", "size_mib: 12288", "size_mib: 16384", ("changed", "disk.size_mib")),
    ("settings", "\ndisk:\n", "\noutputs: [vhdx]\ndisk:\n", ("changed", "outputs")),
    ("repositories", "  sample:\n", "  other:\n", ("added", "other")),
    ("packages", "ostree, podman]", "ostree]", ("removed", "podman")),
    ("kernel arguments", "[security=selinux]", "[security=selinux, panic=30]", ("added", "panic")),
    ("kernel modules", "\nkernel:\n", "\nkernel:\n  blacklist: [pcspkr]\n", ("added", "pcspkr")),
    ("services", "\nservices:\n", "\nservices:\n  mask: [a.timer]\n", ("added", "a.timer")),
    ("scripts", "\nkernel:\n", '\nscripts: {x: {content: "#!/bin/sh"}}\nkernel:\n', ("added", "x")),
    ("files", "ssh_genkeytypes: [ ed25519 ]", "ssh_genkeytypes: [ rsa ]", ("changed", "92-host-keys.cfg")),
]


@pytest.mark.parametrize(("section", "old", "new", "expected"), RECIPES)
def test_two_recipes_differ_in(
    images: Path,
    section: str,
    old: str,
    new: str,
    expected: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, found = run("sample-9", str(images), capsys=capsys)
    assert (status, found["equal"], found["sections"]) == (0, True, {})
    text = images.read_text()
    assert old in text
    images.write_text(text.replace(old, new, 1))
    status, found = run("sample-9", str(images), capsys=capsys)
    assert status == EXIT_DIFFERENT
    assert section in found["sections"]
    how, what = expected
    assert any(what in name for name in found["sections"][section][how])


# --- images ----------------------------------------------------------------------------------------------


def entry(name: str, *, data: bytes = b"", link: str = "", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(f"./{name}")
    info.size, info.pax_headers = len(data), LABEL
    if link:
        info.type, info.linkname = tarfile.SYMTYPE, link
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


TREE: dict[str, tuple[tarfile.TarInfo, bytes]] = {
    "etc/motd": entry("etc/motd", data=b"welcome"),
    "etc/passwd": entry("etc/passwd", data=b"root:x:0:0:root:/root:/bin/bash\n"),
    "etc/shadow": entry("etc/shadow", data=b"root:*:::::::\n", mode=0),
    "etc/group": entry("etc/group", data=b"root:x:0:\n"),
    "boot/loader/entries/a.conf": entry(
        "boot/loader/entries/a.conf", data=b"title A\noptions root=UUID=1 ro console=tty1 console=ttyS0\n"
    ),
    "etc/systemd/system/multi-user.target.wants/a.service": entry(
        "etc/systemd/system/multi-user.target.wants/a.service", link="/usr/lib/systemd/system/a.service"
    ),
}
PACKAGE = manifest.Package(name="a", version="1", release="1", arch="noarch", size=5, sha256="aa")
RESULT = {"requirement": "azure.agent", "severity": "must", "verdict": "pass"}


class Build:
    """The artefacts of a small image, to change."""

    def __init__(self, root: Path) -> None:
        self.artefacts = Artefacts(root)
        self.tree = dict(TREE)
        self.packages: tuple[manifest.Package, ...] = (PACKAGE,)
        self.results: list[dict[str, str]] = [dict(RESULT)]
        self.outputs: list[OutputFile] = []
        self.disk = 1 << 20
        self.plan: Plan = plan(load(find("sample-9")), version="9.20261122.0", source_date_epoch=0)

    def write(self) -> str:
        place = self.artefacts
        place.root.mkdir(parents=True, exist_ok=True)
        place.plan.write_text(self.plan.to_json())
        manifest.write(self.packages, place.packages)
        place.results.write_text(json.dumps({"results": self.results}))
        place.outputs.write_text(json.dumps([item.model_dump() for item in self.outputs]))
        with place.image.open("wb") as stream:
            stream.truncate(self.disk + 512)
        with tarfile.open(place.rootfs, "w", format=tarfile.PAX_FORMAT) as archive:
            for info, data in self.tree.values():
                archive.addfile(info, io.BytesIO(data))
        return str(place.root)

    def put(self, name: str, **fields: Any) -> None:
        self.tree[name] = entry(name, **fields)


@pytest.fixture
def builds(tmp_path: Path) -> tuple[Build, Build]:
    return Build(tmp_path / "one"), Build(tmp_path / "two")


def passwd(more: str) -> bytes:
    return TREE["etc/passwd"][1] + more.encode()


VHDX = OutputFile(name="image.vhdx", format="vhdx", sha256="0", size=9, virtual_size=1 << 20)
IMAGES: list[tuple[str, str, str, Callable[[Build], object]]] = [
    ("settings", "changed", "title", lambda b: setattr(b, "plan", b.plan.model_copy(update={"title": "x"}))),
    ("packages", "added", "b.noarch", lambda b: _package(b, name="b")),
    ("packages", "changed", "a.noarch", lambda b: _package(b, version="2")),
    ("packages", "removed", "a.noarch", lambda b: setattr(b, "packages", ())),
    ("kernel arguments", "changed", "console", lambda b: _entry(b, b"options root=UUID=1 ro console=tty1\n")),
    (
        "kernel arguments",
        "removed",
        "ro",
        lambda b: _entry(b, b"options root=/dev/sda1 console=tty1 console=ttyS0\n"),
    ),
    (
        "services",
        "added",
        "b.timer for timers.target",
        lambda b: _unit(b, "timers.target.wants/b.timer", "/x"),
    ),
    ("services", "added", "b.service", lambda b: _unit(b, "b.service", "/dev/null")),
    ("services", "added", "default.target", lambda b: _unit(b, "default.target", "../graphical.target")),
    ("users", "added", "eve", lambda b: b.put("etc/passwd", data=passwd("eve:x:7:7::/:/bin/sh\n"))),
    ("users", "changed", "root", lambda b: b.put("etc/shadow", data=b"root:$6$secret:::::::\n", mode=0)),
    ("users", "changed", "root", lambda b: b.put("etc/shadow", data=b"root::::::::\n", mode=0)),
    ("groups", "changed", "root", lambda b: b.put("etc/group", data=b"root:x:0:eve\n")),
    ("files", "added", "/etc/new", lambda b: b.put("etc/new", type=tarfile.DIRTYPE)),
    ("files", "removed", "/etc/motd", lambda b: b.tree.pop("etc/motd")),
    ("files", "changed", "/etc/motd", lambda b: b.put("etc/motd", data=b"Welcome")),
    ("files", "changed", "/etc/motd", lambda b: b.put("etc/motd", data=b"welcome", mode=0o600)),
    ("files", "changed", "/etc/motd", lambda b: b.put("etc/motd", data=b"welcome", uid=3)),
    ("files", "changed", "/etc/motd", lambda b: b.put("etc/motd", link="/dev/null")),
    ("files", "changed", "/etc/motd", lambda b: b.put("etc/motd", data=b"welcome", pax_headers={})),
    ("sizes", "changed", "disk, bytes", lambda b: setattr(b, "disk", 2 << 20)),
    ("sizes", "added", "image.vhdx, bytes", lambda b: b.outputs.append(VHDX)),
    ("requirements", "changed", "azure.agent", lambda b: b.results[0].update(verdict="fail")),
    ("requirements", "removed", "azure.agent", lambda b: b.results.clear()),
]


def _package(build: Build, **changes: str) -> None:
    other = PACKAGE.model_copy(update=changes)
    build.packages = (PACKAGE, other) if "name" in changes else (other,)


def _entry(build: Build, data: bytes) -> None:
    build.put("boot/loader/entries/a.conf", data=data)


def _unit(build: Build, name: str, link: str) -> None:
    build.put(f"etc/systemd/system/{name}", link=link)


@pytest.mark.parametrize(("section", "how", "what", "change"), IMAGES)
def test_two_images_differ_in(
    builds: tuple[Build, Build],
    section: str,
    how: str,
    what: str,
    change: Callable[[Build], object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = builds
    change(two)
    status, found = run(one.write(), two.write(), capsys=capsys)
    assert status == EXIT_DIFFERENT
    assert list(found["sections"][section][how]) == [what]


def test_versions_of_one_content_are_equal(
    builds: tuple[Build, Build], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = builds
    two.plan = plan(load(find("sample-9")), version="9.20261123.4", source_date_epoch=86400)
    two.tree["etc/motd"][0].mtime = 86400
    status, found = run(one.write(), f"{two.write()}/image.vhd", capsys=capsys)
    assert (status, found["sections"], found["not_compared"]) == (0, {}, {})


def test_another_root_filesystem_id_is_no_difference(
    builds: tuple[Build, Build], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = builds
    _entry(two, TREE["boot/loader/entries/a.conf"][1].replace(b"UUID=1", b"UUID=2"))
    status, found = run(one.write(), two.write(), capsys=capsys)
    assert status == EXIT_DIFFERENT
    assert list(found["sections"]) == ["files"]


def test_no_password_is_ever_shown(builds: tuple[Build, Build], capsys: pytest.CaptureFixture[str]) -> None:
    one, two = builds
    two.put("etc/shadow", data=b"root:$6$hash$secret:::::::\n", mode=0)
    assert main(["diff", one.write(), two.write(), "--verbose"]) == EXIT_DIFFERENT
    shown = capsys.readouterr().out
    assert "password=locked → password=set" in shown
    assert "$6$" not in shown


def test_artefacts_that_are_gone_are_named(
    builds: tuple[Build, Build], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = builds
    names = [one.write(), two.write()]
    for path in (two.artefacts.rootfs, two.artefacts.packages, two.artefacts.results):
        path.unlink()
    _, found = run(*names, capsys=capsys)
    missing = {"packages", "kernel arguments", "services", "users", "groups", "files", "requirements"}
    assert found["not_compared"].keys() == missing
    assert found["not_compared"]["files"].endswith("there is no rootfs.tar")
    assert main(["diff", *names]) == EXIT_DIFFERENT  # the sizes differ
    assert "not compared: requirements" in capsys.readouterr().out


def test_an_image_and_a_recipe_are_compared_by_their_plans(
    builds: tuple[Build, Build], capsys: pytest.CaptureFixture[str]
) -> None:
    build, _ = builds
    assert run(build.write(), "sample-9", capsys=capsys)[0] == 0
    script = Script(name="x", content="#!/bin/sh", where=build.plan.packages.install[0].where)
    build.plan = build.plan.model_copy(update={"scripts": (*build.plan.scripts, script)})
    status, found = run(build.write(), "sample-9", capsys=capsys)
    assert status == EXIT_DIFFERENT
    assert list(found["sections"]["scripts"]["removed"]) == ["x"]


def test_a_long_section_is_cut_and_says_so(
    builds: tuple[Build, Build], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = builds
    for number in range(40):
        two.put(f"etc/new{number:02}", data=b"")
    names = [one.write(), two.write()]
    main(["diff", *names])
    short = capsys.readouterr().out
    assert "files: 40 added" in short and "/etc/new11 " in short
    assert "/etc/new12 " not in short and "and 28 more added: --verbose or --json shows all" in short
    main(["diff", *names, "--verbose"])
    assert "/etc/new39 " in capsys.readouterr().out


BROKEN: list[tuple[str, Callable[[Artefacts], object]]] = [
    ("cannot read the root filesystem", lambda a: a.rootfs.write_bytes(b"no tar" * 99)),
    ("no list of packages", lambda a: a.packages.write_text("{")),
    ("no results of a certification", lambda a: a.results.write_text('{"results": [{}]}')),
    ("no list of outputs", lambda a: a.outputs.write_text("[1]")),
    ("this is no plan", lambda a: a.plan.write_text("{}")),
    ("no plan.json", lambda a: a.plan.unlink()),
]


@pytest.mark.parametrize(("words", "damage"), BROKEN)
def test_a_damaged_artefact_is_named(
    builds: tuple[Build, Build],
    words: str,
    damage: Callable[[Artefacts], object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = builds
    names = [one.write(), two.write()]
    damage(two.artefacts)
    assert main(["diff", *names]) == 1
    shown = capsys.readouterr().err.replace("\n", "")
    assert words in shown and str(two.artefacts.root) in shown
