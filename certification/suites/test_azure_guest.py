"""Azure, second part: boot loader, agents, tools and network settings inside the guest."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from certification.checks import not_applicable, requirement
from certification.parse import text
from certification.parse.boot import argument_values, grubenv

if TYPE_CHECKING:
    from pathlib import Path

    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest


@requirement("azure.cmdline-nvme-timeout")
def test_disk_timeout(guest: Guest, facts: Facts, check: Checks) -> None:
    check.true("boot entries", observed=bool(guest.command_lines), expected="at least one", otherwise="none")
    wanted = facts.arguments("required", "azure.cmdline-nvme-timeout")
    for origin, arguments in guest.command_lines:
        check.contains_all(f"arguments in {origin}", expected=wanted, observed=arguments)
    if not wanted:
        rules = [
            path
            for path in guest.glob("/usr/lib/udev/rules.d/*.rules")
            if "io_timeout" in guest.content(path)
        ]
        check.true("a udev rule of azure-vm-utils", observed=bool(rules), otherwise="none sets io_timeout")


@requirement("azure.crashkernel")
def test_crash_memory(guest: Guest, check: Checks) -> None:
    check.true("boot entries", observed=bool(guest.command_lines), expected="at least one", otherwise="none")
    starts = guest.unit("kdump.service").starts
    for origin, arguments in guest.command_lines:
        reserved = [value for value in argument_values(arguments, "crashkernel") if value not in ("no", "0")]
        check.equal(
            f"crashkernel in {origin}",
            expected="set: kdump starts" if starts else "not set: kdump doesn't start",
            observed=("set" if reserved else "not set")
            + (": kdump starts" if starts else ": kdump doesn't start"),
        )


@requirement("azure.grub-defaults-file")
def test_grub_defaults(guest: Guest, facts: Facts, check: Checks) -> None:
    values = text.assignments(guest.content("/etc/default/grub"))
    for row in facts.rows("settings", "grub"):
        check.equal(
            str(row["key"]), expected=row["value"], observed=values.get(str(row["key"]), "not set").lower()
        )
    timeout = values.get("GRUB_TIMEOUT", "not set")
    check.matches("GRUB_TIMEOUT", pattern=r"[1-9]|10", observed=timeout)


@requirement("azure.grubenv-not-symlink")
def test_environment_block(guest: Guest, check: Checks) -> None:
    path = "/boot/grub2/grubenv"
    entry = guest.inventory.get(path, follow=False)
    if not check.equal(path, expected="f", observed=entry.type if entry else "missing") or entry is None:
        return
    check.equal("its size", expected=1024, observed=entry.size)
    content = guest.content(path)
    check.equal("its first line", expected="# GRUB Environment Block", observed=content.split("\n")[0])
    saved = grubenv(content).get("saved_entry", "")
    if saved and not saved.isdigit():
        names = [posixpath.basename(entry.origin).removesuffix(".conf") for entry in guest.boot_entries]
        check.contains("boot entries", expected=saved, observed=names)


@requirement("azure.serial-getty")
def test_serial_login(guest: Guest, check: Checks) -> None:
    consoles = argument_values(guest.command_lines[0][1], "console")
    name = consoles[-1].split(",")[0] if consoles else "none"
    check.one_of("the kernel's last console", expected=("ttyS0", "ttyAMA0"), observed=name)
    state = guest.host.run("systemctl is-active serial-getty@%s.service", name).stdout.strip()
    check.equal(f"serial-getty@{name}", expected="active", observed=state)
    log = guest.command("journalctl -k -b --no-pager -o cat", once=True)
    check.true(
        f"the kernel turned {name} on", observed=bool(re.search(rf"printk: .*console \[{name}\]", log))
    )


@requirement("azure.waagent-extensions")
def test_extensions(guest: Guest, check: Checks) -> None:
    values = guest.waagent
    check.at_least("settings in waagent.conf", expected=3, observed=len(values))
    check.equal("Extensions.Enabled", expected="y", observed=values.get("Extensions.Enabled", "y"))
    proxies = [f"{k}={v}" for k, v in values.items() if k.startswith("HttpProxy.") and v not in ("", "None")]
    check.empty("proxies", observed=proxies)


def _agent(guest: Guest, check: Checks) -> str | None:
    """The interpreter that the agent's first line names."""
    head = (guest.content("/usr/sbin/waagent") or guest.content("/usr/bin/waagent")).split("\n")[0]
    found = re.fullmatch(r"#! ?(?:/usr/bin/env )?(\S*python[\d.]*)( .*)?", head)
    check.true(
        "first line of waagent",
        observed=found is not None,
        expected="names a Python",
        otherwise=head or "none",
    )
    return found[1] if found else None


@requirement("azure.waagent-runtime", views=("disk",))
def test_agent_interpreter(guest: Guest, check: Checks) -> None:
    name = _agent(guest, check)
    if name is None:
        return
    path = name if name.startswith("/") else f"/usr/bin/{name}"
    entry = guest.inventory.get(path)
    check.true(
        f"{path} can be run", observed=entry is not None and bool(entry.mode & 0o111), otherwise="missing"
    )
    version = re.search(r"python(\d+\.\d+)$", entry.path) if entry is not None else None
    version_word = version[1] if version else "3*"
    places = [
        f"/usr/lib*/python{version_word}/*-packages/azurelinuxagent",
        "/usr/lib/python3/dist-packages/azurelinuxagent",
    ]
    modules = [path for place in places for path in guest.glob(f"{place}/__init__.py")]
    check.true(f"the agent's modules for Python {version_word}", observed=bool(modules), otherwise="missing")


@requirement("azure.waagent-runtime", views=("booted",))
def test_agent_loads(guest: Guest, check: Checks) -> None:
    name = _agent(guest, check)
    if name is not None:
        # It imports all of the agent, with the interpreter of its first line, before it says its version.
        result = guest.host.run("waagent --version", once=True)
        said = f"{result.rc} {result.stderr[-300:]}".strip()
        check.record("status of waagent --version", expected="0", observed=said, ok=result.rc == 0)


@requirement("azure.cloud-init-logging")
def test_provisioning_log(guest: Guest, check: Checks) -> None:
    output = guest.cloud_config.get("output")
    shown = output.get("all", "not set") if isinstance(output, dict) else str(output)
    check.contains("output", expected="/var/log/cloud-init-output.log", observed=str(shown))
    content = guest.content("/etc/cloud/cloud.cfg.d/05_logging.cfg")
    check.contains("05_logging.cfg", expected="/var/log/cloud-init.log", observed=content)


@requirement("azure.cloud-cfg-unmodified")
def test_provisioning_defaults(guest: Guest, check: Checks) -> None:
    config = guest.cloud_config
    for key, wanted in (("disable_root", True), ("ssh_deletekeys", True), ("preserve_hostname", False)):
        value = config.get(key)
        check.one_of(key, expected=(wanted, int(wanted)), observed="not set" if value is None else value)
    path = "/etc/cloud/cloud.cfg"
    if check.true(f"{path} belongs to a package", observed=path in guest.owners):
        check.true(f"{path} is as packaged", observed=path in guest.unmodified, otherwise="content differs")


@requirement("azure.python-openssl-floor")
def test_floors(guest: Guest, facts: Facts, check: Checks) -> None:
    for row in facts.rows("settings", "floors"):
        names = [str(name) for name in row["any"]]
        found = [package for name in names for package in guest.installed(name)]
        if check.true(" or ".join(names), observed=bool(found), expected="installed", otherwise="missing"):
            newest = max(_version(package.version) for package in found)
            check.at_least(f"version of {found[0].name}", expected=Version(row["version"]), observed=newest)


def _version(text_: str) -> Version:
    """The numbers at the front: 1.1.1k of OpenSSL is no version to PEP 440."""
    try:
        return Version(text_)
    except InvalidVersion:
        match = re.match(r"\d+(\.\d+)*", text_)
        return Version(match[0] if match else "0")


@requirement("azure.ifcfg-nm-controlled")
def test_profile_owner(guest: Guest, check: Checks) -> None:
    values = text.assignments(guest.content("/etc/sysconfig/network-scripts/ifcfg-eth0"))
    check.equal("NM_CONTROLLED", expected="yes", observed=values.get("NM_CONTROLLED", "not set").lower())
    check.one_of(
        "PERSISTENT_DHCLIENT",
        expected=("1", "yes", "y"),
        observed=values.get("PERSISTENT_DHCLIENT", "not set").lower(),
    )


@requirement("azure.sysconfig-network")
def test_networking(guest: Guest, check: Checks) -> None:
    values = text.assignments(guest.content("/etc/sysconfig/network"))
    check.equal("NETWORKING", expected="yes", observed=values.get("NETWORKING", "not set").lower())
    name = values.get("HOSTNAME", "localhost.localdomain")
    check.one_of("HOSTNAME", expected=("localhost", "localhost.localdomain"), observed=name)


@requirement("azure.dhcp-timeout")
def test_patience(guest: Guest, check: Checks) -> None:
    seconds = [
        _seconds(values["ipv4.dhcp-timeout"])
        for _, content in guest.configuration(
            ("/etc/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d")
        )
        for section, values in text.ini(content).items()
        if section.startswith("connection") and "ipv4.dhcp-timeout" in values
    ]
    for path in guest.glob("/etc/dhcp/dhclient*.conf"):
        seconds += [int(value) for value in re.findall(r"^\s*timeout\s+(\d+)\s*;", guest.content(path), re.M)]
    # NetworkManager's own default is 45 s (NetworkManager.conf(5), dhcp-timeout).
    check.at_least("seconds that DHCP waits", expected=300, observed=max(seconds, default=45))


def _seconds(value: str) -> int:
    return (
        1 << 31
        if value.strip() in ("infinity", "2147483647")
        else int(value)
        if value.strip().isdigit()
        else 0
    )


@requirement("azure.kernel-config-essentials")
def test_essential_options(guest: Guest, facts: Facts, check: Checks) -> None:
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")
    for kernel in guest.kernels:
        values = guest.kernel_options(kernel.version)
        for row in facts.rows("settings", "kernel_options"):
            name = str(row["option"])
            check.one_of(
                f"{name} of {kernel.version}", expected=row["values"], observed=values.get(name, "not set")
            )


@requirement("azure.vm-utils")
def test_disk_names(guest: Guest, facts: Facts, check: Checks) -> None:
    wanted = facts.listed("settings", "disk_rules")
    # A file in /etc takes the place of the packaged one; an empty one turns it off.
    rules = dict(guest.configuration(("/etc/udev/rules.d", "/usr/lib/udev/rules.d"), "*azure*.rules"))
    found = [path for path, content in rules.items() if path.endswith(tuple(wanted)) and "disk/" in content]
    check.true(
        "rules that make links below /dev/disk",
        observed=bool(found),
        expected=" or ".join(wanted),
        otherwise=", ".join(rules) or "none",
    )


@requirement("azure.root-grows", views=("disk",))
def test_room_to_grow(guest: Guest, check: Checks) -> None:
    roots = [mount for mount in guest.fstab if mount.target == "/"]
    found = guest.filesystem(roots[0].source) if roots else None
    if (
        check.true("root filesystem", observed=found is not None, otherwise="not on this disk")
        and found is not None
    ):
        last = guest.last_filesystem
        check.equal(
            "filesystem on the last partition", expected=found.uuid, observed=last.uuid if last else "none"
        )
    check.true("growpart", observed=bool(guest.glob("/usr/bin/growpart") + guest.glob("/usr/sbin/growpart")))
    modules = guest.cloud_config.get("cloud_init_modules") or []
    names = [item if isinstance(item, str) else item[0] for item in modules]
    check.contains_all("cloud-init's modules", expected=["growpart", "resizefs"], observed=names)


def _size(image: Path | None) -> bytes:
    """The image's size in bytes; 0 where nobody has it: whoever made the machine chose its disk."""
    return b"0" if image is None else str(image.stat().st_size).encode()


@requirement("azure.root-grows", views=("booted",))
def test_root_has_grown(guest: Guest, hallmark: Any, check: Checks) -> None:
    device, room = guest.command("findmnt -bnro SOURCE,SIZE /").split()
    # From the filesystem's device down to the disk: name, size in bytes and type of each.
    rows = [line.split() for line in guest.command("lsblk -bnro NAME,SIZE,TYPE -s %s", device).splitlines()]
    name, size = next((row[0], int(row[1])) for row in rows if row[2] == "disk")
    image = int(guest.access.made("size of the image", lambda: _size(hallmark.image)))
    if size <= image:
        not_applicable(f"the machine's disk has {size >> 20} MiB, no more than the image")
    # Lines such as vda4/start:3125248, in sectors.
    listed = guest.command(f"cd /sys/block/{name} && grep -H . {name}*/start {name}*/size").splitlines()
    sectors = {path: int(count) for path, _, count in (line.partition(":") for line in listed)}
    last = max((path for path in sectors if path.endswith("/start")), key=sectors.__getitem__)
    end = (sectors[last] + sectors[last.replace("/start", "/size")]) * 512
    # A GPT ends with its second copy; growpart leaves less than 2 MiB.
    check.at_most("MiB at the disk's end that no partition uses", expected=2, observed=(size - end) >> 20)
    check.at_least(
        "percent of its device that the root filesystem uses",
        expected=90,
        observed=int(room) * 100 // int(rows[0][1]),
    )
