"""Configuration, logins, agents and leftovers on the small guest: good it passes, with one thing broken it turns red.

A case names the requirement and the change to the tree (path → content, None removes); what is the same for all
tables stands in test_suites_on_a_tree.py.
"""

# ruff: noqa: E501 - a table: one case a line
from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from judged_tree import BLS, GOOD_BLS, MODULES, conf, judge
from small_packages import Made, erase, install
from small_tree import FILES, KERNEL

from certification.checks import NotApplicable

DNF = FILES["/etc/dnf/dnf.conf"]
CLOUD = FILES["/etc/cloud/cloud.cfg"]
RULES = "/usr/lib/udev/rules.d"
SSHD = "/etc/ssh/sshd_config.d/00-first.conf 600"
KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-small"
STATE = "/etc/crypto-policies"

CASES: list[tuple[str, dict[str, str | bytes | None]]] = [
    ("security.root-directory", {"/ 700": ""}),
    ("security.root-directory", {"/ 777": ""}),
    ("ccsp.cpu-vulnerabilities", {BLS: GOOD_BLS.replace(" ro ", " ro mitigations=off ")}),
    ("ccsp.cpu-vulnerabilities", {BLS: None}),
    ("ccsp.syslog-config-default", {"/etc/rsyslog.d/away.conf": "*.* @@logs.corp:514\n"}),
    ("ccsp.syslog-config-default", {"/etc/rsyslog.d/away.conf": 'action(type="omfwd" target="logs.corp")\n'}),
    ("ccsp.syslog-config-default", {"/etc/rsyslog.conf": "*.info /var/log/other\n"}),
    ("ccsp.syslog-config-default", {"/etc/rsyslog.conf": None}),
    ("ccsp.syslog-config-default", {"/etc/systemd/journald.conf.d/x.conf": "[Journal]\nForwardToSyslog=yes\n"}),
    ("ccsp.dnf-config-baseline", {"/etc/dnf/dnf.conf": DNF.replace("best=True", "best=False")}),
    ("ccsp.dnf-config-baseline", {"/etc/dnf/dnf.conf": DNF + "exclude=kernel*\n"}),
    ("ccsp.dnf-config-baseline", {"/etc/dnf/dnf.conf": None}),
    ("ccsp.dnf-config-baseline", {"/etc/dnf/plugins/versionlock.list": "kernel-0:1-1.*\n"}),
    ("ccsp.no-release-lock", {"/etc/dnf/vars/releasever": "9.2\n"}),
    ("ccsp.no-release-lock", {"/etc/yum.repos.d/small.repo": None}),
    ("ccsp.kernel-sysconfig", {"/etc/sysconfig/kernel": "UPDATEDEFAULT=no\nDEFAULTKERNEL=kernel-core\n"}),
    ("ccsp.kernel-sysconfig", {"/etc/sysconfig/kernel": "UPDATEDEFAULT=yes\nDEFAULTKERNEL=kernel-uki-virt\n"}),
    ("ccsp.kernel-sysconfig", {"/etc/sysconfig/kernel": None}),
    ("ccsp.hosts-file", {"/etc/hosts": FILES["/etc/hosts"] + "10.1.2.3 buildhost.corp\n"}),
    ("ccsp.hosts-file", {"/etc/hosts": "127.0.0.1 localhost\n"}),
    ("ccsp.hosts-file", {"/etc/hosts": FILES["/etc/hosts"] + "127.0.1.1 buildhost\n"}),
    ("ccsp.shells-file", {"/etc/shells": "/bin/bash\n/bin/zsh\n"}),
    ("ccsp.shells-file", {"/etc/shells": None}),
    ("ccsp.rpm-unowned-files", {"/usr/bin/implant 755": "x"}),
    ("ccsp.rpm-unowned-files", {"/etc/systemd/system/implant.service": "[Service]\nExecStart=/usr/bin/x\n"}),
    ("azure.crashkernel", {BLS: GOOD_BLS.replace(" ro ", " ro crashkernel=auto ")}),
    ("azure.crashkernel", {"/usr/lib/systemd/system/kdump.service": "[Install]\n", "/etc/systemd/system/multi-user.target.wants/kdump.service": "->/usr/lib/systemd/system/kdump.service"}),
    ("azure.grub-defaults-file", conf("/etc/default/grub", "GRUB_TIMEOUT=3", "GRUB_TIMEOUT=0")),
    ("azure.grub-defaults-file", conf("/etc/default/grub", "GRUB_DISABLE_RECOVERY=true", "")),
    ("azure.grub-defaults-file", {"/etc/default/grub": None}),
    ("azure.grubenv-not-symlink", {"/boot/grub2/grubenv": "->../efi/EFI/redhat/grubenv"}),
    ("azure.grubenv-not-symlink", {"/boot/grub2/grubenv 600": "# GRUB Environment Block\n"}),
    ("azure.grubenv-not-symlink", {"/boot/grub2/grubenv 600": ("# GRUB Environment Block\nsaved_entry=gone\n" + "#" * 1000)[:1024]}),
    ("azure.waagent-extensions", conf("/etc/waagent.conf", "Extensions.Enabled=y", "Extensions.Enabled=n")),
    ("azure.waagent-extensions", conf("/etc/waagent.conf", "Extensions.Enabled=y", "HttpProxy.Host=proxy.corp")),
    ("azure.waagent-runtime", {"/usr/sbin/waagent 755": "#!/usr/bin/python2.7\n"}),
    ("azure.waagent-runtime", {"/usr/lib/python3.11/site-packages/azurelinuxagent/__init__.py": None}),
    ("azure.waagent-runtime", {"/usr/sbin/waagent 755": None}),
    ("azure.cloud-init-logging", {"/etc/cloud/cloud.cfg": CLOUD.replace("cloud-init-output.log", "other.log")}),
    ("azure.cloud-init-logging", {"/etc/cloud/cloud.cfg.d/05_logging.cfg": None}),
    ("azure.cloud-cfg-unmodified", {"/etc/cloud/cloud.cfg.d/99-x.cfg": "disable_root: false\n"}),
    ("azure.cloud-cfg-unmodified", {"/etc/cloud/cloud.cfg": CLOUD + "# changed\n"}),
    ("azure.sysconfig-network", {"/etc/sysconfig/network": "NETWORKING=no\n"}),
    ("azure.sysconfig-network", {"/etc/sysconfig/network": "NETWORKING=yes\nHOSTNAME=build.corp\n"}),
    ("azure.dhcp-timeout", {"/etc/NetworkManager/conf.d/50-dhcp.conf": "[connection-azure]\nipv4.dhcp-timeout=60\n"}),
    ("azure.dhcp-timeout", {"/etc/NetworkManager/conf.d/50-dhcp.conf": None}),
    ("azure.kernel-config-essentials", {f"/usr/lib/modules/{KERNEL}/config": "CONFIG_WATCHDOG=y\n"}),
    ("azure.vm-utils", {f"{RULES}/80-azure-disk.rules": None}),
    ("azure.vm-utils", {"/etc/udev/rules.d/80-azure-disk.rules": ""}),
    ("hyperv.io-scheduler", {BLS: GOOD_BLS.replace(" ro ", " ro elevator=cfq ")}),
    ("hyperv.io-scheduler", {"/etc/udev/rules.d/60-io.rules": 'ACTION=="add", SUBSYSTEM=="block", ATTR{queue/scheduler}="bfq"\n'}),
    ("hyperv.memory-hotadd", {f"{RULES}/40-memory.rules": None}),
    ("hyperv.gen1-floppy", {"/etc/modprobe.d/blacklist-floppy.conf": None, f"{MODULES}/floppy.ko": "module"}),
    ("hyperv.scvmm-detect-off", conf("/etc/waagent.conf", "Extensions.Enabled=y", "DetectScvmmEnv=y")),
    ("hyperv.uio-hv-generic", {"/etc/hosts": ""}),
    ("security.account-db-consistent", {"/etc/passwd": FILES["/etc/passwd"] + "twin:x:74:74::/:/usr/sbin/nologin\n"}),
    ("security.account-db-consistent", {"/etc/group": "root:x:0:\n"}),
    ("security.account-db-consistent", conf("/etc/shadow 000", "bin:*:", "stray:*:")),
    ("security.ssh-hardening", {SSHD: "MaxAuthTries 6\n"}),
    ("security.ssh-hardening", {SSHD: "LoginGraceTime 0\n"}),
    ("security.ssh-hardening", {SSHD: "X11Forwarding yes\n"}),
    ("security.ssh-hardening", {SSHD: "HostbasedAuthentication yes\n"}),
    ("security.crypto-policy", {f"{STATE}/config": "LEGACY\n"}),
    ("security.crypto-policy", {f"{STATE}/config": "DEFAULT:SHA1\n"}),
    ("security.crypto-policy", {f"{STATE}/config": None, f"{STATE}/state/current": None}),
    ("security.crypto-policy", {f"{STATE}/state/current": "LEGACY\n"}),
    ("security.crypto-policy", {f"{STATE}/back-ends/openssl.config": "CipherString = ALL\n"}),
    ("security.gpgcheck-key-files", {KEY: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"}),
    ("security.gpgcheck-key-files", {KEY: None}),
    ("security.boot-perms", {"/boot/grub2/grub.cfg 644": "serial --speed=115200\n"}),
    ("security.boot-perms", {"/boot/grub2/grub.cfg 600": None, "/boot/grub2/grubenv 600": None}),
    ("security.boot-perms", {"/etc/fstab": "UUID=1 / ext4 defaults 0 0\nUUID=2 /boot/efi vfat umask=0022 0 0\n"}),
    ("security.umask", {"/etc/login.defs": "UMASK 002\nHOME_MODE 0700\n"}),
    ("security.umask", {"/etc/login.defs": "UMASK 022\nHOME_MODE 0755\n"}),
    ("security.umask", {"/etc/login.defs": None}),
    ("security.password-quality", {"/etc/security/pwquality.conf.d/50-azure.conf": "minlen = 6\nminclass = 1\n"}),
    ("security.password-quality", {"/etc/pam.d/system-auth": "password sufficient pam_unix.so sha512 shadow\n"}),
    ("security.authselect", {"/etc/sysconfig/authconfig": "USELDAP=no\n"}),
    ("security.authselect", {"/etc/authselect/authselect.conf": "custom/gone\n"}),
    ("security.authselect", {"/etc/pam.d/password-auth": None}),
    ("security.sysctl-hardening", {"/etc/sysctl.d/99-x.conf": "kernel.randomize_va_space = 0\n"}),
    ("security.sysctl-hardening", {"/etc/sysctl.d/99-x.conf": "net.ipv4.conf.*.rp_filter = 0\n"}),
    ("security.sysctl-hardening", {"/etc/sysctl.d/50-default.conf": "fs.protected_hardlinks = 0\n"}),
    ("security.cron-at", {"/etc/cron.d/job": "* * * * * root /usr/bin/x\n"}),
    ("security.cron-at", {"/var/spool/cron/root": "* * * * * /usr/bin/x\n"}),
    ("security.cron-at", {"/etc/systemd/system/job.timer": "[Timer]\n"}),
    ("security.module-autoload", {"/etc/modules-load.d/implant.conf": "implant\n"}),
    ("security.polkit-dbus", {"/etc/polkit-1/rules.d/00-all.rules": "polkit.addRule(...)\n"}),
    ("security.fips-declared", {BLS: GOOD_BLS.replace(" ro ", " ro fips=1 ")}),
    ("hygiene.spool", {"/var/spool/postfix/deferred/x": "mail"}),
    ("hygiene.storage-caches", {"/etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.x\n"}),
    ("hygiene.storage-caches", {"/etc/nvme/hostnqn": "nqn.x\n"}),
    ("hygiene.deprovision-idempotent", {"/etc/NetworkManager/system-connections/a.nmconnection": "[ipv4]\nmethod=auto\n"}),
    ("hygiene.deprovision-idempotent", {"/var/lib/waagent/provisioned": "x"}),
    ("support.image-metadata", {"/etc/image-release": None}),
    ("support.image-metadata", {"/etc/image-release": "IMAGE_ID=small-9\nIMAGE_VERSION=\n"}),
    ("azure.marketplace-plan-neutral", {"/etc/yum.repos.d/rh-cloud.repo": "[x]\n"}),
    ("azure.ifcfg-nm-controlled", {"/etc/sysconfig/network-scripts/ifcfg-eth0": "DEVICE=eth0\nNM_CONTROLLED=no\n"}),
]  # fmt: skip
#: The small guest as it is doesn't hold these: what they ask for belongs to other releases or kernels.
NOT_GOOD = {"hyperv.uio-hv-generic", "azure.ifcfg-nm-controlled", "ccsp.rpm-unowned-files"}


#: What the layer azure gives chrony 3, which knows no confdir.
CLOCK_OF_7: dict[str, str | bytes | None] = {
    "/etc/chrony.conf": "include /sys/bus/vmbu[s]/drivers/hv_utils/../../../../../etc/chrony.d/*.conf\nmakestep 1.0 -1\n",
    "/etc/chrony.d/ptp_hyperv.conf": "refclock PHC /dev/ptp_hyperv poll 3 dpoll -2 offset 0 stratum 2\n",
}


@pytest.mark.parametrize(
    ("identifier", "files"),
    [
        ("hyperv.uio-hv-generic", {f"{MODULES}/uio_hv_generic.ko": "module"}),
        ("azure.ifcfg-nm-controlled", {"/etc/sysconfig/network-scripts/ifcfg-eth0": "NM_CONTROLLED=yes\nPERSISTENT_DHCLIENT=yes\n"}),
        ("azure.crashkernel", {BLS: GOOD_BLS.replace(" ro ", " ro crashkernel=256M "), "/usr/lib/systemd/system/kdump.service": "[Install]\n", "/etc/systemd/system/multi-user.target.wants/kdump.service": "->/usr/lib/systemd/system/kdump.service"}),
        ("hyperv.memory-hotadd", {f"{RULES}/40-memory.rules": None, BLS: GOOD_BLS.replace(" ro ", " ro memhp_default_state=online ")}),
        ("azure.dhcp-timeout", {"/etc/NetworkManager/conf.d/50-dhcp.conf": "[connection]\nipv4.dhcp-timeout=infinity\n"}),
        ("security.authselect", {"/etc/authselect/authselect.conf": ""}),
        ("azure.chrony-ptp", CLOCK_OF_7),
    ],
)  # fmt: skip
def test_other_good_ways(
    identifier: str,
    files: dict[str, str | bytes | None],
    tree: Path,
    database: Path,
    change: Callable[[dict[str, str | bytes | None]], None],
) -> None:
    change(files)
    check = judge(identifier, tree, database)
    assert not check.failed, [(item.what, item.expected, item.observed) for item in check.failed]


#: What isn't there to be judged says so, and never passes.
ABSENT = ["ccsp.rpm-nonvendor-no-conflict", "ccsp.modules-streams", "hyperv.scvmm-agent", "azure.rhui-certificate",
          "support.tuned-profile", "support.efi-package", "dotnet.rhel7-scl", "dotnet.patch-level", "dotnet.sdk-policy",
          "dotnet.ca-trust", "dotnet.side-by-side", "dotnet.framework-pairing"]  # fmt: skip


@pytest.mark.parametrize("identifier", ABSENT)
def test_nothing_to_judge_is_not_applicable(identifier: str, tree: Path, database: Path) -> None:
    with pytest.raises(NotApplicable):
        judge(identifier, tree, database)


@pytest.mark.parametrize(
    ("identifier", "files"),
    [
        (
            "ccsp.modules-streams",
            {"/etc/dnf/modules.d/ruby.module": "[ruby]\nname=ruby\nstream=2.5\nstate=enabled\n"},
        ),
        ("hyperv.scvmm-agent", {"/opt/microsoft/scvmmguestagent/bin/agent 755": "x"}),
        ("dotnet.rhel7-scl", {"/opt/rh/rh-dotnet31/enable": "x"}),
    ],
)
def test_what_is_there_is_judged(
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
    ("azure.python-openssl-floor", [], ["openssl-libs"]),
    ("azure.python-openssl-floor", [Made("openssl-libs", version="1.1.1k")], ["openssl-libs"]),
    ("security.package-denylist", [Made("open-vm-tools")], []),
    ("security.package-denylist", [Made("qemu-kvm-core")], []),
    ("ccsp.syslog-config-default", [], ["rsyslog"]),
    ("security.gpgcheck-key-files", [], ["hallmark-sample-release"]),
    ("azure.cloud-cfg-unmodified", [], ["hallmark-sample-release"]),
    ("ccsp.rpm-nonvendor-no-conflict", [Made("stray", vendor="Somebody", files=(("/etc/os-release", "x", 0o644),))], []),
    ("support.tuned-profile", [Made("tuned")], []),
]  # fmt: skip
#: What a package brings along in a case.
BESIDE: dict[str, dict[str, str | bytes | None]] = {
    "support.tuned-profile": {"/etc/tuned/active_profile": "balanced\n"}
}


def _archive(directory: Path, locale: str) -> bytes:
    """glibc's archive of one locale, as EL 7 has it of all: the machine's own C.UTF-8 by another name."""
    (directory / "usr/lib/locale").mkdir(parents=True)
    renamed = shutil.copytree("/usr/lib/locale/C.utf8", directory / locale)
    words = ("localedef", "--quiet", "--prefix", directory, "--add-to-archive", renamed)
    subprocess.run(words, check=True, stdout=subprocess.PIPE)
    return (directory / "usr/lib/locale/locale-archive").read_bytes()


@pytest.mark.parametrize(("locale", "good"), [("en_US.utf8", True), ("de_DE.utf8", False)])
def test_a_locale_may_be_in_the_archive(
    locale: str,
    good: bool,
    tree: Path,
    database: Path,
    tmp_path: Path,
    change: Callable[[dict[str, str | bytes | None]], None],
) -> None:
    directory = "/usr/lib/locale"
    change(
        {f"{directory}/en_US.utf8/LC_CTYPE": None, f"{directory}/locale-archive": _archive(tmp_path, locale)}
    )
    assert bool(judge("ccsp.locale-timezone", tree, database).failed) is not good


@pytest.mark.parametrize(("terminal", "good"), [("console", True), ("serial console", False)])
def test_on_aarch64_the_serial_port_is_the_firmware_s_console(
    terminal: str,
    good: bool,
    tree: Path,
    database: Path,
    tmp_path: Path,
    change: Callable[[dict[str, str | bytes | None]], None],
) -> None:
    copy = shutil.copytree(database, tmp_path / "database")
    for name in ("glibc", "systemd"):
        erase(copy, name)
    install(copy, tmp_path, [Made("glibc", arch="aarch64")])
    change({"/etc/default/grub": f'GRUB_TERMINAL="{terminal}"\n', "/boot/grub2/grub.cfg": "blscfg\n"})
    assert bool(judge("azure.grub-serial", tree, copy).failed) is not good
    assert judge("azure.grub-serial", tree, database).failed, "on x86_64 GRUB talks to the port itself"
