"""Supportability, second part: the boot's log, the package manager, and the image's own name."""

from __future__ import annotations

import base64
import re
import shlex
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from certification import testkit
from certification.checks import not_applicable, requirement
from certification.parse import text
from certification.views import rpmdb

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest


def _before(lines: list[str], began: float) -> list[str]:
    """Of lines with a time (journalctl's short-unix, or audit's own), those from before the look, without it.

    Without time, machine and numbers that change, a line is the same on every boot.
    """
    found = []
    for line in lines:
        stamp = re.match(r"(\d+\.\d+) ", line) or re.search(r"audit\((\d+\.\d+):", line)
        if stamp is None or float(stamp[1]) <= began:
            plain = re.sub(r"^\d+\.\d+ \S+ ", "", line)
            found.append(re.sub(r"audit\([^)]*\):? ?|msg=|\bpid=\d+ ?|\bino=\d+ ?|\[\d+\]", "", plain))
    return sorted(set(found))


def _unknown(lines: list[str], known: list[re.Pattern[str]]) -> list[str]:
    return [line for line in lines if not any(pattern.search(line) for pattern in known)]


@requirement("support.journal-triage")
def test_errors_are_known(guest: Guest, facts: Facts, today: date, look_began: float, check: Checks) -> None:
    total = len(guest.command("journalctl -b --no-pager -o cat -n 200", once=True).splitlines())
    check.at_least("lines in the journal", expected=50, observed=total)
    lines = guest.command("journalctl -b -p err --no-pager -o short-unix -q").splitlines()
    unknown = _unknown(_before(lines, look_began), facts.excused("errors", today))
    check.empty("unknown errors", observed=unknown)


@requirement("security.no-avc-denials")
def test_denials(guest: Guest, facts: Facts, today: date, look_began: float, check: Checks) -> None:
    check.equal("getenforce", expected="Enforcing", observed=guest.host.run("getenforce").stdout.strip())
    total = len(guest.command("journalctl -b --no-pager -o cat -n 200", once=True).splitlines())
    check.at_least("lines in the journal", expected=50, observed=total)
    lines = guest.command(
        "{ journalctl -b --no-pager -o short-unix; cat /var/log/audit/audit.log 2>/dev/null; } "
        "| grep -E 'avc: +denied|type=(USER_AVC|SELINUX_ERR)|invalid context' || :"
    ).splitlines()
    # What certification itself does on the machine isn't the image's doing.
    unknown = _unknown(_before(lines, look_began), facts.excused("denials", today))
    check.empty("denials", observed=unknown)


def _package() -> bytes:
    with tempfile.TemporaryDirectory(prefix="hallmark-testkit-") as work:
        return testkit.package(Path(work)).read_bytes()


@requirement("support.dnf-works")
def test_install_and_remove(guest: Guest, check: Checks) -> None:
    manager = "dnf" if guest.host.run("command -v dnf").rc == 0 else "yum"
    package = base64.b64encode(guest.access.made("package", _package)).decode()
    options = "-q -y --disablerepo='*' --setopt=localpkg_gpgcheck=0"
    script = (
        "d=$(mktemp -d /var/tmp/certification.XXXXXX) || exit 1; trap 'rm -rf \"$d\"' EXIT; "
        f'echo {package} | base64 -d >"$d/probe.rpm"; '
        f'{manager} {options} install "$d/probe.rpm" >"$d/log" 2>&1; echo "install: $?"; '
        f"cat {testkit.PACKAGED}; rpm -V {testkit.PACKAGE}; "
        f'{manager} {options} remove {testkit.PACKAGE} >>"$d/log" 2>&1; echo "remove: $?"; '
        f'ls {testkit.PACKAGED} 2>/dev/null || echo gone; tail -5 "$d/log"'
    )
    output = guest.host.run(f"sh -c {shlex.quote(script)}").stdout
    check.contains("installing a package", expected="install: 0", observed=output)
    check.contains("its file", expected="a packaged file", observed=output)
    check.contains("removing it", expected="remove: 0", observed=output)
    check.contains("the file afterwards", expected="\ngone", observed=output)


@requirement("support.image-metadata")
def test_name_of_the_image(guest: Guest, check: Checks) -> None:
    values = {**guest.os_release, **text.assignments(guest.content("/etc/image-release"))}
    check.matches("IMAGE_ID", pattern=r"[a-z0-9._-]+", observed=values.get("IMAGE_ID", "not set"))
    check.matches(
        "IMAGE_VERSION",
        pattern=r"[a-z0-9._^~-]*\d[a-z0-9._^~-]*",
        observed=values.get("IMAGE_VERSION", "not set"),
    )


@requirement("support.tuned-profile")
def test_profile(guest: Guest, check: Checks) -> None:
    if "tuned" not in guest.package_names:
        not_applicable("tuned isn't installed")
    profile = guest.content("/etc/tuned/active_profile").strip()
    # Without a profile tuned recommends one, which is virtual-guest on every hypervisor.
    check.one_of("active profile", expected=("", "virtual-guest"), observed=profile)


@requirement("support.efi-package")
def test_efi_directory(guest: Guest, check: Checks) -> None:
    if "efi-filesystem" not in guest.package_names:
        not_applicable("efi-filesystem isn't installed")
    owned = [item for item in rpmdb.files(guest.access) if item.package == "efi-filesystem"]
    check.at_least("its directories", expected=1, observed=len(owned))
    changed = [item for item in rpmdb.verify(guest.access) if item.package == "efi-filesystem"]
    # FAT knows neither owner nor mode nor the package's times.
    check.empty("differences", observed=[str(item) for item in changed if set(item.flags) - set("MUGT")])
