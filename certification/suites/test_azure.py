"""What Azure needs inside the guest: boot arguments, filesystem table, network, time, drivers."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from packaging.version import Version

from certification.checks import requirement
from certification.parse import binaries, text
from certification.parse.boot import argument_values, has_argument

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

#: Types of fstab lines that name no block device.
_VIRTUAL = {"tmpfs", "proc", "sysfs", "devpts", "nfs", "nfs4", "cifs", "bind", "overlay", "none"}


@requirement("azure.no-swap-on-os-disk", views=("disk",))
def test_no_swap(guest: Guest, check: Checks) -> None:
    signatures = [guid for guid, found in guest.filesystems.items() if found.type == "swap"]
    check.empty("partitions with a swap signature", observed=signatures)
    check.empty(
        "swap lines in fstab", observed=[m.source for m in guest.fstab if "swap" in (m.type, m.target)]
    )
    places = ("/etc/systemd/system", "/usr/lib/systemd/system")
    check.empty("swap units", observed=[path for place in places for path in guest.glob(f"{place}/*.swap")])
    check.empty(
        "swap files",
        observed=[path for name in ("swapfile", "swap", "*.swap") for path in guest.glob(f"/{name}")],
    )


@requirement("azure.no-swap-on-os-disk", views=("booted",))
def test_no_active_swap(guest: Guest, check: Checks) -> None:
    lines = guest.command("cat /proc/swaps").splitlines()[1:]
    check.empty("active swap", observed=[line.split()[0] for line in lines if "/zram" not in line])


@requirement("azure.fstab-persistent-ids", views=("disk",))
def test_fstab(guest: Guest, check: Checks) -> None:
    lines = [mount for mount in guest.fstab if mount.type not in _VIRTUAL]
    check.contains("mount points in fstab", expected="/", observed=[mount.target for mount in lines])
    for mount in lines:
        named = re.match(r"(UUID|LABEL|PARTUUID)=|/dev/mapper/", mount.source)
        check.true(
            f"{mount.target} by a persistent identifier", observed=named is not None, otherwise=mount.source
        )
        found = guest.filesystem(mount.source)
        check.true(f"{mount.source} is on this disk", observed=found is not None)
        if found is not None and mount.type != "auto":
            check.equal(f"type of {mount.target}", expected=found.type, observed=mount.type)


@requirement("azure.fstab-persistent-ids", views=("booted",))
def test_fstab_verifies(guest: Guest, check: Checks) -> None:
    result = guest.host.run("findmnt --verify")
    check.record("findmnt --verify", expected="no error", observed=result.stdout[-500:], ok=result.rc == 0)
    plain = [mount.source for mount in guest.fstab if re.match(r"/dev/(sd|vd|xvd|nvme|hd)", mount.source)]
    check.empty("lines with a device name", observed=plain)


@requirement("azure.fstab-no-resource-disk")
def test_fstab_without_resource_disk(guest: Guest, check: Checks) -> None:
    pattern = re.compile(r"comment=cloudconfig|azure_resource|/mnt/resource|/dev/disk/cloud")
    lines = text.significant(guest.content("/etc/fstab"))
    check.empty("lines of the temporary disk", observed=[line for line in lines if pattern.search(line)])
    check.at_least("lines in fstab", expected=1, observed=len(lines))


@requirement("azure.cmdline-console")
def test_console(guest: Guest, facts: Facts, check: Checks) -> None:
    _entries(guest, check)
    for origin, arguments in guest.command_lines:
        consoles = argument_values(arguments, "console")
        last = consoles[-1].split(",")[0] if consoles else "none"
        check.equal(f"last console in {origin}", expected=facts.console, observed=last)


@requirement("azure.cmdline-rootdelay")
def test_rootdelay(guest: Guest, facts: Facts, check: Checks) -> None:
    _arguments(guest, facts, check, "azure.cmdline-rootdelay")


@requirement("azure.cmdline-earlyprintk")
def test_earlyprintk(guest: Guest, check: Checks) -> None:
    _entries(guest, check)
    for origin, arguments in guest.command_lines:
        values = [value.split(",")[0] for value in argument_values(arguments, "earlyprintk")]
        check.contains(f"earlyprintk in {origin}", expected="ttyS0", observed=values)


@requirement("azure.cmdline-net-ifnames")
def test_interface_names(guest: Guest, facts: Facts, check: Checks) -> None:
    _arguments(guest, facts, check, "azure.cmdline-net-ifnames")
    # A profile that is tied to eth0 is useless when the interface has another name.
    tied = [path for path in guest.glob("/etc/sysconfig/network-scripts/ifcfg-eth*") if guest.read(path)]
    for origin, arguments in guest.command_lines:
        ok = not tied or has_argument(arguments, "net.ifnames=0")
        check.true(
            f"profiles and names in {origin} agree",
            observed=ok,
            otherwise=f"{', '.join(tied)} need net.ifnames=0",
        )


@requirement("azure.cmdline-no-rhgb-quiet")
def test_no_quiet(guest: Guest, facts: Facts, check: Checks) -> None:
    _arguments(guest, facts, check, "azure.cmdline-no-rhgb-quiet")


@requirement("azure.cmdline-forbidden")
def test_forbidden(guest: Guest, facts: Facts, check: Checks) -> None:
    _arguments(guest, facts, check, "azure.cmdline-forbidden")
    for origin, arguments in guest.command_lines:
        names = ",".join(
            argument_values(arguments, "modprobe.blacklist")
            + argument_values(arguments, "rd.driver.blacklist")
        )
        drivers = [
            name
            for name in names.split(",")
            if name.startswith(("hv_", "hyperv", "hid_hyperv", "pci_hyperv"))
        ]
        check.empty(f"Hyper-V drivers blacklisted in {origin}", observed=drivers)


@requirement("azure.cmdline-all-entries")
def test_all_entries(guest: Guest, facts: Facts, check: Checks) -> None:
    _entries(guest, check)
    sources = guest.command_lines + guest.future_command_lines
    check.true("a source for the next kernel's arguments", observed=bool(guest.future_command_lines))
    for origin, arguments in sources:
        missing = [
            word for word in facts.required_arguments if not has_argument(arguments, word.split(",")[0])
        ]
        check.empty(f"arguments missing in {origin}", observed=missing)
    for origin, arguments in guest.future_command_lines:
        consoles = [value.split(",")[0] for value in argument_values(arguments, "console")]
        check.equal(
            f"last console in {origin}",
            expected=facts.console,
            observed=consoles[-1] if consoles else "none",
        )
    kernels = {kernel.version for kernel in guest.kernels}
    booted = {version for entry in guest.boot_entries for version in kernels if version in entry.kernel}
    check.equal("kernels with a boot entry", expected=kernels, observed=booted)


@requirement("azure.cmdline-root-id")
def test_root(guest: Guest, check: Checks) -> None:
    _entries(guest, check)
    for entry in guest.boot_entries:
        roots = argument_values(entry.arguments, "root")
        if check.true(f"root= in {entry.origin}", observed=bool(roots)):
            found = guest.filesystem(roots[-1])
            check.true(f"{roots[-1]} of {entry.origin} is on this disk", observed=found is not None)
        for value in argument_values(entry.arguments, "resume"):
            check.true(f"resume={value} is on this disk", observed=guest.filesystem(value) is not None)
        for path in (entry.kernel, *entry.initrds):
            places = [path, f"/boot{path}"]
            check.true(f"{path} exists", observed=any(guest.inventory.get(place) for place in places))


def _entries(guest: Guest, check: Checks) -> None:
    count = len(guest.command_lines)
    check.true("boot entries", observed=count > 0, expected="at least one", otherwise="none")


def _arguments(guest: Guest, facts: Facts, check: Checks, identifier: str) -> None:
    """Look for the arguments that the facts require or forbid under a requirement, in every boot entry."""
    _entries(guest, check)
    for origin, arguments in guest.command_lines:
        for wanted in facts.arguments("required", identifier):
            check.contains(f"arguments in {origin}", expected=wanted, observed=arguments)
        unwanted = [
            word for word in facts.arguments("forbidden", identifier) if has_argument(arguments, word)
        ]
        check.empty(f"unwanted arguments in {origin}", observed=unwanted)


@requirement("azure.grub-serial")
def test_grub_serial(guest: Guest, check: Checks) -> None:
    defaults = text.assignments(guest.content("/etc/default/grub"))
    terminal = f"{defaults.get('GRUB_TERMINAL', '')} {defaults.get('GRUB_TERMINAL_OUTPUT', '')}"
    if guest.machine == "aarch64":
        # The firmware's console is the serial port there.
        check.equal("GRUB_TERMINAL", expected="console", observed=terminal.strip())
        return
    check.contains("GRUB_TERMINAL", expected="serial", observed=terminal)
    check.contains("GRUB_SERIAL_COMMAND", expected="serial", observed=defaults.get("GRUB_SERIAL_COMMAND", ""))
    configured = guest.content("/boot/grub2/grub.cfg") or guest.content("/boot/grub/grub.cfg")
    check.true(
        "grub.cfg uses the serial port",
        observed=bool(re.search(r"^\s*(if\s+)?serial\s+--", configured, re.M)),
    )


@requirement("azure.x86-64", views=("disk",))
def test_architecture(guest: Guest, check: Checks) -> None:
    check.one_of("architecture", expected=("x86_64", "aarch64"), observed=guest.machine)
    shell = binaries.elf(guest.access.read_bytes("/usr/bin/bash") or b"")
    check.equal(
        "machine of /usr/bin/bash", expected=guest.machine, observed=shell.machine if shell else "no ELF file"
    )
    strange = [
        package.nevra for package in guest.packages if package.arch not in (guest.machine, "noarch", "(none)")
    ]
    check.empty("packages of another architecture", observed=strange)
    for kernel in guest.kernels:
        data = guest.fetch(kernel.images[0]).read_bytes()
        check.equal(
            f"machine of {kernel.images[0]}", expected=guest.machine, observed=binaries.pe_machine(data)
        )


@requirement("azure.x86-64", views=("booted",))
def test_running_architecture(guest: Guest, check: Checks) -> None:
    words = guest.command("uname -m; rpm --eval '%{_arch}'; getconf LONG_BIT").split()
    check.one_of("uname -m", expected=("x86_64", "aarch64"), observed=words[0])
    check.equal("architecture of rpm", expected=words[0], observed=words[1])
    check.equal("bits of a long", expected="64", observed=words[2])


@requirement("azure.sack-kernel-floor")
def test_kernel_floor(guest: Guest, facts: Facts, check: Checks) -> None:
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")
    for kernel in guest.kernels:
        floor = next((fixed for line, fixed in facts.sack_floors if kernel.version.startswith(line)), None)
        if floor is None:
            base = kernel.version.split("-")[0]
            check.true(
                f"kernel {kernel.version}",
                observed=Version(base) >= Version(facts.sack_fixed_since),
                expected=f"at least {facts.sack_fixed_since}",
                otherwise=base,
            )
        else:
            check.true(
                f"kernel {kernel.version}",
                observed=_build(kernel.version) >= _build(floor),
                expected=f"at least {floor}",
                otherwise=kernel.version,
            )


def _build(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split(".el")[0]))


@requirement("azure.chrony-ptp")
def test_host_clock(guest: Guest, check: Checks) -> None:
    content = guest.content("/etc/chrony.conf")
    for pattern in re.findall(r"^\s*(?:confdir|include)\s+(\S+)", content, re.M):
        # `include /sys/bus/vmbus/…/../etc/chrony.d/x.conf` is read on Hyper-V only; there it leads to /etc.
        pattern = posixpath.normpath(pattern)
        if pattern.startswith("/run"):
            continue
        for path in guest.glob(pattern if pattern.endswith(".conf") else f"{pattern}/*.conf"):
            content += "\n" + guest.content(path)
    clocks = [line for line in text.significant(content, comment="#!;%") if line.startswith("refclock PHC")]
    check.true(
        "reference clock of the host",
        observed=any("ptp_hyperv" in line for line in clocks),
        expected="refclock PHC /dev/ptp_hyperv",
        otherwise=", ".join(clocks) or "none",
    )
    check.true("large steps are allowed at start", observed=bool(re.search(r"^\s*makestep\s", content, re.M)))
    rules = "\n".join(
        guest.content(path)
        for place in ("/etc", "/usr/lib")
        for path in guest.glob(f"{place}/udev/rules.d/*.rules")
        if "ptp" in path or "default" in path or "chrony" in path or "azure" in path
    )
    check.true("a udev rule makes /dev/ptp_hyperv", observed="ptp_hyperv" in rules)


@requirement("azure.module-blacklist")
def test_blacklist(guest: Guest, facts: Facts, check: Checks) -> None:
    present = {module for kernel in guest.kernels for module in kernel.modules}
    wanted = facts.blacklisted_modules
    free = [module for module in wanted if module not in guest.disabled_modules and module in present]
    check.empty(f"modules of {', '.join(wanted)} that this kernel would load", observed=free)
    check.true("kernels looked at", observed=bool(present))
