"""Hyper-V, second part: schedulers, memory, old hardware, supported pairs, System Center."""

from __future__ import annotations

import posixpath
import re
from datetime import date
from typing import TYPE_CHECKING

from certification.checks import not_applicable, requirement
from certification.parse.boot import argument_values

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

_RULES = ("/etc/udev/rules.d", "/usr/lib/udev/rules.d")


#: Packaged rules that may be about disks or memory, by their names: reading all takes many seconds on a disk.
_ABOUT = re.compile(r"block|sched|disk|storage|memory|redhat|balloon|hyper|azure|\bio")


def _rules(guest: Guest) -> list[tuple[str, str]]:
    """The udev rules that may matter, and all that no package owns; of two with one name /etc's counts."""
    found: dict[str, str] = {}
    for place in _RULES:
        for path in guest.glob(f"{place}/*.rules"):
            found.setdefault(posixpath.basename(path), path)
    return [
        (path, guest.content(path))
        for path in found.values()
        if path not in guest.owners or _ABOUT.search(path)
    ]


@requirement("hyperv.io-scheduler")
def test_no_scheduler(guest: Guest, check: Checks) -> None:
    plain = {"none", "noop"}
    check.true("boot entries", observed=bool(guest.command_lines), expected="at least one", otherwise="none")
    for origin, arguments in guest.command_lines:
        forced = sorted(set(argument_values(arguments, "elevator")) - plain)
        check.empty(f"schedulers forced in {origin}", observed=forced)
    rules = _rules(guest)
    check.at_least("files of udev rules", expected=1, observed=len(rules))
    forced = [
        f"{path}: {value}"
        for path, content in rules
        for value in re.findall(r'^[^#\n]*ATTR\{queue/scheduler\}\s*=\s*"([^"]*)"', content, re.M)
        if value not in plain
    ]
    check.empty("schedulers forced by udev", observed=forced)


@requirement("hyperv.memory-hotadd")
def test_memory_comes_online(guest: Guest, check: Checks) -> None:
    rules = [
        path
        for path, content in _rules(guest)
        if re.search(r'^[^#\n]*SUBSYSTEM=="memory".*ATTR\{state\}\s*=\s*"online', content, re.M)
    ]
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")
    for kernel in guest.kernels:
        itself = guest.kernel_options(kernel.version).get("CONFIG_MEMORY_HOTPLUG_DEFAULT_ONLINE") == "y"
        asked = all(
            any(v.startswith("online") for v in argument_values(arguments, "memhp_default_state"))
            for _, arguments in guest.command_lines
        )
        check.true(
            f"added memory under {kernel.version}",
            observed=itself or bool(rules) or (asked and bool(guest.command_lines)),
            expected="comes online by the kernel, a udev rule or an argument",
            otherwise="stays offline",
        )


@requirement("hyperv.uio-hv-generic")
def test_user_space_drivers(guest: Guest, check: Checks) -> None:
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")
    for kernel in guest.kernels:
        check.true(
            f"uio_hv_generic in {kernel.version}", observed=kernel.has("uio_hv_generic"), otherwise="missing"
        )


@requirement("hyperv.gen1-floppy", views=("disk",))
def test_floppy_is_off(guest: Guest, check: Checks) -> None:
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")
    for kernel in guest.kernels:
        loaded = kernel.has("floppy") and "floppy" not in guest.disabled_modules
        check.true(
            f"{kernel.version} leaves the drive alone", observed=not loaded, otherwise="would load floppy"
        )


@requirement("hyperv.gen1-floppy", views=("booted",))
def test_no_floppy_errors(guest: Guest, check: Checks) -> None:
    log = guest.command("journalctl -k -b --no-pager -o cat", once=True).splitlines()
    check.at_least("kernel log lines", expected=10, observed=len(log))
    check.empty(
        "errors of a drive",
        observed=[line for line in log if re.search(r"\bfd0\b.*(error|timeout)|error.*\bfd0\b", line)],
    )
    check.excludes(
        "loaded modules", unwanted=["floppy"], observed=guest.command("cut -d' ' -f1 /proc/modules").split()
    )


@requirement("hyperv.supported-matrix")
def test_supported_hosts(facts: Facts, today: date, check: Checks) -> None:
    hosts = facts.hyperv_hosts
    current = facts.current_hosts(today)
    check.true(
        f"hosts for {facts.name} {facts.version}",
        observed=bool({*current, "Azure Local"} & set(hosts)),
        expected=f"one of {', '.join(current)}, Azure Local",
        otherwise=", ".join(hosts) or "none",
    )


@requirement("hyperv.scvmm-agent")
def test_vmm_agent(guest: Guest, check: Checks) -> None:
    programs = guest.glob("/opt/microsoft/scvmmguestagent/bin/*") + guest.glob("/usr/sbin/scvmmguestagent")
    unit = guest.unit("scvmmguestagent.service")
    if not programs and unit.state == "missing":
        not_applicable("System Center's guest agent isn't installed")
    check.true("its program", observed=bool(programs), otherwise="missing")
    check.true("it starts with the system", observed=unit.starts, otherwise=unit.state)


@requirement("hyperv.scvmm-detect-off")
def test_no_vmm_detection(guest: Guest, check: Checks) -> None:
    check.at_least("settings in waagent.conf", expected=3, observed=len(guest.waagent))
    check.equal("DetectScvmmEnv", expected="n", observed=guest.waagent.get("DetectScvmmEnv", "n"))
