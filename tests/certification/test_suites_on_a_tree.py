"""Every file-based requirement on a small guest: it passes when all is well, and turns red when one thing is
broken.

A case names the requirement, the change to the tree (path → content, None removes) and nothing else. The
suites that run here are the real ones; only the guest is made up.
"""

# ruff: noqa: E501 - a table: one case a line
from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import test_suites_configuration as configuration
from judged_tree import BLS, GOOD_BLS, MODULES, RAMDISK, conf, judge
from small_packages import Made, erase, install
from small_tree import FILES, KERNEL, initramfs
from test_parse import member

from certification.checks import NotApplicable

AZURE = "/etc/cloud/cloud.cfg.d/91-azure_datasource.cfg"
WANTS = "/etc/systemd/system/multi-user.target.wants"
SSHD = "/etc/ssh/sshd_config.d/50-azure.conf 600"
MATCHED = FILES[SSHD] + "Match User *\n  {}\n"


CASES: list[tuple[str, dict[str, str | bytes | None]]] = [
    ("azure.fstab-no-resource-disk", {"/etc/fstab": "UUID=1 / ext4\n/dev/disk/cloud/azure_resource-part1 /mnt auto comment=cloudconfig\n"}),
    ("azure.cmdline-console", conf(BLS, "console=tty1 console=ttyS0", "console=ttyS0 console=tty1")),
    ("azure.cmdline-console", {BLS: None}),
    ("azure.cmdline-rootdelay", conf(BLS, "rootdelay=300", "rootdelay=30")),
    ("azure.cmdline-earlyprintk", conf(BLS, "earlyprintk=ttyS0", "")),
    ("azure.cmdline-net-ifnames", {"/etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\n"}),
    ("azure.cmdline-no-rhgb-quiet", {BLS: GOOD_BLS.replace(" ro ", " ro quiet ")}),
    ("azure.cmdline-forbidden", {BLS: GOOD_BLS.replace(" ro ", " ro selinux=0 ")}),
    ("azure.cmdline-forbidden", {BLS: GOOD_BLS.replace(" ro ", " ro init=/bin/sh ")}),
    ("azure.cmdline-forbidden", {BLS: GOOD_BLS.replace(" ro ", " ro modprobe.blacklist=floppy,hv_netvsc ")}),
    ("azure.cmdline-all-entries", conf("/etc/default/grub", "rootdelay=300", "")),
    ("azure.cmdline-all-entries", conf("/etc/default/grub", " console=ttyS0", "")),
    ("azure.cmdline-all-entries", {f"/boot/loader/entries/y-{KERNEL}.conf": f"linux /vmlinuz-{KERNEL}\noptions ro\n"}),
    ("azure.cmdline-all-entries", {"/boot/vmlinuz-6.1.0-2": "another kernel without an entry"}),
    ("azure.grub-serial", {"/boot/grub2/grub.cfg": "terminal_output console\n"}),
    ("azure.networkmanager-enabled", {f"{WANTS}/NetworkManager.service": None}),
    ("azure.networkmanager-enabled", {"/etc/systemd/system/NetworkManager.service": "->/dev/null"}),
    ("azure.eth0-dhcp-profile", {"/etc/NetworkManager/system-connections/a.nmconnection": "[ipv4]\nmethod=manual\naddress1=10.0.0.4/24\n"}),
    ("azure.eth0-dhcp-profile", {"/etc/sysconfig/network-scripts/ifcfg-eth0": "BOOTPROTO=none\nIPADDR=10.0.0.4\n"}),
    ("azure.eth0-dhcp-profile", {"/etc/NetworkManager/conf.d/00-none.conf": "[main]\nno-auto-default=*\n"}),
    ("azure.no-hwaddr", {"/etc/sysconfig/network-scripts/ifcfg-eth0": "HWADDR=00:15:5d:00:00:01\n"}),
    ("azure.udev-persistent-net", {"/etc/udev/rules.d/70-persistent-net.rules": "SUBSYSTEM==net\n"}),
    ("azure.sriov-unmanaged", {"/etc/NetworkManager/conf.d/99-azure.conf": "[keyfile]\nunmanaged-devices=driver:mlx4_core\n"}),
    ("azure.sriov-unmanaged", {"/etc/NetworkManager/conf.d/99-azure.conf": None, "/usr/lib/udev/rules.d/85-nm-unmanaged.rules": 'ENV{INTERFACE}=="vmnet*", ENV{NM_UNMANAGED}="1"\n'}),
    ("azure.accelnet-drivers", {f"{MODULES}/mlx5_core.ko": None}),
    ("azure.accelnet-drivers", {"/etc/modprobe.d/x.conf": "install mlx5_core /bin/false\n"}),
    ("azure.mana-driver", {f"{MODULES}/mana.ko": None}),
    ("azure.kernel-modules-vfat-udf", {"/etc/modprobe.d/cis.conf": "install udf /bin/true\n"}),
    ("azure.nvme-initramfs", {RAMDISK: initramfs(leave_out="nvme")}),
    ("azure.kernel-builtin-or-initramfs-storage", {RAMDISK: initramfs(leave_out="sd_mod")}),
    ("azure.dns-resolution", {"/etc/resolv.conf": "nameserver 10.0.0.1\n"}),
    ("azure.ssh-client-alive", {"/etc/ssh/sshd_config.d/01-first.conf": "ClientAliveInterval 0\n"}),
    ("azure.ssh-client-alive", {SSHD: "ClientAliveInterval 236\n"}),
    ("azure.chrony-ptp", {"/etc/chrony.conf": "pool pool.ntp.org iburst\nmakestep 1.0 3\n"}),
    ("azure.chrony-ptp", {"/usr/lib/udev/rules.d/99-ptp_hyperv.rules": None}),
    ("azure.waagent-enabled", {f"{WANTS}/waagent.service": None}),
    ("azure.waagent-resource-disk", conf("/etc/waagent.conf", "ResourceDisk.Format=n", "#ResourceDisk.Format=n")),
    ("azure.waagent-root-timeout", conf("/etc/waagent.conf", "ScsiTimeout=300", "ScsiTimeout=30")),
    ("azure.waagent-security-keys", conf("/etc/waagent.conf", "OS.EnableFirewall=y", "OS.EnableFirewall=n")),
    ("azure.waagent-security-keys", conf("/etc/cloud/cloud.cfg", "ssh_deletekeys: true", "ssh_deletekeys: false")),
    ("azure.cloud-init-datasource", conf(AZURE, "[ Azure ]", "[ NoCloud, Azure ]")),
    ("azure.cloud-init-datasource", {"/etc/cloud/cloud.cfg.d/99-later.cfg": "datasource: {Azure: {apply_network_config: true}}\n"}),
    ("azure.cloud-init-modules", conf("/etc/cloud/cloud.cfg", "growpart, ", "")),
    ("azure.cloud-init-config-valid", {"/etc/cloud/cloud.cfg.d/50-x.cfg": "users: [\n"}),
    ("azure.cloud-init-kvp", conf("/etc/cloud/cloud.cfg", "hyperv", "webhook")),
    ("azure.sack-kernel-floor", {"/boot/vmlinuz-3.10.0-957.1.3.el7.x86_64": "old"}),
    ("ccsp.kernel-release-match", {"/boot/vmlinuz-5.14.0-1.el9": "of another line"}),
    ("ccsp.repos-gpgcheck", {"/etc/yum.repos.d/b.repo": "[b]\nbaseurl=https://b.invalid\ngpgcheck=0\n"}),
    ("ccsp.repos-gpgcheck", {"/etc/dnf/dnf.conf": "[main]\n"}),
    ("ccsp.firewall-running", {f"{WANTS}/firewalld.service": None}),
    ("ccsp.firewall-zone-ports", conf("/etc/firewalld/zones/public.xml", "</zone>", '<service name="cockpit"/></zone>')),
    ("ccsp.firewall-zone-ports", conf("/etc/firewalld/zones/public.xml", "</zone>", '<port port="80" protocol="tcp"/></zone>')),
    ("ccsp.sshd-enabled", {SSHD: "Port 2222\n"}),
    ("ccsp.password-hash-policy", {"/etc/login.defs": "ENCRYPT_METHOD MD5\n"}),
    ("ccsp.password-hash-policy", {"/etc/pam.d/system-auth": "password sufficient pam_unix.so md5\n"}),
    ("ccsp.selinux-enforcing", {"/etc/selinux/config": "SELINUX=permissive\nSELINUXTYPE=targeted\n"}),
    ("ccsp.selinux-enforcing", {BLS: GOOD_BLS.replace(" ro ", " ro enforcing=0 ")}),
    ("ccsp.default-target", {"/etc/systemd/system/default.target": "->/usr/lib/systemd/system/graphical.target"}),
    ("ccsp.mandatory-services", {f"{WANTS}/auditd.service": None}),
    ("ccsp.locale-timezone", {"/etc/localtime": "->../usr/share/zoneinfo/Europe/Berlin"}),
    ("ccsp.locale-timezone", {"/usr/lib/locale/en_US.utf8/LC_CTYPE": None, "/usr/lib/locale/C.utf8/LC_CTYPE": "characters"}),
    ("ccsp.locale-timezone", {"/usr/lib/locale/en_US.utf8/LC_CTYPE": None, "/usr/lib/locale/locale-archive": "no archive of locales, which has numbers at its beginning"}),
    ("hyperv.modules-present", {f"{MODULES}/hv_storvsc.ko": None}),
    ("hyperv.initramfs-drivers", {RAMDISK: initramfs(leave_out="hv_storvsc")}),
    ("hyperv.initramfs-drivers", {RAMDISK: b"no initramfs"}),
    ("hyperv.initramfs-drivers", {"/boot/initramfs-6.1.0-2.img": initramfs(version="6.1.0-2", leave_out="hv_netvsc")}),
    ("hyperv.initramfs-drivers", {RAMDISK: initramfs(version="6.1.0-9")}),
    ("hyperv.initramfs-input", {RAMDISK: initramfs(leave_out="hid-hyperv")}),
    ("hyperv.initramfs-per-kernel", {"/boot/vmlinuz-6.1.0-2": "no initramfs for it"}),
    ("hyperv.initramfs-per-kernel", {RAMDISK: initramfs(version="6.1.0-9")}),
    ("hyperv.initramfs-generic", {"/etc/dracut.conf.d/zz.conf": 'hostonly="yes"\n'}),
    ("hyperv.initramfs-generic", {RAMDISK: initramfs(extra=(member("etc/cmdline.d/95root.conf", b"root=/dev/sda1"),))}),
    ("hyperv.dracut-persistent", {"/etc/dracut.conf.d/hyperv.conf": 'add_drivers+=" hv_vmbus "\n'}),
    ("hyperv.dracut-persistent", {"/etc/dracut.conf.d/hyperv.conf": 'hostonly="no"\nadd_drivers+="hv_vmbus"\n'}),
    ("hyperv.modules-not-disabled", {"/etc/modprobe.d/x.conf": "blacklist hv_utils\n"}),
    ("hyperv.modules-not-disabled", {"/etc/dracut.conf.d/zz.conf": 'omit_drivers+=" hv_netvsc "\n'}),
    ("hyperv.daemons-enabled", {f"{WANTS}/hypervkvpd.service": None}),
    ("hyperv.framebuffer", {f"{MODULES}/hyperv_fb.ko": None}),
    ("hyperv.pci-passthrough", {f"{MODULES}/pci-hyperv.ko": None}),
    ("hyperv.hv-sock", {f"{MODULES}/hv_sock.ko": None}),
    ("hyperv.kernel-config", {f"/usr/lib/modules/{KERNEL}/config": "CONFIG_HYPERV=m\n"}),
    ("security.root-locked", conf("/etc/shadow 000", "root:!locked:", "root::")),
    ("security.no-empty-passwords", conf("/etc/shadow 000", "bin:*:", "bin::")),
    ("security.no-password-hashes", conf("/etc/shadow 000", "bin:*:", "bin:$6$salt$hashhash:")),
    ("security.no-password-hashes", {"/etc/gshadow 000": "root:$6$salt$hash::\n"}),
    ("security.default-users", {"/etc/passwd": FILES["/etc/passwd"] + "packer:x:1000:1000::/home/packer:/bin/bash\n"}),
    ("security.uid0-only-root", {"/etc/passwd": FILES["/etc/passwd"] + "toor:x:0:0::/root:/bin/bash\n"}),
    ("security.system-accounts-nologin", conf("/etc/passwd", "sshd:x:74:74::/:/usr/sbin/nologin", "sshd:x:74:74::/:/bin/bash")),
    ("security.account-file-perms", {"/etc/shadow 644": FILES["/etc/shadow 000"]}),
    ("security.ssh-root-login", {SSHD: "PermitRootLogin yes\n"}),
    ("security.ssh-password-auth", {SSHD: "KbdInteractiveAuthentication no\n"}),
    ("security.ssh-password-auth", {SSHD: MATCHED.format("PasswordAuthentication YES")}),
    ("security.ssh-password-auth", {SSHD: MATCHED.format("KbdInteractiveAuthentication yes")}),
    ("security.ssh-password-auth", {SSHD: MATCHED.format("ChallengeResponseAuthentication yes")}),
    ("security.ssh-password-auth", {SSHD: MATCHED.format("PermitEmptyPasswords yes")}),
    ("security.ssh-password-auth", {"/etc/cloud/cloud.cfg.d/99-x.cfg": "ssh_pwauth: true\n"}),
    ("security.world-writable", {"/usr/share/small/open 666": "x"}),
    ("security.world-writable", {"/var/tmp/ 777": ""}),
    ("security.sudoers", {"/etc/sudoers.d/build 440": "packer ALL=(ALL) NOPASSWD: ALL\n"}),
    ("security.sudoers", {"/etc/sudoers 440": "Defaults targetpw\n@includedir /etc/sudoers.d\n"}),
    ("security.sudoers", {"/etc/sudoers 644": FILES["/etc/sudoers 440"]}),
    ("security.no-rhosts", {"/root/.netrc 600": "machine x login y password z\n"}),
    ("security.world-readable-keys", {"/etc/ssh/ssh_host_rsa_key": "-----BEGIN OPENSSH PRIVATE KEY-----\n"}),
    ("security.boot-args-secrets", {BLS: GOOD_BLS.replace(" ro ", " ro rd.password=hunter2hunter2 ")}),
    ("hygiene.no-host-keys", {"/etc/ssh/ssh_host_ed25519_key 600": "key"}),
    ("hygiene.no-host-keys", {RAMDISK: initramfs(extra=(member("etc/dropbear/dropbear_rsa_host_key", b"k"),))}),
    ("hygiene.no-authorized-keys", {"/root/.ssh/authorized_keys 600": "ssh-ed25519 AAAA builder\n"}),
    ("hygiene.no-authorized-keys", {"/home/x/.ssh/id_rsa 600": "key"}),
    ("hygiene.machine-id", {"/etc/machine-id 444": "0123456789abcdef0123456789abcdef\n"}),
    ("hygiene.machine-id", {"/etc/machine-id 444": None}),
    ("hygiene.dbus-machine-id", {"/var/lib/dbus/machine-id": "0123456789abcdef0123456789abcdef\n"}),
    ("hygiene.random-seed", {"/var/lib/systemd/random-seed": "seed"}),
    ("hygiene.credential-secret", {"/var/lib/systemd/credential.secret": "secret"}),
    ("hygiene.shell-history", {"/root/.bash_history": "secret command\n"}),
    ("hygiene.cloud-init-state", {"/var/lib/cloud/instances/i-1/user-data.txt": "x"}),
    ("hygiene.cloud-init-state", {"/var/log/cloud-init.log": ""}),
    ("hygiene.dhcp-leases", {"/var/lib/NetworkManager/internal-1-eth0.lease": "x"}),
    ("hygiene.nm-state", {"/var/lib/NetworkManager/secret_key": "x"}),
    ("hygiene.journal-empty", {"/var/log/journal/0123/system.journal": "x"}),
    ("hygiene.login-records", {"/var/log/wtmp": "x"}),
    ("hygiene.installer-files", {"/root/anaconda-ks.cfg": "rootpw x"}),
    ("hygiene.tmp-empty", {"/var/tmp/left": "x"}),
    ("hygiene.hostname", {"/etc/hostname": "buildhost\n"}),
    ("hygiene.hostname", {"/etc/machine-info": "PRETTY_HOSTNAME=x\n"}),
    ("hygiene.lvm-devices", {"/etc/lvm/devices/system.devices": "x"}),
    ("hygiene.insights-identity", {"/etc/insights-client/machine-id": "x"}),
    ("hygiene.container-credentials", {"/root/.docker/config.json": "{}"}),
    ("hygiene.proxy-settings", {"/etc/dnf/dnf.conf": "[main]\ngpgcheck=1\nproxy=http://proxy.corp:3128\n"}),
    ("hygiene.account-backups", {"/etc/shadow- 000": "x"}),
    ("hygiene.autorelabel", {"/.autorelabel": ""}),
    ("hygiene.rpm-temp", {"/etc/foo.rpmnew": "x"}),
    ("dotnet.no-cli-home", {"/root/.nuget/NuGet.Config": "x"}),
]  # fmt: skip


ALL_CASES = [*CASES, *configuration.CASES]


@pytest.mark.parametrize("identifier", sorted({name for name, _ in ALL_CASES} - configuration.NOT_GOOD))
def test_a_good_tree_passes(identifier: str, tree: Path, database: Path) -> None:
    check = judge(identifier, tree, database)
    assert check.made, "nothing was compared"
    assert not check.failed, [(item.what, item.expected, item.observed) for item in check.failed]


@pytest.mark.parametrize(
    ("identifier", "files"), ALL_CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(ALL_CASES)]
)
def test_one_broken_thing_turns_it_red(
    identifier: str,
    files: dict[str, str | bytes | None],
    tree: Path,
    database: Path,
    change: Callable[[dict[str, str | bytes | None]], None],
) -> None:
    change(files)
    assert judge(identifier, tree, database).failed


#: The requirement, packages to add and packages to take out.
PACKAGE_CASES: list[tuple[str, list[Made], list[str]]] = [
    ("ccsp.rpm-provenance", [Made("stray", signed=False)], []),
    ("ccsp.rpm-nonvendor-declared", [Made("stray", vendor="Somebody")], []),
    ("ccsp.rpm-dependencies", [Made("stray", requires=("libmissing.so.1",))], []),
    ("ccsp.rpm-no-duplicates", [Made("bash", version="2")], []),
    ("ccsp.rpm-verify", [Made("stray", files=(("/usr/bin/missing", "x", 0o755),))], []),
    ("ccsp.rpm-verify", [Made("stray", files=(("/etc/os-release", "another content", 0o644),))], []),
    (
        "ccsp.kernel-unmodified",
        [Made("kernel-modules", files=((f"{MODULES}/hv_utils.ko", "other", 0o644),))],
        [],
    ),
    ("ccsp.kernel-vendor", [Made("kernel-modules", vendor="Somebody")], []),
    ("ccsp.kernel-vendor", [], ["kernel-core"]),
    ("ccsp.kernel-module-provenance", [], ["kernel-core"]),
    ("ccsp.minimal-package-set", [], ["sudo"]),
    ("ccsp.required-cloud-packages", [], ["cloud-utils-growpart"]),
    ("ccsp.os-version-consistent", [Made("redhat-release", version="9")], []),
    ("ccsp.log-versions", [], ["kernel", "kernel-core"]),
    ("azure.waagent-version", [], ["WALinuxAgent"]),
    ("azure.cloud-init-installed", [], ["cloud-init"]),
    ("azure.waagent-provisioning", [], ["cloud-init"]),
    ("azure.x86-64", [Made("stray", arch="i686")], []),
    ("hyperv.daemons-installed", [Made("hypervvssd", version="2")], ["hypervvssd"]),
    ("hyperv.no-external-lis", [Made("kmod-microsoft-hyper-v")], []),
    ("security.legacy-services", [Made("telnet-server")], []),
    ("hygiene.build-repos", [], ["hallmark-sample-release"]),
    ("ccsp.repos-configured", [], ["hallmark-sample-release"]),
]
#: These hold on the small guest too; the others of PACKAGE_CASES need more of an image.
GOOD_PACKAGES = sorted(
    {name for name, _, _ in PACKAGE_CASES} - {"ccsp.rpm-verify", "azure.x86-64", "azure.waagent-version"}
)


@pytest.mark.parametrize("identifier", GOOD_PACKAGES)
def test_good_packages_pass(identifier: str, tree: Path, database: Path) -> None:
    check = judge(identifier, tree, database)
    assert not check.failed, [(item.what, item.expected, item.observed) for item in check.failed]


ALL_PACKAGE_CASES = [*PACKAGE_CASES, *configuration.PACKAGE_CASES]


@pytest.mark.parametrize(
    ("identifier", "added", "removed"),
    ALL_PACKAGE_CASES,
    ids=[f"{name}-{n}" for n, (name, _, _) in enumerate(ALL_PACKAGE_CASES)],
)
def test_one_wrong_package_turns_it_red(
    identifier: str,
    added: list[Made],
    removed: list[str],
    tree: Path,
    database: Path,
    tmp_path: Path,
    change: Callable[[dict[str, str | bytes | None]], None],
) -> None:
    before: set[str] = set()
    with suppress(NotApplicable):
        before = {item.what for item in judge(identifier, tree, database).failed}
    change(configuration.BESIDE.get(identifier, {}))
    copy = shutil.copytree(database, tmp_path / "database")
    for name in removed:
        erase(copy, name)
    if added:
        install(copy, tmp_path, added)
    after = {item.what for item in judge(identifier, tree, copy).failed}
    assert after - before


@pytest.mark.parametrize(
    "identifier",
    ["ccsp.os-version-consistent", "ccsp.kernel-vendor", "ccsp.kernel-release-match", "ccsp.rpm-provenance"],
)
@pytest.mark.parametrize("claim", ["rhel:9.8", "centos:9"])
def test_an_image_that_is_called_something_else_fails_its_identity(
    identifier: str, claim: str, tree: Path, database: Path
) -> None:
    assert [item for item in judge(identifier, tree, database, claim=claim).made if not item.ok]
