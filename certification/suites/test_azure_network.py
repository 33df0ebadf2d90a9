"""The network as Azure offers it: NetworkManager, profiles, accelerated interfaces, ssh connections."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.parse import text

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest

#: How udev tells an accelerated interface: by its bus on Azure, or by its driver.
_VIRTUAL_FUNCTION = re.compile(r"hv_pci|mlx[45]|\bmana\b")


@requirement("azure.networkmanager-enabled", views=("disk",))
def test_network_manager(guest: Guest, check: Checks) -> None:
    unit = guest.unit("NetworkManager.service")
    check.true("NetworkManager starts with the system", observed=unit.starts, otherwise=unit.state)
    for name in ("network.service", "systemd-networkd.service", "networking.service"):
        check.true(
            f"{name} doesn't start", observed=not guest.unit(name).starts, otherwise=guest.unit(name).state
        )


@requirement("azure.networkmanager-enabled", views=("booted",))
def test_network_manager_runs(guest: Guest, check: Checks) -> None:
    rows = [line.split(":") for line in guest.command("nmcli -t -f TYPE,STATE,DEVICE device").splitlines()]
    connected = [row[2] for row in rows if row[0] == "ethernet" and row[1] == "connected"]
    check.true(
        "a connected interface",
        observed=bool(connected),
        expected=", ".join(connected) or "one",
        otherwise=str(rows),
    )


@requirement("azure.nm-cloud-setup")
def test_cloud_setup(guest: Guest, check: Checks) -> None:
    check.true("package NetworkManager-cloud-setup", observed=guest.provides("NetworkManager-cloud-setup"))
    units = [guest.unit(name) for name in ("nm-cloud-setup.service", "nm-cloud-setup.timer")]
    states = ", ".join(f"{unit.name} {unit.state}" for unit in units)
    check.true("it starts", observed=any(unit.starts for unit in units), otherwise=states)
    drop_ins = guest.glob("/etc/systemd/system/nm-cloud-setup.service.d/*.conf")
    drop_ins += guest.glob("/usr/lib/systemd/system/nm-cloud-setup.service.d/*.conf")
    switched = any("NM_CLOUD_SETUP_AZURE=yes" in guest.content(path) for path in drop_ins)
    check.true("it asks Azure", observed=switched, expected="NM_CLOUD_SETUP_AZURE=yes in a drop-in")


@requirement("azure.eth0-dhcp-profile")
def test_profiles(guest: Guest, check: Checks) -> None:
    static = []
    for path in guest.glob("/etc/sysconfig/network-scripts/ifcfg-*"):
        values = text.assignments(guest.content(path))
        if path.endswith("/ifcfg-lo"):
            continue
        fixed = [key for key in values if re.match(r"(IPADDR|GATEWAY|DNS|NETMASK|PREFIX)\d*$", key)]
        automatic = (
            values.get("BOOTPROTO", "dhcp").lower() == "dhcp" and values.get("ONBOOT", "yes").lower() == "yes"
        )
        static += [path] if fixed or not automatic else []
    for path in guest.glob("/etc/NetworkManager/system-connections/*"):
        profile = text.ini(guest.content(path))
        method = profile.get("ipv4", {}).get("method", "auto")
        connects = profile.get("connection", {}).get("autoconnect", "true") != "false"
        fixed = [key for key in profile.get("ipv4", {}) if key.startswith(("address", "gateway", "dns"))]
        static += [path] if fixed or method != "auto" or not connects else []
    check.empty("profiles that aren't plain DHCP", observed=static)
    disabled = [
        path
        for path, content in guest.configuration(
            ("/etc/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d")
        )
        if "*" in text.ini(content).get("main", {}).get("no-auto-default", "")
    ]
    profiles = guest.glob("/etc/NetworkManager/system-connections/*") + guest.glob(
        "/etc/sysconfig/network-scripts/ifcfg-e*"
    )
    check.true(
        "an interface gets an address",
        observed=bool(profiles) or not disabled,
        expected="a profile, or NetworkManager's automatic one",
        otherwise=f"{disabled} and no profile",
    )


@requirement("azure.no-hwaddr")
def test_no_hardware_address(guest: Guest, check: Checks) -> None:
    patterns = {
        "/etc/sysconfig/network-scripts/ifcfg-*": r"^\s*(HWADDR|MACADDR)=",
        "/etc/NetworkManager/system-connections/*": r"^\s*(cloned-)?mac-address=",
        "/etc/udev/rules.d/*.rules": r"ATTRS?\{address\}==",
        "/etc/systemd/network/*": r"^\s*(PermanentMACAddress|MACAddress)=",
    }
    found, looked = [], 0
    for pattern, line in patterns.items():
        for path in guest.glob(pattern):
            looked += 1
            found += [path] if re.search(line, guest.content(path), re.M | re.I) else []
    check.empty(f"files with a hardware address (of {looked})", observed=found)


@requirement("azure.udev-persistent-net")
def test_no_persistent_names(guest: Guest, check: Checks) -> None:
    check.empty("rules", observed=guest.glob("/etc/udev/rules.d/70-persistent-net.rules"))
    generator = "75-persistent-net-generator.rules"
    for path in (f"/etc/udev/rules.d/{generator}", f"/usr/lib/udev/rules.d/{generator}"):
        entry = guest.inventory.get(path, follow=False)
        if entry is not None:
            check.equal(path, expected="/dev/null", observed=entry.link or "a file")
            return


@requirement("azure.sriov-unmanaged")
def test_virtual_functions(guest: Guest, check: Checks) -> None:
    means = []
    for directory in ("/etc/udev/rules.d", "/usr/lib/udev/rules.d"):
        for path in guest.glob(f"{directory}/*unmanaged*.rules"):
            # NetworkManager's own rule of that name is about other hypervisors' interfaces.
            rules = [line for line in text.significant(guest.content(path)) if _VIRTUAL_FUNCTION.search(line)]
            means += [path] if any('ENV{NM_UNMANAGED}="1"' in line for line in rules) else []
    for path, content in guest.configuration(
        ("/etc/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d")
    ):
        devices = text.ini(content).get("keyfile", {}).get("unmanaged-devices", "")
        means += [path] if "driver:mlx4_core" in devices and "driver:mlx5_core" in devices else []
    check.true(
        "a rule for the drivers of accelerated networking",
        observed=bool(means),
        expected=", ".join(means) or "udev rule or NetworkManager drop-in",
        otherwise="none",
    )


@requirement("azure.dns-resolution")
def test_no_name_server(guest: Guest, check: Checks) -> None:
    entry = guest.inventory.get("/etc/resolv.conf", follow=False)
    if entry is not None and entry.type == "l":
        check.matches("target of /etc/resolv.conf", pattern=r"(/|\.\./)*(var/)?run/.*", observed=entry.link)
    lines = [
        line
        for line in text.significant(guest.content("/etc/resolv.conf"))
        if line.split()[0] in ("nameserver", "search")
    ]
    check.empty("name servers and search domains", observed=lines)


@requirement("azure.ssh-client-alive")
def test_keep_alive(guest: Guest, check: Checks) -> None:
    value = guest.sshd.get("clientaliveinterval")
    number = int(value) if value.isdigit() else -1
    origin = guest.sshd.origin("clientaliveinterval")
    check.at_least(f"ClientAliveInterval ({origin})", expected=30, observed=number)
    check.at_most(f"ClientAliveInterval ({origin})", expected=235, observed=number)
