"""The mutants as data, their operations on a small image, and the judgement over a look."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from small_disk import make_disk

from builder.errors import HallmarkError
from builder.image import vhd
from certification import catalogue
from certification.model import Outcome
from certification.mutants import engine, model
from certification.mutants.disk import Disk
from certification.mutants.operations import apply
from certification.parse.superblock import probe
from certification.views.base import identity
from certification.views.format import ImageBytes

GOOD = """
mutants:
  - id: one
    what: [{write: /etc/x, text: hello}]
    red: {azure.one: hello}
    why: Because.
impossible:
  - requirement: azure.four
    view: format
    reason: There is a very good reason for this one.
"""


@pytest.fixture(scope="module")
def known() -> catalogue.Catalogue:
    return catalogue.load()


def mutant(*what: Mapping[str, Any], view: str = "disk", **more: Any) -> model.Mutant:
    fields = {"id": "m", "view": view, "what": what, "red": {"azure.one": "text"}, "why": "Because."}
    return model.Mutant.model_validate({**fields, **more})


def test_every_must_has_a_mutant_or_a_reason(known: catalogue.Catalogue) -> None:
    found = model.load(known)
    assert found.missing(known) == []
    assert len([item for item in found.mutants if item.view == "format"]) >= 12


def test_an_ostree_host_has_damages_of_its_own(known: catalogue.Catalogue) -> None:
    found = model.load(known)
    assert len(found.of("sample-9")) + len(found.of("sample-atomic-9")) == len(found.mutants)
    host = engine.plan(found.of("sample-atomic-9"))
    assert {mutant.view for look in host for mutant in look} == {"disk"}
    assert len(host) <= 4 and sum(map(len, host)) >= 20, "each look at a disk takes a minute"
    without = model.Collection(found.of("sample-9"), found.impossible)
    assert "atomic.commit-matches-recipe (disk)" in without.missing(known)


def test_the_first_look_at_a_disk_is_sample_enough(known: catalogue.Catalogue) -> None:
    mutants = model.load(known).of("sample-9")
    looks = engine.plan(mutants)
    first = next(look for look in looks if look[0].view == "disk")
    assert len(first) >= 40
    assert sum(map(len, looks)) == len(mutants)
    assert len(looks) <= 20, "each look at a disk takes a minute"


def test_a_requirement_without_a_mutant_is_named(toy_catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(GOOD)
    toy = catalogue.load(toy_catalogue)
    found = model.load(toy, tmp_path)
    # azure.only-seven isn't about the sample's release.
    assert found.missing(toy) == ["azure.one (format)"]


@pytest.mark.parametrize(
    ("old", "new", "said", "line"),
    [
        ("azure.one: hello", "azure.nine: hello", "knows no requirement azure.nine", 3),
        ("azure.one: hello", "azure.three: hello", "isn't decided in the disk view", 3),
        ("{write: /etc/x, text: hello}", "{wirte: /etc/x}", "an operation has one of the keys", 3),
        ("{write: /etc/x, text: hello}", "{write: etc/x}", "String should match", 3),
        ("red: {azure.one: hello}", "red: {}", "at least 1 item", 3),
        ("    why: Because.\n", "", "Field required", 3),
        ("mutants:", "recipe: rhel-9\nmutants:", "nobody has said what rhel-9 is", 1),
        (
            "  - requirement: azure.four\n    view: format",
            "  - requirement: azure.one",
            "have a mutant and a",
            0,
        ),
    ],
)
def test_mistakes_in_a_file_are_named_with_their_line(
    toy_catalogue: Path, tmp_path: Path, old: str, new: str, said: str, line: int
) -> None:
    assert old in GOOD
    (tmp_path / "toy.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(HallmarkError) as caught:
        model.load(catalogue.load(toy_catalogue), tmp_path)
    assert said in str(caught.value)
    assert not line or f"toy.yaml:{line}" in str(caught.value)


def test_mutants_that_disturb_each_other_look_apart() -> None:
    first = mutant({"write": "/etc/x"}, id="first", red={"azure.one": "x"})
    same = mutant({"write": "/etc/y"}, id="same", red={"azure.one": "y"})
    touches = mutant({"write": "/etc/z"}, id="touches", red={"azure.two": "z"}, may_red=["azure.one"])
    path = mutant({"edit": "/etc/x", "pattern": "a"}, id="path", red={"azure.four": "x"})
    alone = mutant({"write": "/etc/a"}, id="alone", red={"azure.five": "x"}, alone=True)
    other = mutant({"write": "/etc/b"}, id="other", red={"azure.six": "x"}, may_red=["azure.seven"])
    looks = engine.plan([first, same, touches, path, alone, other])
    assert [[item.id for item in look] for look in looks] == [
        ["first", "other"],
        ["same", "path"],
        ["touches"],
        ["alone"],
    ]


def outcomes(**found: tuple[Outcome, str]) -> engine.Outcomes:
    return engine.Outcomes(
        {f"azure.{name}": outcome for name, (outcome, _) in found.items()},
        {f"azure.{name}": message for name, (_, message) in found.items()},
    )


@pytest.mark.parametrize(
    ("seen", "killed", "strange"),
    [
        ({"one": ("fail", "some text")}, True, False),
        ({"one": ("pass", "")}, False, False),
        ({"one": ("fail", "another reason")}, False, False),
        ({"one": ("error", "some text")}, False, False),
        ({"one": ("fail", "some text"), "two": ("fail", "too")}, True, True),
        ({"one": ("fail", "some text"), "two": ("not-applicable", "")}, True, True),
        ({"one": ("fail", "some text"), "may": ("fail", "")}, True, False),
    ],
)
def test_a_survivor_and_a_neighbour_that_changes_are_found(
    seen: dict[str, tuple[Outcome, str]], killed: bool, strange: bool
) -> None:
    good = outcomes(one=("pass", ""), two=("pass", ""), may=("pass", ""))
    after = {"one": ("pass", ""), "two": ("pass", ""), "may": ("pass", ""), **seen}
    look = [mutant({"write": "/etc/x"}, may_red=["azure.may"])]
    finding = engine.judge(look, good=good, seen=outcomes(**after))  # type: ignore[arg-type]
    assert [verdict.killed for verdict in finding.verdicts] == [killed]
    assert bool(finding.strange) == strange
    assert finding.clean == (killed and not strange)


def test_what_is_red_already_kills_nobody() -> None:
    red = outcomes(one=("fail", "text"))
    finding = engine.judge([mutant({"write": "/etc/x"})], good=red, seen=red)
    assert not finding.verdicts[0].killed
    assert "already" in finding.verdicts[0].reason


@pytest.mark.parametrize(("before", "killed"), [("fail", True), ("error", False)])
def test_what_is_red_for_another_reason_must_say_the_new_one(before: Outcome, killed: bool) -> None:
    good = outcomes(one=(before, "something is missing"))
    finding = engine.judge([mutant({"write": "/etc/x"})], good=good, seen=outcomes(one=("fail", "text")))
    assert finding.verdicts[0].killed is killed


@pytest.fixture
def copy(small_image: Any, tmp_path: Path) -> Path:
    target = tmp_path / "image.vhd"
    subprocess.run(["cp", "--sparse=always", small_image.image, target], check=True)
    return target


FILES: list[dict[str, Any]] = [
    {"write": "/etc/new/deep/file", "text": "hello", "mode": "0640", "uid": 7, "gid": 8, "label": "a:b:c:s0"},
    {"edit": "/etc/passwd", "pattern": "^guest:.*\n", "to": ""},
    {"remove": "/usr/share/thing/a"},
    {"link": "/etc/empty", "to": "/dev/null"},
    {"copy_of": "/usr/bin/ca*", "to": "/usr/bin/cat2", "mode": "4755"},
    {"change": "/etc/passwd", "mode": "0600", "gid": 5},
    {"patch": "/usr/bin/ls", "offset": -1, "hex": "ee"},
    {"write": "/boot/efi/EFI/BOOT/BOOTX64.EFI", "text": "other"},
    {"install": "extra", "arch": "i686", "provides": ["more"]},
    {"erase": "thing"},
]


@pytest.mark.system
def test_operations_on_files(copy: Path, tmp_path: Path) -> None:
    before = Disk(copy).stat("/etc/passwd")
    assert before is not None
    apply(
        mutant(*FILES),
        copy,
        work=tmp_path,
    )
    disk = Disk(copy)
    made = disk.stat("/etc/new/deep/file")
    assert made is not None and (made.mode, made.uid, made.gid, made.label) == (
        stat.S_IFREG | 0o640,
        7,
        8,
        "a:b:c:s0",
    )
    assert disk.read("/etc/new/deep/file") == b"hello"
    assert disk.read("/etc/passwd") == b"root:x:0:0:root:/root:/bin/bash\n"
    after = disk.stat("/etc/passwd")
    assert after is not None and (after.mode, after.gid) == (stat.S_IFREG | 0o600, 5)
    assert after.label == before.label == "system_u:object_r:passwd_file_t:s0"
    assert disk.stat("/usr/share/thing/a") is None
    link = disk.stat("/etc/empty")
    assert link is not None and stat.S_ISLNK(link.mode)
    assert disk.read("/usr/bin/cat2") == disk.read("/usr/bin/cat")
    assert disk.read("/usr/bin/ls")[-1] == 0xEE
    assert disk.read("/boot/efi/EFI/BOOT/BOOTX64.EFI") == b"other"
    database = tmp_path / "db"
    database.mkdir()
    (database / "rpmdb.sqlite").write_bytes(disk.read("/var/lib/rpm/rpmdb.sqlite"))
    listing = subprocess.run(
        ["rpm", "--dbpath", database, "-qa", "--qf", "%{NAME}.%{ARCH} [%{PROVIDENAME} ]\n"],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert [line.split()[0] for line in listing.stdout.splitlines()] == ["extra.i686"]
    assert "more" in listing.stdout.split()
    offset = ImageBytes(copy).partition("linux")
    assert offset is not None
    sound = subprocess.run(
        ["/usr/sbin/e2fsck", "-fn", f"{copy}?offset={offset.offset}"], capture_output=True, text=True
    )
    assert sound.returncode == 0, sound.stdout


@pytest.mark.system
def test_the_files_of_an_ostree_host_are_where_it_shows_them(tmp_path: Path) -> None:
    commit, tree = "ab" * 32, tmp_path / "tree"
    place = tree / f"ostree/deploy/os/deploy/{commit}.0"
    for path, content in {
        place / "etc/fstab": "",
        place / "usr/lib/os-release": "ID=x\n",
        tree / f"ostree/deploy/os/deploy/{commit}.0.origin": "[origin]\nrefspec=a:b\n",
        tree / "ostree/deploy/os/var/lib/data": "data",
        tree / "ostree/repo/objects/00/ff.file": "object",
        tree / f"ostree/repo/objects/ab/{commit[2:]}.commit": "commit",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (place / "usr/bin").mkdir()
    (place / "usr/bin/tool").hardlink_to(tree / "ostree/repo/objects/00/ff.file")
    image = tmp_path / "image.vhd"
    make_disk(image, root=tree)
    apply(
        mutant(
            {"edit": "/sysroot/ostree/deploy/*/deploy/*.origin", "pattern": "a:b", "to": "a:c"},
            {"patch": "/sysroot/ostree/repo/objects/*/*.commit", "offset": 0, "hex": "43"},
            {"edit": "/usr/bin/tool", "pattern": "object", "to": "changed"},
            {"write": "/var/lib/more", "text": "more"},
            {"write": "/etc/added", "text": "added"},
        ),
        image,
        work=tmp_path,
    )
    disk = Disk(image)
    assert disk.read(f"/sysroot/ostree/deploy/os/deploy/{commit}.0.origin").endswith(b"=a:c\n")
    assert disk.read("/sysroot/ostree/repo/objects/*/*.commit") == b"Commit"
    assert disk.read("/usr/bin/tool") == b"changed"
    assert disk.read("/sysroot/ostree/repo/objects/00/ff.file") == b"object", "its other name keeps it"
    assert disk.read("/sysroot/ostree/deploy/os/var/lib/more") == disk.read("/var/lib/more") == b"more"
    assert disk.read(f"/sysroot/ostree/deploy/os/deploy/{commit}.0/etc/added") == b"added"


def test_a_filesystem_gets_smaller(copy: Path, tmp_path: Path) -> None:
    view = ImageBytes(copy)
    part = view.partition("linux")
    assert part is not None

    def size() -> int:
        found = probe(lambda offset, length: view.read(part.offset + offset, length))
        assert found is not None
        return found.size

    before = size()
    apply(mutant({"shrink": "/", "mib": 40}), copy, work=tmp_path)
    assert size() == 40 << 20 < before
    assert Disk(copy).read("/etc/passwd").startswith(b"root:")
    view.close()


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"edit": "/etc/passwd", "pattern": "nowhere"}, "changes nothing"),
        ({"edit": "/etc/nowhere", "pattern": "x"}, "no regular file /etc/nowhere"),
        ({"remove": "/etc/nowhere"}, "has no /etc/nowhere"),
        ({"remove": "/etc/no*where"}, "nothing like /etc/no*where"),
        ({"change": "/etc/passwd", "mode": "0644"}, "is so already"),
        ({"patch": "/etc/passwd", "offset": 0, "hex": "72"}, "don't change"),
        ({"erase": "nobody"}, "nobody"),
        ({"partition": 9, "first_lba": 5}, "no partition 9"),
        ({"bytes": "footer", "offset": 0, "hex": "636f6e6563746978"}, "are so already"),
        ({"length": 0}, "changes nothing"),
        ({"shrink": "/", "mib": 64}, "64 MiB already"),
    ],
)
def test_an_operation_that_changes_nothing_is_an_error(
    copy: Path, tmp_path: Path, operation: dict[str, Any], said: str
) -> None:
    before = identity(copy)
    with pytest.raises(HallmarkError) as caught:
        apply(mutant(operation), copy, work=tmp_path)
    assert said in str(caught.value) and "operation 1 of mutant m" in str(caught.value)
    assert identity(copy) == before


def test_operations_on_bytes(copy: Path, tmp_path: Path) -> None:
    apply(
        mutant(
            {"bytes": "footer", "offset": 60, "hex": "00000003", "checksum": True},
            {"partition": 1, "first_lba": 34},
            {"length": -512},
            view="format",
        ),
        copy,
        work=tmp_path,
    )
    footer = vhd.read_footer(copy)
    assert int(footer.disk_type) == 3
    codes = {item.code for item in vhd.deviations(copy)}
    assert not any("checksum" in code for code in codes), codes
    gpt = ImageBytes(copy).gpt
    assert gpt is not None and gpt.primary is not None and gpt.primary.intact
    assert gpt.partitions[0].first_lba == 34
