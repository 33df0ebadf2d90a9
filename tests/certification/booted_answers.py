"""What guests answer, written down: good answers by requirement, and wrong ones that must turn it red.

A key is a pattern in a command, its value what that prints (status 0), or (status, text). A key that begins
with ``/`` is a file of the guest: its content, or None where it is missing. The good answers are those of a
real guest, shortened.
"""

# ruff: noqa: E501 - tables: one case a line
from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BAD", "FILES", "GOOD", "LOG", "PROVISIONED", "Answers"]

Answers = Mapping[str, "str | tuple[int, str] | None"]

LOG = "\n".join(f"line {n}" for n in range(60))
PROVISIONED = '{"v1": {"datasource": "DataSourceAzure", "stage": null, "init": {"errors": [], "start": 1.5, "finished": 2.5}, "modules-final": {"errors": [], "start": 8.5, "finished": 9.5}}}'
FILES: dict[str, str] = {
    "/usr/sbin/waagent": "#!/usr/bin/python3 -u\n",
    "/etc/os-release": 'ID="rhel"\nVERSION_ID="9.6"\nPRETTY_NAME="Red Hat Enterprise Linux 9.6 (Plow)"\n',
    "/etc/fstab": "UUID=78134785-3f67-5432-ab4d-3c99d2d3b918 / xfs defaults 0 0\n",
    "/run/cloud-init/result.json": '{"v1": {"errors": []}}',
    "/run/cloud-init/status.json": PROVISIONED,
    "/var/log/cloud-init.log": "util.py[DEBUG]: Reading from /etc/cloud/cloud.cfg\n",
}

_CMDLINE = {"proc/cmdline": "BOOT_IMAGE=(hd0,gpt4)/vmlinuz-5.14.0-570.el9.x86_64 root=UUID=1 ro console=tty1 console=ttyS0 earlyprintk=ttyS0 rootdelay=300"}  # fmt: skip
_SSHD = {"sshd -T": "port 22\nclientaliveinterval 180\nclientalivecountmax 3\npermitrootlogin no\n"}
_RUNTIMES = "Microsoft.NETCore.App 10.0.6 [/usr/lib64/dotnet/shared/Microsoft.NETCore.App]"
_DOTNET = {"list-runtimes": _RUNTIMES}
_FOUND = "/usr/bin/dotnet\n"
_SOCKETS = (
    'udp UNCONN 0 0 127.0.0.1:323 0.0.0.0:* users:(("chronyd",pid=477,fd=5))\n'
    'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=660,fd=3))\n'
    'tcp LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=660,fd=4))\n'
)
_LOGGED = "messages: 1\njournal: 1\nactive\nactive\n"
_TRACKING = "Reference ID    : 00000000 ()\nStratum         : 0\n"
_STATUS = "SELinux status:                 enabled\nLoaded policy name:             targeted\n"
_PROGRAM = "sum-of-squares=963345215387\nprimes=303\nfnv1a=9a9ab1a127937e59\nthreads=3996000\nsorted=-15,3,14,92,65358,979323\nroundtrip=3 14 -15 92 65358 979323\nexception=caught DivideByZeroException\ncollections=some\n"
_UNITS = ("sshd", "firewalld", "chronyd", "auditd", "rsyslog", "NetworkManager", "crond", "cloud-init-local", "cloud-init", "cloud-config", "cloud-final", "waagent")  # fmt: skip
_SERVICES = "\n\n".join(f"Id={name}.service\nActiveState=active\nSubState=running" for name in _UNITS)

GOOD: dict[str, Answers] = {
    "azure.cloud-init-config-valid": {},
    "azure.cloud-init-installed": {"rpm -q cloud-init": "cloud-init-24.4-3.el9.noarch", "test -e /run/cloud-init/enabled": ""},
    "azure.cmdline-console": _CMDLINE,
    "azure.cmdline-earlyprintk": _CMDLINE,
    "azure.cmdline-forbidden": _CMDLINE,
    "azure.cmdline-no-rhgb-quiet": _CMDLINE,
    "azure.cmdline-rootdelay": _CMDLINE,
    "azure.fstab-persistent-ids": {"findmnt --verify": "Success, no errors or warnings detected"},
    "azure.networkmanager-enabled": {"nmcli": "ethernet:connected:eth0\nloopback:connected (externally):lo"},
    "azure.no-swap-on-os-disk": {"proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100"},
    "azure.ssh-client-alive": _SSHD,
    "azure.x86-64": {"uname -m": "x86_64\nx86_64\n64\n"},
    "ccsp.default-target": {"get-default": "multi-user.target", "is-active": "active"},
    "ccsp.hardware-health": {"journalctl -k": LOG},
    "ccsp.kernel-not-tainted": {"tainted": "0\n"},
    "ccsp.kernel-release-match": {"uname -r": "5.14.0-570.el9.x86_64"},
    "ccsp.kernel-vendor": {"uname -r": "5.14.0-570.el9.x86_64", "rpm -qf": "kernel-core|Red Hat, Inc.\n"},
    "ccsp.listening-sockets": {"ss -Hlntup": _SOCKETS},
    "ccsp.log-versions": {"uname -a": "Linux host 5.14.0-570.el9.x86_64 #1 SMP x86_64 GNU/Linux"},
    "ccsp.mandatory-services": {"systemctl show": _SERVICES},
    "ccsp.root-fs-type": {"findmnt -no FSTYPE": "xfs"},
    "ccsp.selinux-enforcing": {"getenforce": "Enforcing\n" + _STATUS},
    "ccsp.sshd-enabled": {**_SSHD, "is-active sshd": "active"},
    "ccsp.syslog-default": {"logger": _LOGGED},
    "dotnet.list-runtimes": {**_DOTNET, "readlink": "/usr/lib64/dotnet", "ls -d": "Microsoft.NETCore.App/10.0.6", "--info": "Host"},
    "dotnet.path-everywhere": {**_DOTNET, "sh -lc": _FOUND, "sudo": _FOUND, "systemd-run": _FOUND, "env -i": _FOUND},
    "dotnet.runtime-runs": {**_DOTNET, "Probe.dll": _PROGRAM},
    "security.auditd": {"auditctl": "active\nenabled 1\nfailure 1\n"},
    "security.ssh-hostkey-mode": {"stat -c": "600 root root /etc/ssh/ssh_host_ed25519_key\n640 root ssh_keys /etc/ssh/ssh_host_rsa_key"},
    "security.ssh-root-login": _SSHD,
    "security.sshd-config-valid": {"sshd -t": "", "stat -c": "600 /etc/ssh/sshd_config"},
    "support.chrony-running": {"chronyc": f"active\n{_TRACKING}UTC\n"},
    "support.no-failed-units": {"is-system-running": "running", "--failed": ""},
    "support.no-ordering-cycles": {"_PID=1": LOG},
}  # fmt: skip

BAD: list[tuple[str, Answers]] = [
    ("azure.cloud-init-config-valid", {"/var/log/cloud-init.log": "util.py[WARNING]: Failed loading yaml blob. Invalid format at line 3\n"}),
    ("azure.cloud-init-config-valid", {"/var/log/cloud-init.log": None}),
    ("azure.cloud-init-installed", {"test -e /run/cloud-init/enabled": (1, "")}),
    ("azure.cloud-init-installed", {"rpm -q cloud-init": (1, "package cloud-init is not installed")}),
    ("azure.cmdline-console", {"proc/cmdline": "root=UUID=1 ro console=ttyS0 console=tty1"}),
    ("azure.cmdline-earlyprintk", {"proc/cmdline": "root=UUID=1 ro console=ttyS0"}),
    ("azure.cmdline-forbidden", {"proc/cmdline": "root=UUID=1 ro console=ttyS0 modprobe.blacklist=hv_netvsc"}),
    ("azure.cmdline-no-rhgb-quiet", {"proc/cmdline": "root=UUID=1 ro console=ttyS0 rhgb"}),
    ("azure.cmdline-no-rhgb-quiet", {"proc/cmdline": "root=UUID=1 ro console=ttyS0 quiet"}),
    ("azure.cmdline-rootdelay", {"proc/cmdline": "root=UUID=1 ro console=ttyS0"}),
    ("azure.fstab-persistent-ids", {"findmnt --verify": (1, "/data: [E] unreachable: UUID=0")}),
    ("azure.fstab-persistent-ids", {"/etc/fstab": "/dev/sda2 / xfs defaults 0 0\n"}),
    ("azure.networkmanager-enabled", {"nmcli": "ethernet:unmanaged:eth0"}),
    ("azure.no-swap-on-os-disk", {"proc/swaps": "Filename Type Size Used Priority\n/dev/sda3 partition 1 0 -2"}),
    ("azure.ssh-client-alive", {"sshd -T": "port 22\nclientaliveinterval 0\n"}),
    ("azure.ssh-client-alive", {"sshd -T": "port 22\nclientaliveinterval 300\n"}),
    ("azure.x86-64", {"uname -m": "x86_64\ni686\n32\n"}),
    ("ccsp.default-target", {"get-default": "graphical.target"}),
    ("ccsp.default-target", {"is-active": (3, "inactive")}),
    ("ccsp.hardware-health", {"journalctl -k": LOG + "\nWarning: Unmaintained hardware is detected: mptsas"}),
    ("ccsp.hardware-health", {"journalctl -k": ""}),
    ("ccsp.kernel-not-tainted", {"tainted": "4096"}),
    ("ccsp.kernel-release-match", {"uname -r": "6.6.1-1.elrepo.x86_64"}),
    ("ccsp.kernel-vendor", {"rpm -qf": "kernel-ml|The ELRepo Project"}),
    ("ccsp.kernel-vendor", {"rpm -qf": (1, "file /usr/lib/modules/5.14.0-570.el9.x86_64/vmlinuz is not owned by any package")}),
    ("ccsp.listening-sockets", {"ss -Hlntup": _SOCKETS + 'tcp LISTEN 0 128 0.0.0.0:111 0.0.0.0:* users:(("rpcbind",pid=1,fd=4))'}),
    ("ccsp.listening-sockets", {"ss -Hlntup": _SOCKETS.replace('"sshd"', '"nc"')}),
    ("ccsp.listening-sockets", {"ss -Hlntup": ""}),
    ("ccsp.log-versions", {"uname -a": ""}),
    ("ccsp.log-versions", {"/etc/os-release": 'ID="rhel"\nVERSION_ID="9.6"\n'}),
    ("ccsp.mandatory-services", {"systemctl show": _SERVICES.replace("ActiveState=active", "ActiveState=failed", 1)}),
    ("ccsp.mandatory-services", {"systemctl show": ""}),
    ("ccsp.root-fs-type", {"findmnt -no FSTYPE": "btrfs"}),
    ("ccsp.selinux-enforcing", {"getenforce": "Permissive\n" + _STATUS}),
    ("ccsp.selinux-enforcing", {"getenforce": "Enforcing\n" + _STATUS.replace("targeted", "minimum")}),
    ("ccsp.selinux-enforcing", {"getenforce": (127, "")}),
    ("ccsp.sshd-enabled", {"is-active sshd": (3, "inactive")}),
    ("ccsp.sshd-enabled", {"sshd -T": "port 2222\n"}),
    ("ccsp.syslog-default", {"logger": _LOGGED.replace("messages: 1", "messages: 0")}),
    ("ccsp.syslog-default", {"logger": _LOGGED.replace("journal: 1", "journal: 0")}),
    ("ccsp.syslog-default", {"logger": _LOGGED.replace("active\nactive", "inactive\nactive")}),
    ("dotnet.list-runtimes", {"list-runtimes": ""}),
    ("dotnet.list-runtimes", {"ls -d": "Microsoft.NETCore.App/10.0.6\nMicrosoft.NETCore.App/10.0.5"}),
    ("dotnet.list-runtimes", {"readlink": "/opt/dotnet"}),
    ("dotnet.list-runtimes", {"--info": (131, "")}),
    ("dotnet.path-everywhere", {"sh -lc": (1, "")}),
    ("dotnet.path-everywhere", {"sudo": (1, "")}),
    ("dotnet.path-everywhere", {"systemd-run": (1, "")}),
    ("dotnet.path-everywhere", {"env -i": (1, "")}),
    ("dotnet.runtime-runs", {"Probe.dll": (134, "Failed to create CoreCLR")}),
    ("dotnet.runtime-runs", {"Probe.dll": _PROGRAM.replace("primes=303", "primes=302")}),
    ("dotnet.runtime-runs", {"Probe.dll": _PROGRAM.replace("collections=some", "collections=none")}),
    ("security.auditd", {"auditctl": "inactive\nenabled 1\n"}),
    ("security.auditd", {"auditctl": "active\nenabled 0\n"}),
    ("security.ssh-hostkey-mode", {"stat -c": "644 root root /etc/ssh/ssh_host_ed25519_key"}),
    ("security.ssh-hostkey-mode", {"stat -c": "640 root wheel /etc/ssh/ssh_host_ed25519_key"}),
    ("security.ssh-hostkey-mode", {"stat -c": (1, "")}),
    ("security.ssh-root-login", {"sshd -T": "port 22\npermitrootlogin yes\n"}),
    ("security.sshd-config-valid", {"sshd -t": (255, "Bad configuration option: PermitRootLogn")}),
    ("security.sshd-config-valid", {"stat -c": "666 /etc/ssh/sshd_config"}),
    ("support.chrony-running", {"chronyc": f"inactive\n{_TRACKING}UTC\n"}),
    ("support.chrony-running", {"chronyc": "active\n506 Cannot talk to daemon\nUTC\n"}),
    ("support.chrony-running", {"chronyc": f"active\n{_TRACKING}Europe/Berlin\n"}),
    ("support.no-failed-units", {"is-system-running": (1, "degraded")}),
    ("support.no-failed-units", {"--failed": "kdump.service loaded failed failed Crash recovery", "journalctl -b -u": "No memory reserved"}),
    ("support.no-ordering-cycles", {"_PID=1": LOG + "\nsysinit.target: Found ordering cycle on local-fs.target/start"}),
    ("support.no-ordering-cycles", {"_PID=1": ""}),
]  # fmt: skip
