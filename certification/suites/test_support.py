"""Whether the image can be supported after it was published."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

from certification.checks import requirement

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest


@requirement("support.os-lifecycle")
def test_lifecycle(facts: Facts, today: date, check: Checks) -> None:
    support = facts.os_support
    if support is None:
        check.record(
            f"{facts.name} {facts.version}",
            expected="a release with known support",
            observed="unknown",
            ok=False,
        )
        return
    check.supported_until(support.what, ends=support.ends, today=today)


@requirement("support.no-failed-units")
def test_no_failed_units(guest: Guest, check: Checks) -> None:
    state = guest.host.run("timeout 60 systemctl is-system-running --wait").stdout.strip()
    failed = guest.command("systemctl list-units --failed --plain --no-legend --no-pager").splitlines()
    names = [line.split()[0] for line in failed if line.split()]
    reasons = [
        f"{name}: {guest.host.run('journalctl -b -u %s -n 3 -o cat --no-pager', name).stdout.strip()[-300:]}"
        for name in names
    ]
    check.empty("failed units", observed=reasons)
    check.equal("state of the system", expected="running", observed=state)


@requirement("support.no-ordering-cycles")
def test_no_cycles(guest: Guest, check: Checks) -> None:
    log = guest.command("journalctl -b --no-pager -o cat _PID=1")
    check.at_least("lines of systemd", expected=10, observed=len(log.splitlines()))
    cycles = [
        line
        for line in log.splitlines()
        if re.search(r"ordering cycle|Breaking ordering cycle|deleted to break", line)
    ]
    check.empty("circles", observed=cycles)


@requirement("support.chrony-running")
def test_clock(guest: Guest, check: Checks) -> None:
    output = guest.host.run(
        "systemctl is-active chronyd; chronyc -n tracking; timedatectl show -p Timezone --value"
    ).stdout
    check.equal("chronyd", expected="active", observed=(output.split() or ["nothing"])[0])
    check.contains("chronyc tracking", expected="Reference ID", observed=output)
    zone = (output.strip().splitlines() or ["nothing"])[-1]
    check.one_of("time zone", expected=("UTC", "Etc/UTC"), observed=zone)
