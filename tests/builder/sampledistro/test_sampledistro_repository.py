"""Making the repository for real, with apt, of a few packages; and the whole one as dnf and rpm see it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
import rpm_rs
import yaml

from builder.errors import HallmarkError
from builder.run import run
from builder.sampledistro import SampleRepository, ensure
from builder.sampledistro.apt import host_sources
from builder.sampledistro.definition import DATA
from builder.workspace import PROJECT, digest_file

CHANGES = ("bash", "glibc", "glibc-common")
PACKAGES = ("filesystem", "setup")


def small_data(root: Path, *, debs: list[str]) -> Path:
    """The real data, cut down to a few packages."""
    for name in ("distribution.yaml", "names.yaml", "paths.yaml", "comps.xml", "keys"):
        source = DATA / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    (root / "debs.yaml").write_text(
        yaml.safe_dump({"release": "bookworm", "architecture": "amd64", "sets": {"small": debs}})
    )
    for kind, names in (("changes", CHANGES), ("packages", PACKAGES)):
        (root / kind).mkdir()
        for name in names:
            shutil.copy(DATA / kind / f"{name}.yaml", root / kind)
    (root / "overlays").mkdir()
    for name in (*CHANGES, *PACKAGES):
        if (DATA / "overlays" / name).is_dir():
            shutil.copytree(DATA / "overlays" / name, root / "overlays" / name)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"), debs=["bash", "hostname", "libc-bin", "python3-six"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def small(data: Path, cache: Path) -> SampleRepository:
    return ensure(cache=cache, source=data)


def forget(cache: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(cache / "sample-distribution" / name)


def rpms(repository: SampleRepository) -> dict[str, str]:
    return {path.name: digest_file(path) for path in repository.path.glob("*.rpm")}


@pytest.mark.system
def test_a_second_call_asks_nobody(
    small: SampleRepository, data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    began = time.monotonic()
    assert ensure(cache=cache, source=data) == small
    assert time.monotonic() - began < 1


@pytest.mark.system
def test_made_again_it_is_the_same(small: SampleRepository, data: Path, cache: Path) -> None:
    before = rpms(small)
    metadata = digest_file(small.path / "repodata" / "repomd.xml")
    forget(cache, "converted", "repository")
    again = ensure(cache=cache, source=data)
    assert again == small
    assert rpms(again) == before
    assert digest_file(again.path / "repodata" / "repomd.xml") == metadata


@pytest.mark.system
def test_a_change_converts_one_package(
    small: SampleRepository, data: Path, cache: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "data"
    shutil.copytree(data, changed)
    (changed / "overlays" / "bash" / "etc" / "skel" / ".bashrc").write_text("# changed\n")
    before = set((cache / "sample-distribution" / "converted").iterdir())
    other = ensure(cache=cache, source=changed)
    assert len(set((cache / "sample-distribution" / "converted").iterdir()) - before) == 1
    assert other.digest != small.digest
    different = {name for name, digest in rpms(other).items() if rpms(small)[name] != digest}
    assert {name.split("-")[0] for name in different} == {"bash"}


@pytest.mark.system
def test_killed_while_converting_it_goes_on(small: SampleRepository, data: Path, cache: Path) -> None:
    forget(cache, "converted", "repository")
    code = f"import builder.sampledistro as s; from pathlib import Path as P\nif __name__ == '__main__': s.ensure(cache=P({str(cache)!r}), source=P({str(data)!r}))\n"  # noqa: E501
    script = cache / "make.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, script], cwd=PROJECT, start_new_session=True)
    converted = cache / "sample-distribution" / "converted"
    while not (converted.is_dir() and any(converted.iterdir())):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while left := _session(process.pid):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)
    assert not list((cache / "sample-distribution").glob("repository/[!.]*"))
    assert ensure(cache=cache, source=data) == small
    remains = [path for path in (cache / "sample-distribution").glob("*/.*") if path.is_dir()]
    assert not remains


def _session(leader: int) -> list[int]:
    """The processes of a session, which a child can't leave by accident: proc(5), field 6 of stat."""
    result = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            result.append(int(path.parent.name))
    return result


@pytest.mark.system
def test_a_damaged_debian_package_is_fetched_again(small: SampleRepository, data: Path, cache: Path) -> None:
    package = next((cache / "sample-distribution/apt/cache/archives").glob("hostname_*.deb"))
    content = package.read_bytes()
    package.write_bytes(content[:-100] + bytes(100))
    forget(cache, "converted", "repository")
    assert ensure(cache=cache, source=data) == small
    assert package.read_bytes() == content


@pytest.mark.system
def test_unreachable_registry(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    sources.write_text("deb http://127.0.0.1:9/debian bookworm main\n")
    monkeypatch.setenv("HALLMARK_APT_SOURCES", str(sources))
    with pytest.raises(HallmarkError, match="can't be reached") as caught:
        ensure(cache=tmp_path / "cache", source=data)
    assert caught.value.hint is not None
    assert not (tmp_path / "cache/sample-distribution/resolution.json").exists()


@pytest.mark.system
def test_unknown_debian_package(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = small_data(tmp_path / "data", debs=["bash", "no-such-package"])
    with pytest.raises(HallmarkError, match="has no such package") as caught:
        ensure(cache=tmp_path / "cache", source=data)
    assert any("no-such-package" in line for line in caught.value.details)


@pytest.mark.system
def test_every_package_is_signed_with_the_pinned_key(
    sample_repository: SampleRepository, tmp_path: Path
) -> None:
    database = f"--dbpath={tmp_path}"
    run(["rpmkeys", database, "--import", sample_repository.key])
    checked = run(
        ["rpmkeys", database, "-K", *sorted(sample_repository.path.glob("*.rpm"))], env={"LC_ALL": "C"}
    )
    lines = checked.stdout.splitlines()
    assert len(lines) == sample_repository.packages
    assert all(line.endswith("digests signatures OK") for line in lines)
    shown = run(
        ["gpg", "--with-colons", "--show-keys", sample_repository.key], env={"GNUPGHOME": str(tmp_path)}
    )
    assert f"fpr:::::::::{sample_repository.fingerprint}:" in shown.stdout


@pytest.mark.system
def test_no_two_packages_differ_over_a_path(sample_repository: SampleRepository) -> None:
    owners: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    names: dict[str, list[str]] = defaultdict(list)
    for path in sample_repository.path.glob("*.rpm"):
        metadata = rpm_rs.PackageMetadata.open(str(path))
        for entry in metadata.file_entries():
            owners[entry.path].add(
                (int(entry.mode.raw_mode), entry.user, entry.group, str(entry.digest), entry.linkto)
            )
            names[entry.path].append(metadata.name)
    conflicts = {path: names[path] for path, kinds in owners.items() if len(kinds) > 1}
    assert not conflicts


@pytest.mark.system
def test_a_system_installs_and_verifies(sample_repository: SampleRepository, tmp_path: Path) -> None:
    """dnf with gpgcheck on a small system; then rpm finds every file as packaged."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")
    configuration = tmp_path / "dnf.conf"
    configuration.write_text(
        f"[main]\nreposdir=/nonexistent\n[sample]\nname=sample\nbaseurl=file://{sample_repository.path}\n"
        f"gpgcheck=1\ngpgkey=file://{sample_repository.key}\n"
    )
    root = tmp_path / "root"
    command = ["dnf", "--quiet", "--assumeyes", f"--config={configuration}", f"--installroot={root}"]
    packages = ["systemd", "dnf", "dotnet-runtime-3.1", "hyperv-daemons", "WALinuxAgent", "cloud-init"]
    run([*command, "--releasever=9", "install", *packages], env={"HOME": str(home)}, timeout=300)
    verified = run(["rpm", f"--root={root}", "-Va", "--nodeps"], env={"HOME": str(home)}, check=False)
    assert verified.stdout == ""
    listed = run(["rpm", f"--root={root}", "-qa", "--qf", "%{NAME} %{VENDOR}\n"], env={"HOME": str(home)})
    installed = dict(line.split(" ", 1) for line in listed.stdout.splitlines())
    assert {"hypervkvpd", "hypervvssd", "hypervfcopyd", "hyperv-daemons-license", "dotnet-host"} <= set(
        installed
    )
    assert {vendor for name, vendor in installed.items() if name != "gpg-pubkey"} == {
        "Hallmark sample distribution"
    }
    release = dict(
        line.split("=", 1) for line in (root / "usr/lib/os-release").read_text().splitlines() if "=" in line
    )
    assert (release["ID"], release["ID_LIKE"]) == ('"hallmark-sample"', '"rhel centos fedora"')
    with (root / "usr/bin/cloud-init").open("rb") as stream:
        stream.read(1)
    (root / "usr/bin/cloud-init").write_text("tampered\n")
    verified = run(["rpm", f"--root={root}", "-V", "cloud-init"], env={"HOME": str(home)}, check=False)
    assert "/usr/bin/cloud-init" in verified.stdout


ONE_LINE = """\
# a comment
deb [signed-by=/k.gpg] http://mirror.invalid/debian bookworm main contrib
deb http://mirror.invalid/debian bookworm-updates main
deb-src http://mirror.invalid/debian bookworm main
deb http://mirror.invalid/debian trixie main
deb http://other.invalid/apt stable main
"""
DEB822 = """\
Types: deb deb-src
URIs: http://mirror.invalid/security
Suites: bookworm-security
Components: main
Signed-By: /k.gpg

Types: deb
URIs: http://other.invalid
Suites: nodistro
Components: main

Types: deb
Enabled: no
URIs: http://off.invalid
Suites: bookworm
Components: main
"""


def test_host_sources(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(DEB822)
    assert host_sources("bookworm", paths=(tmp_path / "sources.list", parts)) == [
        "deb [signed-by=/k.gpg] http://mirror.invalid/debian bookworm main",
        "deb http://mirror.invalid/debian bookworm-updates main",
        "deb [signed-by=/k.gpg] http://mirror.invalid/security bookworm-security main",
    ]


def test_a_host_without_the_release(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror.invalid/debian trixie main\n")
    with pytest.raises(HallmarkError, match="no apt sources for Debian bookworm"):
        host_sources("bookworm", paths=(tmp_path / "sources.list",))
