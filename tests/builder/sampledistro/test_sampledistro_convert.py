"""A tiny Debian package, made here, becomes an RPM: content, rules, and the errors."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import rpm_rs

from builder.errors import HallmarkError
from builder.sampledistro import deb
from builder.sampledistro.bytecode import compile_modules
from builder.sampledistro.convert import convert
from builder.sampledistro.definition import DATA, Definition, load
from builder.sampledistro.rpm import PackageSpec, write

CONTROL = """\
Package: tiny
Version: 1:1.2-beta-3
Architecture: all
Depends: libc6 (>= 2.36), debconf | debconf-2.0
Provides: tiny-virtual
Description: a tiny package
 It does nothing.
"""


def _tar(files: dict[str, bytes | str | None], modes: dict[str, int] | None = None) -> bytes:
    """None: a directory; str: a symbolic link; bytes: a file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        for name, value in files.items():
            info = tarfile.TarInfo(name)
            info.uname = info.gname = "root"
            info.mode = (modes or {}).get(name, 0o755 if value is None else 0o644)
            if value is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(value, str):
                info.type, info.linkname = tarfile.SYMTYPE, value
            else:
                info.size = len(value)
            archive.addfile(info, io.BytesIO(value) if isinstance(value, bytes) else None)
    return stream.getvalue()


def _ar(members: dict[str, bytes]) -> bytes:
    data = b"!<arch>\n"
    for name, content in members.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(content):<10}`\n".encode() + content
        data += b"\n" * (len(content) % 2)
    return data


def make_deb(
    path: Path, *, control: str = CONTROL, files: dict[str, bytes | str | None] | None = None
) -> Path:
    content = files or {
        "./": None,
        "./bin/": None,
        "./bin/tiny": b"#!/bin/sh\n",
        "./etc/tiny.conf": b"colour = red\n",
        "./lib/tiny/": None,
        "./lib/tiny/link": "../../bin/tiny",
        "./usr/share/doc/tiny/copyright": b"free\n",
        "./usr/share/doc/tiny/README": b"long\n",
        "./usr/lib/python3/dist-packages/tiny.py": b"x = 1\n",
    }
    path.write_bytes(
        _ar(
            {
                "debian-binary": b"2.0\n",
                "control.tar.xz": _tar({"./control": control.encode()}),
                "data.tar.xz": _tar(content, {"./bin/tiny": 0o4755}),
            }
        )
    )
    return path


@pytest.fixture(scope="module")
def definition() -> Definition:
    return load()


@pytest.fixture
def spec(tmp_path: Path, definition: Definition) -> PackageSpec:
    package = deb.read(make_deb(tmp_path / "tiny.deb"))
    return convert(package, definition=definition, available={"libc6"})[0]


def test_paths_modes_and_flags(spec: PackageSpec) -> None:
    entries = {entry.path: entry for entry in spec.entries}
    assert entries["/usr/bin/tiny"].mode == 0o4755
    assert entries["/usr/lib/tiny/link"].target == "../../bin/tiny"
    assert entries["/etc/tiny.conf"].config
    assert entries["/usr/share/licenses/tiny/copyright"].license
    assert not any("/usr/share/doc" in path for path in entries)
    assert "/usr/bin" not in entries, "the package filesystem owns it"
    assert entries["/usr/lib/tiny"].kind == "directory"


def test_names_and_versions(spec: PackageSpec) -> None:
    assert (spec.name, spec.epoch, spec.version, spec.release, spec.arch) == (
        "tiny",
        1,
        "1.2.beta",
        "3",
        "noarch",
    )
    assert [str(item) for item in spec.requires] == ["glibc >= 2.36"]
    assert [str(item) for item in spec.provides] == ["tiny-virtual"]
    assert spec.vendor == "Hallmark sample distribution"


def test_python_modules_are_compiled(spec: PackageSpec) -> None:
    paths = {entry.path for entry in spec.entries}
    assert "/usr/lib/python3/dist-packages/__pycache__/tiny.cpython-311.pyc" in paths


def test_bytecode_is_the_kind_that_is_not_checked_and_runs() -> None:
    source = {"/usr/lib/python3/dist-packages/a.py": b"x = 40 + 2\n", "/usr/lib/python3/b.py": b"x = (\n"}
    result = compile_modules(source)
    assert list(result) == ["/usr/lib/python3/dist-packages/__pycache__/a.cpython-311.pyc"]
    data = next(iter(result.values()))
    assert data[4:8] == b"\x01\x00\x00\x00"
    assert result == compile_modules(source)


def test_the_rpm_is_signed_and_the_same_every_time(
    spec: PackageSpec, definition: Definition, tmp_path: Path
) -> None:
    date = definition.identity.source_date
    for name in ("a.rpm", "b.rpm"):
        write(spec, tmp_path / name, secret_key=definition.secret_key, source_date=date)
    assert (tmp_path / "a.rpm").read_bytes() == (tmp_path / "b.rpm").read_bytes()
    package = rpm_rs.Package.open(str(tmp_path / "a.rpm"))
    package.verify_signature(rpm_rs.Verifier(definition.key.read_bytes()))
    assert package.metadata.build_time == date


def test_a_tampered_rpm_fails_verification(spec: PackageSpec, definition: Definition, tmp_path: Path) -> None:
    path = tmp_path / "a.rpm"
    write(spec, path, secret_key=definition.secret_key, source_date=definition.identity.source_date)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"tiny.conf", b"tinY.conf"))
    with pytest.raises(Exception, match=r"(?i)signature|digest|verif"):
        rpm_rs.Package.open(str(path)).verify_signature(rpm_rs.Verifier(definition.key.read_bytes()))


@pytest.mark.parametrize("length", [0, 7, 60, 200, -5])
def test_a_truncated_package_is_named(tmp_path: Path, length: int) -> None:
    path = make_deb(tmp_path / "tiny.deb")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(HallmarkError) as caught:
        deb.read(path)
    assert caught.value.where == path


def test_a_package_without_a_version_is_refused(tmp_path: Path) -> None:
    path = make_deb(tmp_path / "tiny.deb", control="Package: tiny\n")
    with pytest.raises(HallmarkError, match="no Version, Architecture"):
        deb.read(path)


def _changed(
    definition: Definition, tmp_path: Path, change: str, overlay: dict[str, str] | None = None
) -> Definition:
    root = tmp_path / "data"
    shutil.copytree(DATA, root)
    (root / "changes" / "tiny.yaml").write_text(change)
    for name, text in (overlay or {}).items():
        path = root / "overlays" / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return load(root)


def test_changes(definition: Definition, tmp_path: Path) -> None:
    changed = _changed(
        definition,
        tmp_path,
        """
drop: [/usr/lib/python3]
move: {"/usr/bin/(t.*)": '/usr/libexec/\\1'}
copy: {/etc/tiny.conf: /etc/other.conf}
edits: {/etc/tiny.conf: [{find: "^colour = .*$", replace: "colour = blue"}]}
links: {/usr/bin/tiny: ../libexec/tiny}
modes: {/etc/tiny.conf: {mode: "0600", user: sshd}}
ghosts: {/var/log/tiny.log: {}}
requires: ["other = {evr}"]
split: {tiny-conf: {summary: configuration, paths: [/etc/tiny.conf]}}
""",
        {"etc/more.conf": "more\n"},
    )
    main, part = convert(deb.read(make_deb(tmp_path / "t.deb")), definition=changed, available={"libc6"})
    entries = {entry.path: entry for entry in main.entries}
    assert entries["/usr/libexec/tiny"].mode == 0o4755
    assert entries["/usr/bin/tiny"].target == "../libexec/tiny"
    assert entries["/etc/other.conf"].content == b"colour = red\n"
    assert entries["/etc/more.conf"].content == b"more\n"
    assert entries["/var/log/tiny.log"].kind == "ghost"
    assert not any(path.startswith("/usr/lib/python3") for path in entries)
    moved = {entry.path: entry for entry in part.entries}["/etc/tiny.conf"]
    assert (moved.content, moved.mode, moved.user) == (b"colour = blue\n", 0o600, "sshd")
    assert "/etc/tiny.conf" not in entries
    assert {"tiny-conf = 1:1.2.beta-3", "other = 1:1.2.beta-3"} <= {str(item) for item in main.requires}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("drop: [/usr/bin/gone]", "has no path /usr/bin/gone to drop"),
        ("move: {/usr/bin/gone: /usr/bin/x}", "has no path that matches"),
        ("edits: {/etc/tiny.conf: [{find: green, replace: x}]}", "nothing in /etc/tiny.conf matches"),
        ("edits: {/etc/gone: [{find: a, replace: b}]}", "has no file /etc/gone to edit"),
        ('modes: {/etc/gone: {mode: "0600"}}', "has no path /etc/gone to set the mode of"),
    ],
)
def test_a_rule_that_finds_nothing_is_an_error(
    definition: Definition, tmp_path: Path, change: str, message: str
) -> None:
    changed = _changed(definition, tmp_path, change)
    with pytest.raises(HallmarkError, match=message) as caught:
        convert(deb.read(make_deb(tmp_path / "t.deb")), definition=changed, available={"libc6"})
    assert str(caught.value.where).endswith("changes/tiny.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [("colour: red", "data of the sample distribution is wrong"), ("drop: [", "not valid YAML")],
)
def test_wrong_data_names_its_file(definition: Definition, tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(HallmarkError, match=message) as caught:
        _changed(definition, tmp_path, change)
    assert str(caught.value.where).endswith("changes/tiny.yaml")


def test_an_overlay_without_a_package_is_an_error(definition: Definition, tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="belongs to no package"):
        changed = _changed(definition, tmp_path, "{}", {"etc/x": "x"})
        (changed.root / "changes" / "tiny.yaml").unlink()
        load(changed.root)


def test_a_packages_digest_follows_its_own_data_only(definition: Definition, tmp_path: Path) -> None:
    changed = _changed(definition, tmp_path, "{}", {"etc/x": "x"})
    assert changed.package_digest("tiny") != definition.package_digest("tiny")
    assert changed.package_digest("bash") == definition.package_digest("bash")
    assert changed.common_digest() == definition.common_digest()
