"""A container image as engines, OpenShift and Red Hat's container certification want it: its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.views import rpmdb

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest

#: What every distribution's own base images keep: they change accounts, which a container has no use for, and
#: the restricted security context takes their power.
_ACCOUNTS = (
    *("chage", "chfn", "chsh", "expiry", "gpasswd", "newgrp", "passwd", "pam_timestamp_check"),
    "unix_chkpwd",
)
_SETUID_OF_ACCOUNTS = frozenset(f"/usr/{place}/{name}" for place in ("bin", "sbin") for name in _ACCOUNTS)
_DOCUMENTATION = ("/usr/share/doc", "/usr/share/info", "/usr/share/man", "/usr/share/gtk-doc")
_CACHES = ("/var/cache/dnf", "/var/cache/yum", "/var/cache/microdnf", "/var/cache/PackageKit")


@requirement("container.licences")
def test_licences(guest: Guest, check: Checks) -> None:
    place = guest.inventory.get("/licenses", follow=False)
    check.equal("/licenses", expected="d", observed=place.type if place else "missing")
    texts = [entry.path for entry in guest.inventory.below("/licenses") if entry.type == "f" and entry.size]
    check.at_least("files with text in /licenses", expected=1, observed=len(texts))
    listed = _listed(guest, texts)
    missing = {package.name for package in guest.packages} - set(listed) if listed else set()
    check.empty("packages whose terms are not told there", observed=sorted(missing))


@requirement("container.files-unmodified")
def test_unmodified(guest: Guest, check: Checks) -> None:
    check.at_least("files of packages", expected=100, observed=len(rpmdb.files(guest.access)))
    others = [item for item in rpmdb.verify(guest.access) if not item.config]
    changed = [str(item) for item in others if set("S5L") & set(item.flags)]
    missing = [str(item) for item in others if item.flags == "missing"]
    check.empty("files that are not their package's", observed=changed)
    check.empty("files that are missing", observed=missing)


@requirement("container.no-setuid")
def test_setuid(guest: Guest, check: Checks) -> None:
    check.at_least("files", expected=100, observed=len(guest.inventory))
    programs = [e for e in guest.inventory if e.type == "f" and (e.mode & 0o6000 or e.capability)]
    others = [f"{e.path} ({e.mode:04o})" for e in programs if e.path not in _SETUID_OF_ACCOUNTS]
    check.empty("programs that gain rights", observed=others)


@requirement("container.no-devices")
def test_devices(guest: Guest, check: Checks) -> None:
    check.at_least("files", expected=100, observed=len(guest.inventory))
    found = [f"{entry.path} ({entry.type})" for entry in guest.inventory if entry.type in "cbps"]
    check.empty("devices, pipes and sockets", observed=found)


@requirement("container.no-identity")
def test_identity(guest: Guest, check: Checks) -> None:
    identity = guest.content("/etc/machine-id").strip()
    check.one_of("content of /etc/machine-id", expected=("", "uninitialized"), observed=identity)
    for path in ("/etc/hostname", "/etc/resolv.conf"):
        check.equal(f"content of {path}", expected="", observed=guest.content(path).strip())
    check.empty("host keys of ssh", observed=guest.glob("/etc/ssh/ssh_host_*"))


@requirement("container.small")
def test_small(guest: Guest, check: Checks) -> None:
    check.at_least("files", expected=100, observed=len(guest.inventory))
    for what, places in (("documentation", _DOCUMENTATION), ("package caches", _CACHES)):
        found = [e for place in places for e in guest.inventory.below(place) if e.type == "f" and e.size]
        largest = sorted(found, key=lambda entry: -entry.size)[:5]
        check.empty(f"{what}, the largest of {len(found)}", observed=[entry.path for entry in largest])


def _listed(guest: Guest, texts: list[str]) -> list[str]:
    """The packages that a list in /licenses names, one a line; nothing where there is no such list."""
    return [
        line.split()[0]
        for path in texts
        if path == "/licenses/PACKAGES"
        for line in guest.content(path).splitlines()
        if line.strip()
    ]
