"""The suites for ostree hosts on a small one: a deployment, its repository's configuration, a tree and its /etc."""

# ruff: noqa: E501 - a table: one case a line
from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from judged_tree import judge
from small_packages import Made, install
from small_tree import KERNEL, KEY, initramfs, put

from certification.checks import Checks, NotApplicable
from certification.model import OstreeClaim
from certification.views.guest_boot import BootGuest

CONTENT = "a commit names its tree"
COMMIT = hashlib.sha256(CONTENT.encode()).hexdigest()
DEPLOYMENT = f"/sysroot/ostree/deploy/os/deploy/{COMMIT}.0"
OBJECT = f"/sysroot/ostree/repo/objects/{COMMIT[:2]}/{COMMIT[2:]}.commit"
META = f"{OBJECT}meta"
REF = "/sysroot/ostree/repo/refs/remotes/vendor/os/9/x86_64"
CLAIM = OstreeClaim(
    commit=COMMIT,
    stateroot="os",
    remote="vendor",
    ref="os/9/x86_64",
    url="https://ostree.example.com/repo",
    fingerprint="4289A0585D393B761423296BAA81A34A9A583DEE",
)
#: A public-key packet of version 4 (RFC 9580, 4.2.2 and 5.5.2).
OTHER_KEY = b"\x98\x06\x04\0\0\0\0\x01"
KEYRING = "/sysroot/ostree/repo/vendor.trustedkeys.gpg"
ENTRY = "/boot/loader/entries/ostree-1.conf"
OPTIONS = "ostree=/ostree/boot.1/os/x/0 console=tty1 console=ttyS0 earlyprintk=ttyS0 rootdelay=300"
GRUB = f"menuentry 'x' {{\n  linux /ostree/os-x/vmlinuz-{KERNEL} {OPTIONS}\n}}\n"
CONFIG = '[core]\nmode=bare\n\n[remote "vendor"]\nurl=https://ostree.example.com/repo\ngpg-verify=true\n'
OTHER = "cd" * 32
MODULES = f"/usr/lib/modules/{KERNEL}"

GOOD: dict[str, str | bytes] = {
    "/etc/os-release": 'ID=rhel\nVERSION_ID="9.4"\nVARIANT_ID=edge\n',
    "/etc/fstab": "UUID=1 / ext4 defaults 0 0\n",
    f"{DEPLOYMENT}/": "",
    f"{DEPLOYMENT}.origin": "[origin]\nrefspec=vendor:os/9/x86_64\n",
    "/sysroot/ostree/repo/config": CONFIG,
    OBJECT: CONTENT,
    REF: f"{COMMIT}\n",
    KEYRING: KEY.read_bytes(),
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
    ("atomic.single-deployment", {"/sysroot/ostree/repo/objects/cd/ef.commit": "an earlier build"}),
    ("atomic.single-deployment", {"/sysroot/ostree/repo/refs/heads/work": "cd" * 32}),
    ("atomic.single-deployment", {"/boot/loader/entries/ostree-2.conf": f"linux /x\noptions {OPTIONS}\n"}),
    ("atomic.single-deployment", {"/boot/grub2/grub.cfg": GRUB + GRUB}),
    ("atomic.single-deployment", {"/boot/grub2/grub.cfg": GRUB.replace("/x/0", "/x/1")}),
    ("atomic.commit-matches-recipe", {f"{DEPLOYMENT}.origin": None, f"{DEPLOYMENT.replace(COMMIT, OTHER)}.origin": "[origin]\nrefspec=vendor:os/9/x86_64\n"}),
    ("atomic.commit-matches-recipe", {f"{DEPLOYMENT}.origin": None, f"{DEPLOYMENT.replace('/os/', '/own/')}.origin": "[origin]\nrefspec=vendor:os/9/x86_64\n"}),
    ("atomic.commit-matches-recipe", {OBJECT: "another commit under its name"}),
    ("atomic.commit-matches-recipe", {OBJECT: None}),
    ("atomic.commit-matches-recipe", {f"{DEPLOYMENT}.origin": None}),
    ("atomic.origin-remote", {f"{DEPLOYMENT}.origin": "[origin]\nrefspec=vendor:os/9/x86_64/testing\n"}),
    ("atomic.origin-remote", {KEYRING: None}),
    ("atomic.origin-remote", {KEYRING: OTHER_KEY}),
    ("atomic.origin-remote", {"/sysroot/ostree/repo/config": '[remote "vendor"]\nurl=https://other.example.com/repo\n'}),
    ("atomic.origin-remote", {"/sysroot/ostree/repo/config": f'{CONFIG}[remote "build"]\nurl=https://build.example.com/repo\n'}),
    ("atomic.origin-remote", {f"{DEPLOYMENT}.origin": "[origin]\ncontainer-image-reference=ostree-image-signed:registry:x/y\n"}),
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
    ("atomic.var-content", {"/var/.ostree-selabeled": "no mark, but something to keep"}),
    ("atomic.var-content", {"/var/lib/.ostree-selabeled": ""}),
    ("atomic.single-kernel", {"/usr/lib/modules/6.1.0-2/vmlinuz": "another"}),
    ("atomic.single-kernel", {f"/boot/ostree/os-x/vmlinuz-{KERNEL}": "changed"}),
    ("atomic.initramfs-hyperv", {f"{MODULES}/initramfs.img": initramfs(leave_out="hv_storvsc")}),
    ("atomic.initramfs-hyperv", {f"/boot/ostree/os-x/initramfs-{KERNEL}.img": None}),
    ("atomic.kargs", {ENTRY: f"linux /x\noptions {OPTIONS.replace('rootdelay=300', '')}\n"}),
    ("atomic.kargs", {"/usr/lib/bootc/kargs.d/10.toml": "kargs = [\n"}),
    ("atomic.tmp-permissions", {"/var/tmp/ 755": ""}),
    ("atomic.tmp-permissions", {"/sysroot/tmp/ 755": ""}),
    ("atomic.tmp-permissions", {"/var/tmp/ 1777": None}),
    ("atomic.tmp-permissions", {"/var/tmp/ 1777": None, "/usr/lib/tmpfiles.d/tmp.conf": "q /var/tmp 0755 root root 30d\n"}),
    ("atomic.container-storage", {"/var/lib/containers/storage/overlay/x": "layer"}),
    ("atomic.container-storage", {"/etc/containers/storage.conf": 'driver = "devicemapper"\n'}),
    ("atomic.container-policy", {"/etc/containers/registries.conf": "[[registry]]\ninsecure = true\n"}),
    ("atomic.container-policy", {"/etc/containers/registries.conf": 'unqualified-search-registries = ["docker.io"]\n'}),
    ("atomic.container-policy", {"/etc/containers/policy.json": None}),
    ("atomic.lifecycle", {"/etc/os-release": 'ID=rhel\nVERSION_ID="7.9"\nVARIANT_ID=atomic.host\n'}),
    ("atomic.greenboot", {"/usr/lib/greenboot/check/required.d/01.sh 755": None, "/usr/lib/greenboot/check/required.d/01.sh 644": "x"}),
    ("atomic.greenboot", {"/etc/systemd/system/multi-user.target.wants/greenboot-healthcheck.service": None}),
    ("atomic.greenboot", {"/usr/lib/greenboot/check/required.d/01.sh 755": None}),
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
    return judge(identifier, root, packages, claimed=CLAIM)


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


@pytest.mark.parametrize(
    ("identifier", "changes"),
    [
        # A GRUB without blscfg has the entry of the loader in its own words, too.
        ("atomic.single-deployment", {"/boot/grub2/grub.cfg": GRUB}),
        ("atomic.var-content", {"/var/.ostree-selabeled": ""}),
        (
            "atomic.var-content",
            {"/var/lib/thing/data": "x", "/usr/lib/tmpfiles.d/x.conf": "f /var/lib/thing/data 0644\n"},
        ),
        ("atomic.tmp-permissions", {"/sysroot/tmp/ 1777": None}),
        (
            "atomic.tmp-permissions",
            {"/var/tmp/ 1777": None, "/usr/lib/tmpfiles.d/tmp.conf": "q /var/tmp 1777 root root 30d\n"},
        ),
        (
            "atomic.greenboot",
            {
                "/etc/systemd/system/multi-user.target.wants/greenboot-healthcheck.service": None,
                "/usr/lib/systemd/system/health-check.service": "[Install]\n",
                "/etc/systemd/system/multi-user.target.wants/health-check.service": "->/usr/lib/systemd/system/health-check.service",
            },
        ),
        # A vendor's tree may bring remotes for those who want them.
        (
            "atomic.origin-remote",
            {"/etc/ostree/remotes.d/x.conf": '[remote "x"]\nurl=https://x.example.com\n'},
        ),
    ],
)
def test_what_a_good_host_may_have(
    identifier: str, changes: dict[str, str | bytes | None], tmp_path: Path, packages: Path
) -> None:
    check = _judge(identifier, _host(tmp_path, changes), packages)
    assert check.made and not check.failed, [(i.what, i.expected, i.observed) for i in check.failed]


def test_nobody_says_which_commit_it_is(tmp_path: Path, packages: Path) -> None:
    with pytest.raises(NotApplicable, match="nobody said which commit"):
        judge("atomic.commit-matches-recipe", _host(tmp_path, {}), packages)
    other: dict[str, str | bytes | None] = {f"{DEPLOYMENT}.origin": "[origin]\nrefspec=vendor:another\n"}
    assert not judge("atomic.origin-remote", _host(tmp_path, other), packages).failed


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
