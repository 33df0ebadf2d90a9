"""The suites for ostree hosts on a small one: a deployment, its repository's configuration, a tree and its /etc."""

# ruff: noqa: E501 - a table: one case a line
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from judged_tree import judge
from small_packages import Made, install
from small_tree import KERNEL, initramfs, put

from certification.checks import Checks
from certification.views.guest_boot import BootGuest

COMMIT = "ab" * 32
DEPLOYMENT = f"/sysroot/ostree/deploy/os/deploy/{COMMIT}.0"
META = f"/sysroot/ostree/repo/objects/ab/{COMMIT[2:]}.commitmeta"
ENTRY = "/boot/loader/entries/ostree-1.conf"
OPTIONS = "ostree=/ostree/boot.1/os/x/0 console=tty1 console=ttyS0 earlyprintk=ttyS0 rootdelay=300"
MODULES = f"/usr/lib/modules/{KERNEL}"

GOOD: dict[str, str | bytes] = {
    "/etc/os-release": 'ID=rhel\nVERSION_ID="9.4"\nVARIANT_ID=edge\n',
    "/etc/fstab": "UUID=1 / ext4 defaults 0 0\n",
    f"{DEPLOYMENT}/": "",
    f"{DEPLOYMENT}.origin": "[origin]\nrefspec=vendor:os/9/x86_64\n",
    "/sysroot/ostree/repo/config": '[core]\nmode=bare\n\n[remote "vendor"]\nurl=https://ostree.example.com/repo\ngpg-verify=true\n',
    META: b"\0ostree.gpgsigs\0signature",
    "/sysroot/ostree/boot.1/os/x/0": f"->../../../deploy/os/deploy/{COMMIT}.0",
    ENTRY: f"title x\nlinux /ostree/os-x/vmlinuz-{KERNEL}\noptions {OPTIONS}\n",
    "/ostree": "->sysroot/ostree",
    "/home": "->var/home",
    "/opt": "->var/opt",
    "/srv": "->var/srv",
    "/root": "->var/roothome",
    "/mnt": "->var/mnt",
    "/proc/": "",
    "/sys/": "",
    "/dev/": "",
    "/run/": "",
    "/var/run": "->../run",
    "/var/tmp/ 1777": "",
    "/sysroot/tmp/ 1777": "",
    **{f"/usr/etc/setting-{n}": "default" for n in range(12)},
    **{f"/etc/setting-{n}": "default" for n in range(12)},
    f"{MODULES}/vmlinuz": "kernel",
    f"{MODULES}/initramfs.img": initramfs(),
    f"/boot/ostree/os-x/vmlinuz-{KERNEL}": "kernel",
    f"/boot/ostree/os-x/initramfs-{KERNEL}.img": initramfs(),
    "/etc/containers/policy.json": '{"default": [{"type": "reject"}]}',
    "/etc/containers/registries.conf": 'unqualified-search-registries = ["registry.redhat.io"]\n',
    "/usr/etc/os-release": 'ID=rhel\nVERSION_ID="9.4"\nVARIANT_ID=edge\n',
    "/usr/etc/containers/policy.json": '{"default": [{"type": "reject"}]}',
    "/usr/etc/containers/registries.conf": 'unqualified-search-registries = ["registry.redhat.io"]\n',
    "/usr/lib/systemd/system/greenboot-healthcheck.service": "[Install]\n",
    "/etc/systemd/system/multi-user.target.wants/greenboot-healthcheck.service": "->/usr/lib/systemd/system/greenboot-healthcheck.service",
    "/usr/lib/greenboot/check/required.d/01.sh 755": "#!/bin/sh\n",
}
PACKAGES = [
    "hyperv-daemons",
    "cloud-init",
    "WALinuxAgent",
    "podman",
    "skopeo",
    "ostree",
    "greenboot",
    "greenboot-default-health-checks",
]

CASES: list[tuple[str, dict[str, str | bytes | None]]] = [
    ("atomic.deployment-booted", {ENTRY: "linux /x\noptions console=ttyS0\n"}),
    ("atomic.deployment-booted", {"/sysroot/ostree/boot.1/os/x/0": "->../../../deploy/os/deploy/gone.0"}),
    ("atomic.deployment-booted", {ENTRY: None}),
    ("atomic.single-deployment", {f"{DEPLOYMENT[:-1]}1.origin": "[origin]\nrefspec=vendor:x\n"}),
    ("atomic.single-deployment", {f"{DEPLOYMENT}.origin": None}),
    ("atomic.origin-remote", {f"{DEPLOYMENT}.origin": "[origin]\nrefspec=local\n"}),
    ("atomic.origin-remote", {f"{DEPLOYMENT}.origin": "[origin]\nrefspec=other:x\n"}),
    ("atomic.origin-remote", {"/sysroot/ostree/repo/config": '[remote "vendor"]\nurl=https://x.example.com\ngpg-verify=false\n'}),
    ("atomic.origin-remote", {"/sysroot/ostree/repo/config": '[remote "vendor"]\nurl=file:///build/repo\n'}),
    ("atomic.origin-remote", {"/sysroot/ostree/repo/config": '[remote "vendor"]\nurl=https://192.168.1.2/repo\n'}),
    ("atomic.origin-remote", {f"{DEPLOYMENT}.origin": "[origin]\ncontainer-image-reference=ostree-unverified-registry:x/y\n"}),
    ("atomic.commit-signature", {META: b"nothing"}),
    ("atomic.commit-signature", {META: None}),
    ("atomic.no-unlock-override", {f"{DEPLOYMENT}.origin": "[origin]\nrefspec=vendor:x\n[packages]\nrequested=strace;\n"}),
    ("atomic.no-unlock-override", {f"{DEPLOYMENT}.origin": "[origin]\nrefspec=vendor:x\nunlocked=hotfix\n"}),
    ("atomic.root-layout", {"/home": None, "/home/": ""}),
    ("atomic.root-layout", {"/sysroot/": None}),
    ("atomic.etc-merge", {"/etc/setting-1": "local"}),
    ("atomic.etc-merge", {"/etc/added": "x"}),
    ("atomic.etc-merge", {"/etc/setting-1": None}),
    ("atomic.var-content", {"/var/lib/thing/data": "x"}),
    ("atomic.single-kernel", {"/usr/lib/modules/6.1.0-2/vmlinuz": "another"}),
    ("atomic.single-kernel", {f"/boot/ostree/os-x/vmlinuz-{KERNEL}": "changed"}),
    ("atomic.initramfs-hyperv", {f"{MODULES}/initramfs.img": initramfs(leave_out="hv_storvsc")}),
    ("atomic.initramfs-hyperv", {f"/boot/ostree/os-x/initramfs-{KERNEL}.img": None}),
    ("atomic.kargs", {ENTRY: f"linux /x\noptions {OPTIONS.replace('rootdelay=300', '')}\n"}),
    ("atomic.kargs", {"/usr/lib/bootc/kargs.d/10.toml": "kargs = [\n"}),
    ("atomic.tmp-permissions", {"/var/tmp/ 755": ""}),
    ("atomic.tmp-permissions", {"/sysroot/tmp/ 755": ""}),
    ("atomic.container-storage", {"/var/lib/containers/storage/overlay/x": "layer"}),
    ("atomic.container-storage", {"/etc/containers/storage.conf": 'driver = "devicemapper"\n'}),
    ("atomic.container-policy", {"/etc/containers/registries.conf": "[[registry]]\ninsecure = true\n"}),
    ("atomic.container-policy", {"/etc/containers/registries.conf": 'unqualified-search-registries = ["docker.io"]\n'}),
    ("atomic.container-policy", {"/etc/containers/policy.json": None}),
    ("atomic.lifecycle", {"/etc/os-release": 'ID=rhel\nVERSION_ID="7.9"\nVARIANT_ID=atomic.host\n'}),
    ("atomic.greenboot", {"/usr/lib/greenboot/check/required.d/01.sh 755": None, "/usr/lib/greenboot/check/required.d/01.sh 644": "x"}),
    ("atomic.greenboot", {"/etc/systemd/system/multi-user.target.wants/greenboot-healthcheck.service": None}),
    ("atomic.bootc-lints", {"/run/.containerenv": "x"}),
    ("atomic.bootc-lints", {f"{MODULES}/vmlinuz": None}),
    ("atomic.bootc-lints", {"/var/run": None, "/var/run/": ""}),
]  # fmt: skip
#: The requirement and the package without which it doesn't hold.
PACKAGE_CASES = [
    ("atomic.hyperv-daemons", "cloud-init"),
    ("atomic.container-engine", "podman"),
    ("atomic.admin-tools", "ostree"),
    ("atomic.greenboot", "greenboot-default-health-checks"),
    ("atomic.rpmdb", ""),
]


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with one ext4 of 20 GiB: the filesystems are no part of a directory."""
    root = SimpleNamespace(type="ext4", uuid="1", label="", size=20 << 30, free=15 << 30, clean=True)
    monkeypatch.setattr(BootGuest, "filesystems", {"guid": root})


def _database(directory: Path, *, without: str = "", signed: bool = True) -> Path:
    directory.mkdir()
    fill = [Made(f"filler-{n}", signed=signed) for n in range(50)]
    install(directory, directory.parent, [Made(name) for name in PACKAGES if name != without] + fill)
    return directory


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _database(tmp_path_factory.mktemp("ostree") / "database")


def _host(root: Path, changes: dict[str, str | bytes | None]) -> Path:
    for key, content in [*GOOD.items(), *changes.items()]:
        put(root, key, content)
    return root


def _judge(identifier: str, root: Path, packages: Path) -> Checks:
    return judge(identifier, root, packages)


@pytest.mark.parametrize(
    "identifier", sorted({name for name, _ in [*CASES, *PACKAGE_CASES]} - {"atomic.lifecycle"})
)
def test_a_good_host_passes(identifier: str, tmp_path: Path, packages: Path) -> None:
    check = _judge(identifier, _host(tmp_path, {}), packages)
    assert check.made and not check.failed, [(i.what, i.expected, i.observed) for i in check.failed]


@pytest.mark.parametrize(
    ("identifier", "changes"), CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CASES)]
)
def test_one_broken_thing_turns_it_red(
    identifier: str, changes: dict[str, str | bytes | None], tmp_path: Path, packages: Path
) -> None:
    assert _judge(identifier, _host(tmp_path, changes), packages).failed


@pytest.mark.parametrize(("identifier", "missing"), PACKAGE_CASES)
def test_a_missing_or_unsigned_package_turns_it_red(identifier: str, missing: str, tmp_path: Path) -> None:
    database = _database(tmp_path / "database", without=missing, signed=bool(missing))
    root = tmp_path / "root"
    root.mkdir()
    assert _judge(identifier, _host(root, {}), database).failed


def test_a_full_disk_has_no_room_for_a_second_tree(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _host(tmp_path, {"/usr/share/big": bytes(3 << 20)})
    assert not _judge("atomic.space-for-upgrade", root, packages).failed
    full = SimpleNamespace(type="ext4", uuid="1", label="", size=20 << 30, free=1 << 20, clean=True)
    monkeypatch.setattr(BootGuest, "filesystems", {"guid": full})
    assert _judge("atomic.space-for-upgrade", root, packages).failed
