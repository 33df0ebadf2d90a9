"""Names, versions, dependencies and paths: tables of Debian's terms and RPM's."""

from __future__ import annotations

import subprocess

import pytest

from builder.errors import HallmarkError
from builder.sampledistro.paths import PathRules, merge_usr, relocate_target
from builder.sampledistro.rpm import Dependency
from builder.sampledistro.translate import Names, Version, dependencies, parse_relation, provides

NAMES = Names(
    renamed={"libc6": "glibc", "cron": "cronie", "openssh-client": "openssh-clients"},
    patterns=((r"linux-image-\d.*", "kernel-core"),),
    dropped=("debconf*", "adduser"),
)
AVAILABLE = {"libc6", "cron", "openssh-client", "mawk-virtual", "exim", "linux-image-6.1.0-1-cloud-amd64"}


@pytest.mark.parametrize(
    ("debian", "epoch", "version", "release"),
    [
        ("2.36-9+deb12u14", 0, "2.36", "9+deb12u14"),
        ("1:9.2p1-2+deb12u10", 1, "9.2p1", "2+deb12u10"),
        ("1.1-beta-2-3", 0, "1.1.beta.2", "3"),
        ("2026f", 0, "2026f", ""),
        ("2:2.20221101-9", 2, "2.20221101", "9"),
        ("1.51~1+deb12u1+16.1-2~deb12u1", 0, "1.51~1+deb12u1+16.1", "2~deb12u1"),
    ],
)
def test_versions(debian: str, epoch: int, version: str, release: str) -> None:
    assert Version.parse(debian) == Version(epoch, version, release)


@pytest.mark.parametrize(
    ("older", "newer"),
    [("1.0~rc1-1", "1.0-1"), ("1:1.0-1", "2:0.1-1"), ("2.36-9", "2.36-9+deb12u14"), ("4.9-1", "4.10-1")],
)
def test_translated_versions_sort_as_in_debian(older: str, newer: str) -> None:
    script = f"%{{lua:print(rpm.vercmp('{Version.parse(older).evr}', '{Version.parse(newer).evr}'))}}"
    result = subprocess.run(["rpm", "--eval", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "-1"


@pytest.mark.parametrize(
    ("name", "rpm"),
    [("libc6", "glibc"), ("linux-image-6.1.0-1-cloud-amd64", "kernel-core"), ("bash", "bash")],
)
def test_names(name: str, rpm: str) -> None:
    assert NAMES.rpm(name) == rpm


def test_dropped_names() -> None:
    assert NAMES.drops("debconf-2.0")
    assert not NAMES.drops("debianutils")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("libc6 (>= 2.36)", ["glibc >= 2.36"]),
        # RPM's "> 2.36" would exclude 2.36-9.
        ("libc6 (>> 2.36)", ["glibc >= 2.36"]),
        ("libc6 (>> 2.36-3)", ["glibc > 2.36-3"]),
        ("libc6 (<< 2.37)", ["glibc < 2.37"]),
        ("openssh-client (= 1:9.2p1-2+deb12u10)", ["openssh-clients = 1:9.2p1-2+deb12u10"]),
        ("libc6:any", ["glibc"]),
        ("adduser, debconf (>= 0.5) | debconf-2.0, cron", ["cronie"]),
        ("anacron | cron | exim", ["cronie"]),
        ("nothing-here | nor-here", []),
        ("libc6 (>= 2.36),\n cron", ["glibc >= 2.36", "cronie"]),
    ],
)
def test_dependencies(field: str, expected: list[str]) -> None:
    assert [str(item) for item in dependencies(field, names=NAMES, available=AVAILABLE)] == expected


def test_provides_keep_debian_names() -> None:
    assert provides("mail-transport-agent, default-dbus (= 1.2-3)") == [
        Dependency("mail-transport-agent"),
        Dependency("default-dbus", "=", "1.2-3"),
    ]


@pytest.mark.parametrize("text", ["", "(>= 1)"])
def test_what_is_no_relation(text: str) -> None:
    with pytest.raises(HallmarkError, match="not a package relation"):
        parse_relation(text)


@pytest.mark.parametrize("text", ["glibc >=", "a b c", "glibc ~ 1"])
def test_what_is_no_dependency(text: str) -> None:
    with pytest.raises(HallmarkError, match="not a dependency"):
        Dependency.parse(text)


@pytest.mark.parametrize(
    ("path", "merged"),
    [
        ("/bin/ls", "/usr/bin/ls"),
        ("/lib64/ld.so", "/usr/lib64/ld.so"),
        ("/lib", "/usr/lib"),
        ("/library/x", "/library/x"),
        ("/usr/lib/x", "/usr/lib/x"),
        ("/etc/lib/x", "/etc/lib/x"),
    ],
)
def test_merged_usr(path: str, merged: str) -> None:
    assert merge_usr(path) == merged


RULES = PathRules(drop=(), move=(("/usr/lib/cloud-init", "/usr/libexec/cloud-init"),))


@pytest.mark.parametrize(
    ("link", "target", "expected"),
    [
        ("/lib/x86_64-linux-gnu/libm.so", "../../usr/lib/libm.so.6", "../libm.so.6"),
        ("/bin/sh", "bash", "bash"),
        ("/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"),
        ("/usr/bin/x", "../lib/cloud-init/x", "../libexec/cloud-init/x"),
        ("/usr/lib/cloud-init/a", "b", "b"),
        ("/lib/systemd/system/sudo.service", "/dev/null", "/dev/null"),
        ("/lib/firmware", "../usr/share/firmware", "../share/firmware"),
    ],
)
def test_links_point_to_the_same_file_after_the_move(link: str, target: str, expected: str) -> None:
    assert relocate_target(link, target, rules=RULES) == expected


def test_dropped_paths_cover_what_is_below() -> None:
    drop = PathRules(drop=("/usr/share/doc", "/etc/rc?.d", "/usr/lib/*/pkgconfig"), move=()).compile()
    assert drop.match("/usr/share/doc/bash/README")
    assert drop.match("/etc/rc5.d")
    assert drop.match("/usr/lib/x86_64-linux-gnu/pkgconfig/a.pc")
    assert not drop.match("/usr/share/docs")
    assert not drop.match("/etc/rc.d/rc.local")
