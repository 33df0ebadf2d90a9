"""A made-up guest that passes: the smallest tree on which the file-based requirements hold.

``FILES`` is the tree; keys end in ``/`` for directories, values that start with ``->`` are links. Modes
follow the path after a blank: ``/etc/shadow 000``.
"""

# ruff: noqa: E501 - one file a line reads better than one cut in pieces
from __future__ import annotations

import gzip
import shutil
from functools import cache
from pathlib import Path

from test_parse import archive, member

__all__ = ["FILES", "KERNEL", "build", "initramfs", "put"]

KERNEL = "6.1.0-1-cloud-amd64"
ARGUMENTS = "root=UUID=1 ro console=tty1 console=ttyS0 earlyprintk=ttyS0 rootdelay=300"
DRIVERS = [
    "hv_vmbus",
    "hv_storvsc",
    "hv_netvsc",
    "hv_utils",
    "hv_balloon",
    "hid-hyperv",
    "hyperv-keyboard",
    "hyperv_fb",
    "pci-hyperv",
    "hv_sock",
    "vsock",
    "sd_mod",
    "scsi_transport_fc",
    "nvme",
    "nvme-core",
    "ext4",
    "mlx4_core",
    "mlx4_en",
    "mlx5_core",
    "mana",
    "vfat",
    "fat",
    "udf",
    "isofs",
]
UNITS = [
    "sshd",
    "firewalld",
    "chronyd",
    "auditd",
    "rsyslog",
    "NetworkManager",
    "crond",
    "cloud-init-local",
    "cloud-init",
    "cloud-config",
    "cloud-final",
    "waagent",
    "hypervkvpd",
    "hypervvssd",
]

BACK_ENDS = ["gnutls", "krb5", "openssh", "opensshserver", "openssl"]
KEY = Path(__file__).parents[2] / "images/sample-distribution/keys/RPM-GPG-KEY-hallmark-sample"

FILES: dict[str, str] = {
    "/ 755": "",
    "/etc/os-release": 'ID="hallmark-sample"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9"\nPRETTY_NAME="Small 9"\n',
    "/etc/system-release": "Hallmark sample distribution release 9\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nbin:x:1:1::/:/usr/sbin/nologin\nsshd:x:74:74::/:/usr/sbin/nologin\n"
    "chrony:x:90:90::/:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "/etc/shadow 000": "root:!locked::0:99999:7:::\nbin:*::::::\nsshd:!!::::::\nchrony:!*::::::\nnobody:*::::::\n",
    "/etc/group": "root:x:0:\nbin:x:1:\nsshd:x:74:\nchrony:x:90:\nnobody:x:65534:\n",
    "/etc/gshadow 000": "root:::\nbin:!::\n",
    "/etc/machine-id 444": "uninitialized\n",
    "/etc/fstab": "UUID=1 / ext4 defaults 0 0\n",
    "/etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=targeted\n",
    "/etc/selinux/targeted/policy/policy.33": "policy",
    "/etc/ssh/sshd_config 600": "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n",
    "/etc/ssh/sshd_config.d/50-azure.conf 600": "ClientAliveInterval 180\nPermitRootLogin no\nPasswordAuthentication no\n"
    "KbdInteractiveAuthentication no\nMaxAuthTries 4\nLoginGraceTime 1m\n",
    "/etc/sudoers 440": "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n",
    "/etc/login.defs": "ENCRYPT_METHOD SHA512\nUMASK 022\nHOME_MODE 0700\n",
    "/etc/pam.d/system-auth": "password requisite pam_pwquality.so\npassword sufficient pam_unix.so sha512 shadow\n",
    "/etc/pam.d/password-auth": "password requisite pam_pwquality.so\npassword sufficient pam_unix.so yescrypt shadow\n",
    "/etc/locale.conf": "LANG=en_US.UTF-8\n",
    "/usr/lib/locale/en_US.utf8/LC_CTYPE": "characters",
    "/etc/localtime": "->../usr/share/zoneinfo/UTC",
    "/etc/waagent.conf": "Provisioning.Agent=cloud-init\nProvisioning.DeleteRootPassword=y\nResourceDisk.Format=n\n"
    "ResourceDisk.EnableSwap=n\nOS.RootDeviceScsiTimeout=300\nOS.EnableFirewall=y\nOS.SshDir=/etc/ssh\n"
    "Provisioning.RegenerateSshHostKeyPair=n\nExtensions.Enabled=y\n",
    "/etc/cloud/cloud.cfg": "ssh_deletekeys: true\ndisable_root: true\npreserve_hostname: false\noutput: {all: '| tee -a /var/log/cloud-init-output.log'}\n"
    "cloud_init_modules: [growpart, resizefs, disk_setup, mounts, ssh, users-groups]\n"
    "reporting: {logging: {type: log}, telemetry: {type: hyperv}}\n",
    "/etc/cloud/cloud.cfg.d/91-azure_datasource.cfg": "datasource_list: [ Azure ]\n"
    "datasource: {Azure: {apply_network_config: false}}\n",
    "/etc/chrony.conf": "refclock PHC /dev/ptp_hyperv poll 3 dpoll -2 offset 0\nmakestep 1.0 -1\n",
    "/usr/lib/udev/rules.d/99-ptp_hyperv.rules": 'ATTR{clock_name}=="hyperv", SYMLINK+="ptp_hyperv"\n',
    "/etc/NetworkManager/conf.d/99-azure.conf": "[keyfile]\nunmanaged-devices=driver:mlx4_core;driver:mlx5_core\n",
    "/etc/dnf/dnf.conf": "[main]\ngpgcheck=1\ninstallonly_limit=3\nclean_requirements_on_remove=True\nbest=True\nskip_if_unavailable=False\n",
    "/etc/yum.repos.d/small.repo": "[small-os]\nbaseurl=https://small.invalid/os\nenabled=1\n",
    "/etc/firewalld/firewalld.conf": "DefaultZone=public\n",
    "/etc/firewalld/zones/public.xml": '<zone><service name="ssh"/><service name="dhcpv6-client"/></zone>',
    "/etc/default/grub": f'GRUB_CMDLINE_LINUX="{ARGUMENTS}"\nGRUB_TERMINAL="serial console"\n'
    'GRUB_SERIAL_COMMAND="serial --speed=115200"\nGRUB_TIMEOUT=3\nGRUB_DEFAULT=saved\nGRUB_DISABLE_SUBMENU=true\n'
    "GRUB_DISABLE_RECOVERY=true\nGRUB_ENABLE_BLSCFG=true\n",
    "/boot/grub2/grubenv 600": ("# GRUB Environment Block\n" + "#" * 1000)[:1024],
    "/boot/grub2/grub.cfg 600": "serial --speed=115200\n",
    f"/boot/loader/entries/x-{KERNEL}.conf": f"linux /vmlinuz-{KERNEL}\ninitrd /initramfs-{KERNEL}.img\noptions {ARGUMENTS}\n",
    f"/boot/vmlinuz-{KERNEL}": "kernel",
    f"/usr/lib/modules/{KERNEL}/vmlinuz": "kernel",
    f"/usr/lib/modules/{KERNEL}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
    f"/usr/lib/modules/{KERNEL}/config": "CONFIG_HYPERV=m\nCONFIG_HYPERV_STORAGE=m\nCONFIG_HYPERV_NET=m\nCONFIG_HYPERV_UTILS=m\n"
    "CONFIG_HYPERV_TIMER=y\nCONFIG_WATCHDOG=y\nCONFIG_CIFS=m\n",
    "/etc/dracut.conf.d/hyperv.conf": 'hostonly="no"\nadd_drivers+=" hv_vmbus hv_netvsc hv_storvsc nvme "\n',
    "/usr/lib/systemd/system/default.target": "->multi-user.target",
    "/etc/hostname": "",
    "/etc/hosts": "127.0.0.1 localhost localhost.localdomain localhost4 localhost4.localdomain4\n::1 localhost localhost6\n",
    "/etc/shells": "/bin/bash\n",
    "/bin/bash 755": "a shell",
    "/etc/rsyslog.conf": "*.info /var/log/messages\n",
    "/etc/systemd/journald.conf": "[Journal]\n",
    "/etc/sysconfig/kernel": "UPDATEDEFAULT=yes\nDEFAULTKERNEL=kernel-core\n",
    "/etc/sysconfig/network": "NETWORKING=yes\nNOZEROCONF=yes\n",
    "/etc/NetworkManager/conf.d/50-dhcp.conf": "[connection-azure]\nipv4.dhcp-timeout=300\n",
    "/etc/cloud/cloud.cfg.d/05_logging.cfg": "log: /var/log/cloud-init.log\n",
    "/usr/sbin/waagent 755": "#!/usr/bin/python3\n",
    "/usr/bin/python3": "->python3.11",
    "/usr/bin/python3.11 755": "an interpreter",
    "/usr/lib/python3.11/site-packages/azurelinuxagent/__init__.py": "",
    "/usr/lib/udev/rules.d/80-azure-disk.rules": 'SYMLINK+="disk/azure/root"\n',
    "/usr/lib/udev/rules.d/40-memory.rules": 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="offline", ATTR{state}="online"\n',
    "/etc/modprobe.d/blacklist-floppy.conf": "blacklist floppy\n",
    "/etc/crypto-policies/config": "DEFAULT\n",
    "/etc/crypto-policies/state/current": "DEFAULT\n",
    **{f"/usr/share/crypto-policies/DEFAULT/{name}.txt": "rules" for name in BACK_ENDS},
    **{
        f"/etc/crypto-policies/back-ends/{name}.config": f"->/usr/share/crypto-policies/DEFAULT/{name}.txt"
        for name in BACK_ENDS
    },
    "/etc/pki/rpm-gpg/RPM-GPG-KEY-small": KEY.read_text(),
    "/etc/security/pwquality.conf.d/50-azure.conf": "minlen = 6\nminclass = 3\n",
    "/usr/lib/sysctl.d/50-default.conf": "fs.protected_hardlinks = 1\n-net.ipv4.conf.all.rp_filter\nnet.ipv4.conf.*.rp_filter = 2\n",
    "/usr/lib/sysctl.d/60-more.conf": "kernel.kptr_restrict = 1\n",
    "/etc/image-release": "IMAGE_ID=small-9\nIMAGE_VERSION=9.1\n",
    "/etc/resolv.conf": "# made by NetworkManager\n",
    "/root/": "",
    "/home/": "",
    "/tmp/ 1777": "",
    "/var/tmp/ 1777": "",
    "/usr/bin/bash 755": "->../../bin/bash",
    **{f"/usr/lib/modules/{KERNEL}/kernel/{name}.ko": "module" for name in DRIVERS},
    **{f"/usr/lib/systemd/system/{name}.service": "[Install]\n" for name in UNITS},
    **{
        f"/etc/systemd/system/multi-user.target.wants/{name}.service": f"->/usr/lib/systemd/system/{name}.service"
        for name in UNITS
    },
}


@cache
def initramfs(*, version: str = KERNEL, leave_out: str = "", extra: tuple[bytes, ...] = ()) -> bytes:
    """An initramfs with the drivers, but for one."""
    names = [name for name in DRIVERS if name != leave_out]
    return gzip.compress(
        archive(*(member(f"usr/lib/modules/{version}/kernel/{name}.ko", b"x") for name in names), *extra),
        1,
    )


def put(root: Path, key: str, content: str | bytes | None) -> None:
    """Write one entry of a tree below ``root``; None removes it."""
    name, _, mode = key.partition(" ")
    path = root / name.strip("/")
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir() and content is None:
        shutil.rmtree(path)
    if content is None:
        return
    if name.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content[2:])
            return
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(int(mode, 8) if mode else 0o755 if name.endswith("/") else 0o644)


def build(root: Path) -> Path:
    """Make the tree."""
    for key, content in FILES.items():
        put(root, key, content)
    put(root, f"/boot/initramfs-{KERNEL}.img", initramfs())
    return root
