"""Every requirement of containers on a small image: it passes when all is well, and turns red when one thing isn't.

The archive is written by the real writer and read by the real view; only what is in it is made up.
"""

# ruff: noqa: E501 - a table: one case a line
from __future__ import annotations

import hashlib
import inspect
import io
import json
import tarfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from directory_guest import DirectoryAccess
from judged_tree import TESTS, facts
from small_container import USER, Change, build, database, planned
from small_packages import Made, install_into

from builder.errors import HallmarkError
from builder.image import oci
from builder.recipe import Plan
from certification import catalogue
from certification.checks import Checks
from certification.evidence import EvidenceLog
from certification.judge import load_run
from certification.model import Subject
from certification.observe import observe
from certification.views import rpmdb
from certification.views.container import ContainerView, LayerReader
from certification.views.guest import Guest

ABOUT = [
    entry.id
    for entry in catalogue.load()
    if "container" in entry.applies_to.kinds and entry.area == "container"
]


def said(**changes: Any) -> Callable[[Plan], Plan]:
    """Another thing that the engine is told."""
    return lambda _: planned(**changes)


def environment(**changes: str) -> Callable[[Plan], Plan]:
    container = planned().container
    assert container is not None
    return said(environment={**container.environment, **changes})


def labels(**changes: str) -> Callable[[Plan], Plan]:
    container = planned().container
    assert container is not None
    given = {key.replace("__", ".").replace("_", "-"): value for key, value in changes.items()}
    return said(labels={**container.labels, **given})


def rewrite(what: Callable[[dict[str, bytes]], None]) -> Callable[[Path], None]:
    """Change the members of the archive as somebody would who repacks it."""

    def change(path: Path) -> None:
        with tarfile.open(path) as tree:
            members = {m.name: tree.extractfile(m).read() for m in tree if m.isfile()}  # type: ignore[union-attr]
        what(members)
        with tarfile.open(path, "w") as tree:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tree.addfile(member, io.BytesIO(data))

    return change


def configured(what: Callable[[dict[str, Any]], object], *, times: int = 1) -> Callable[[Path], None]:
    """Change the configuration, repeat the layer, and make every digest on the way right again."""

    def change(members: dict[str, bytes]) -> None:
        index = json.loads(members["index.json"])
        manifest = json.loads(members.pop("blobs/sha256/" + index["manifests"][0]["digest"][7:]))
        config = json.loads(members.pop("blobs/sha256/" + manifest["config"]["digest"][7:]))
        manifest["layers"] *= times
        config["rootfs"]["diff_ids"] *= times
        what(config)

        def put(value: dict[str, Any], descriptor: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            members[f"blobs/sha256/{sha256(data)}"] = data
            descriptor.update(digest=f"sha256:{sha256(data)}", size=len(data))

        put(config, manifest["config"])
        put(manifest, index["manifests"][0])
        members["index.json"] = json.dumps(index).encode()

    return rewrite(change)


def tagged(name: str) -> Callable[[Path], None]:
    def change(members: dict[str, bytes]) -> None:
        members["index.json"] = members["index.json"].replace(b'"9.20261122.0"', json.dumps(name).encode())

    return rewrite(change)


def other_id(config: dict[str, Any]) -> None:
    config["rootfs"]["diff_ids"] = [f"sha256:{'0' * 64}"]


PROGRAM = (0o755, "a program", 0, 0)
APP = "/opt/app-root/app"
CASES: list[tuple[str, Change]] = [
    ("container.layers-intact", Change(archive=configured(other_id))),
    ("container.layer-count", Change(archive=configured(dict, times=41))),
    ("container.nothing-hidden", Change(archive=rewrite(lambda m: m.update({"blobs/sha256/stowaway": b"x"})))),
    ("container.platform", Change(archive=configured(lambda c: c.update(architecture="arm64")))),
    ("container.platform", Change(archive=configured(lambda c: c.update(os="windows")))),
    ("container.unique-tag", Change(archive=tagged("latest"))),
    ("container.unique-tag", Change(archive=tagged(""))),
    ("container.required-labels", Change(plan=labels(maintainer=" "))),
    ("container.openshift-labels", Change(plan=labels(io__openshift__tags=""))),
    ("container.openshift-labels", Change(plan=said(ports=(9090,)))),
    ("container.non-root", Change(archive=configured(lambda c: c["config"].update(User="0")))),
    ("container.non-root", Change(archive=configured(lambda c: c["config"].update(User="default")))),
    ("container.non-root", Change(archive=configured(lambda c: c["config"].pop("User")))),
    ("container.arbitrary-user", Change(archive=configured(lambda c: c["config"].update(User="1001:1001")))),
    ("container.arbitrary-user", Change(files={f"{APP}/": (0o755, "", USER, 0)})),
    ("container.arbitrary-user", Change(files={f"{APP}/": (0o775, "", USER, USER)})),
    ("container.arbitrary-user", Change(files={f"{APP}/private.json": (0o600, "{}", USER, 0)})),
    ("container.arbitrary-user", Change(files={f"{APP}/": None})),
    ("container.arbitrary-user", Change(plan=environment(HOME=""))),
    ("container.entry-point", Change(files={"/usr/bin/container-entrypoint": None})),
    ("container.entry-point", Change(files={"/usr/libexec/s2i/run": (0o700, "#!/bin/bash\n", 0, 0)})),
    ("container.entry-point", Change(files={"/usr/bin/container-entrypoint": (0o755, "#!/bin/zsh\n", 0, 0)})),
    ("container.entry-point", Change(plan=said(entrypoint=("program-that-is-nowhere",)))),
    ("container.s2i-scripts", Change(files={"/usr/libexec/s2i/assemble": (0o644, "#!/bin/bash\n", 0, 0)})),
    ("container.s2i-scripts", Change(plan=labels(io__openshift__s2i__scripts_url="image:///usr/local/s2i"))),
    ("container.unprivileged-ports", Change(plan=said(ports=(80,)))),
    ("container.licences", Change(files={"/licenses/PACKAGES": None})),
    ("container.licences", Change(files={"/licenses/PACKAGES": (0o644, "", 0, 0)})),
    ("container.licences", Change(packages=(Made("zlib"),))),
    ("container.prohibited-packages", Change(packages=(Made("kernel-core"),))),
    ("container.packages-signed", Change(packages=(Made("zlib", signed=False),))),
    ("container.files-unmodified", Change(files={"/usr/share/filler/007": (0o644, "another\n", 0, 0)})),
    ("container.files-unmodified", Change(files={"/usr/share/filler/007": None})),
    ("container.no-setuid", Change(files={"/usr/bin/tool": (0o4755, "a tool", 0, 0)})),
    ("container.no-setuid", Change(files={"/usr/bin/tool": (0o2755, "a tool", 0, 0)})),
    ("container.no-devices", Change(files={"/dev/null": (0o666, "device", 0, 0)})),
    ("container.no-secrets", Change(plan=environment(DATABASE_PASSWORD="swordfish"))),
    ("container.no-secrets", Change(plan=environment(STORAGE="https://x.invalid/?sv=1&sig=abc"))),
    ("container.no-identity", Change(files={"/etc/machine-id": (0o444, "0123456789abcdef0123456789abcdef\n", 0, 0)})),
    ("container.no-identity", Change(files={"/etc/hostname": (0o644, "builder\n", 0, 0)})),
    ("container.no-identity", Change(files={"/etc/ssh/ssh_host_rsa_key": (0o600, "key", 0, 0)})),
    ("container.small", Change(files={"/usr/share/doc/bash/README": (0o644, "read me", 0, 0)})),
    ("container.small", Change(files={"/var/cache/dnf/x.rpm": (0o644, "fetched", 0, 0)})),
    ("container.dotnet-environment", Change(plan=environment(DOTNET_RUNNING_IN_CONTAINER=""))),
    ("container.dotnet-environment", Change(plan=environment(ASPNETCORE_URLS="http://*:80"))),
]  # fmt: skip


@pytest.fixture(scope="module")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return database(tmp_path_factory.mktemp("rpmdb"), tmp_path_factory.mktemp("rpms"))


def looked(archive: Path, work: Path) -> tuple[ContainerView, Guest]:
    work.mkdir(parents=True, exist_ok=True)
    view = ContainerView(image=archive, work=work, evidence=EvidenceLog(work / "evidence.jsonl", view="disk"))
    return view, Guest(view.host, booted=False, image=lambda: view.image)  # type: ignore[arg-type, return-value]


def judge(identifier: str, view: ContainerView, guest: Guest) -> Checks:
    check = Checks()
    claim = "hallmark-sample:9"
    given = {
        "image": view.image,
        "guest": guest,
        "facts": facts(claim),
        "check": check,
        "today": date(2026, 11, 22),
    }
    function = TESTS[identifier]
    function(**{name: given[name] for name in inspect.signature(function).parameters})
    return check


@pytest.fixture(scope="module")
def good(rpms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("good")
    return build(place / "image.oci.tar", rpms, place / "work", Change())


@pytest.mark.parametrize("identifier", ABOUT)
def test_the_good_image_passes(identifier: str, good: Path, tmp_path: Path) -> None:
    view, guest = looked(good, tmp_path)
    check = judge(identifier, view, guest)
    assert check.made, "it compared something"
    assert not check.failed, check.failed
    view.close()


@pytest.mark.parametrize(
    ("identifier", "change"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_one_wrong_thing_turns_it_red(identifier: str, change: Change, rpms: Path, tmp_path: Path) -> None:
    place = database(tmp_path / "rpmdb", tmp_path / "rpms", *change.packages) if change.packages else rpms
    archive = build(tmp_path / "image.oci.tar", place, tmp_path / "work", change)
    view, guest = looked(archive, tmp_path / "look")
    assert judge(identifier, view, guest).failed
    view.close()


def test_every_requirement_of_containers_can_fail() -> None:
    assert {identifier for identifier, _ in CASES} == set(ABOUT)


def test_machines_and_containers_are_not_judged_by_each_other() -> None:
    known = catalogue.load()
    machine = Subject.from_os_release({"ID": "x", "ID_LIKE": "rhel centos", "VERSION_ID": "9"})
    container = machine.model_copy(update={"kind": "container"})
    assert known["container.non-root"].applies_to.excludes(machine) == "only for containers"
    assert known["container.non-root"].applies_to.excludes(container) is None
    assert known["azure.cmdline-console"].applies_to.excludes(container) == "only for machines"


def test_upper_layers_hide_and_replace_what_is_below(tmp_path: Path) -> None:
    def layer(*members: tuple[str, bytes, str]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content, link in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                if name.endswith("/"):
                    member.type = tarfile.DIRTYPE
                elif link:
                    member.type, member.linkname = tarfile.LNKTYPE, link
                tar.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    lower = layer(("a/", b"", ""), ("a/x", b"1", ""), ("b/", b"", ""), ("b/y", b"2", ""), ("c", b"3", ""))
    upper = layer(("a/", b"", ""), ("a/.wh..wh..opq", b"", ""), ("a/z", b"4", ""), ("a/same", b"", "a/z"),
                  (".wh.b", b"", ""), ("c", b"five", ""))  # fmt: skip
    packed = [
        oci.Layer(oci.LAYER, sha256(data), len(data), sha256(data), "", lambda data=data: iter([data]))  # type: ignore[misc]
        for data in (lower, upper)
    ]
    description = oci.Description("n", "1", "t", "s", "x86_64", 0, {}, {})
    oci.pack(tmp_path / "two.tar", packed, description)
    reader = LayerReader(tmp_path / "two.tar", work=tmp_path)
    assert sorted(reader.entries) == ["/", "/a", "/a/same", "/a/z", "/c"]
    assert (reader.read("/c"), reader.read("/a/same")) == (b"five", b"4")
    assert reader.entries["/a/same"].sha256 == sha256(b"4")


@pytest.mark.system
def test_documentation_that_was_left_out_is_not_missing(tmp_path: Path) -> None:
    package = Made("bash", files=(("/usr/bin/bash", "a shell", 0o755),), documents=("/usr/share/doc/bash",))
    root = tmp_path / "root"
    root.mkdir()
    place = install_into(root, tmp_path, package)
    access = DirectoryAccess(root, database=place)
    assert {item.path for item in rpmdb.files(access)} == {"/usr/bin/bash", "/usr/share/doc/bash"}
    assert not (root / "usr/share/doc/bash").exists()
    assert [item.path for item in rpmdb.verify(access) if item.flags == "missing"] == []
    (root / "usr/bin/bash").unlink()
    access = DirectoryAccess(root, database=place)
    assert [item.path for item in rpmdb.verify(access) if item.flags == "missing"] == ["/usr/bin/bash"]


def test_a_damaged_archive_is_no_image(good: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "image.oci.tar"
    data = bytearray(good.read_bytes())
    data[data.index(b"\x1f\x8b\x08") + 5000] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(HallmarkError, match="is damaged"):
        looked(damaged, tmp_path / "look")


def test_a_look_can_be_taken_again_without_the_archive(good: Path, tmp_path: Path) -> None:
    only = ("container.non-root", "container.licences", "container.no-setuid")
    out = tmp_path / "disk"
    observe("disk", good, out=out, logs=tmp_path / "log", only=only)
    again = tmp_path / "again"
    observe("disk", None, out=again, logs=tmp_path / "log", replay=out, only=only)
    first, second = load_run(out), load_run(again)
    assert first.record is not None and first.record.subject is not None
    assert first.record.subject.kind == "container" and not first.record.problems
    assert second.record is not None and not second.record.problems
    assert [(o.requirement, o.outcome, o.checks) for o in first.observations] == [
        (o.requirement, o.outcome, o.checks) for o in second.observations
    ]
    assert {o.outcome for o in second.observations} == {"pass"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
