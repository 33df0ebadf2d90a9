"""Files on the whole: labels, owners and modes, whatever package they are of."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.views import rpmdb

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest
    from certification.views.inventory import Entry


@requirement("security.selinux-labels")
def test_labels(guest: Guest, check: Checks) -> None:
    efi = tuple(m.target + "/" for m in guest.fstab if m.type == "vfat")
    labelled = [entry for entry in guest.inventory if not (entry.path + "/").startswith(efi)]
    ruled = labelled
    physical = guest.inventory.get("/sysroot")
    if guest.ostree and physical is not None:
        # What is on another device there is the disk view's own: it covers what the deployment shows already.
        covers = {e.path for e in labelled if e.path.startswith("/sysroot/") and e.device != physical.device}
        labelled = [entry for entry in labelled if entry.path not in covers]
        ruled = [as_ruled for entry in labelled if (as_ruled := _as_ruled(entry)) is not None]
    bare = [entry.path for entry in labelled if entry.label is None]
    check.empty("files without a label", observed=bare)
    wrong = [e.path for e in labelled if e.label and (":unlabeled_t:" in e.label or ":file_t:" in e.label)]
    check.empty("files that the policy doesn't know", observed=wrong)
    different = guest.mislabelled(ruled)
    check.empty("files whose label isn't the policy's", observed=different)
    check.at_least("files looked at", expected=1000, observed=len(labelled))


def _as_ruled(entry: Entry) -> Entry | None:
    """A file of an ostree host under the path that decides its label; None where a policy has no rules.

    That is the physical root: that everything in it has a label must do. The defaults of /etc have the labels
    that their copies in /etc get.
    """
    if (entry.path + "/").startswith("/sysroot/"):
        return None
    if (entry.path + "/").startswith("/usr/etc/"):
        return replace(entry, path=entry.path.removeprefix("/usr"))
    return entry


def _shown(entry: Entry) -> str:
    return f"{entry.path} ({entry.mode:04o} {entry.uid}:{entry.gid})"


@requirement("security.world-writable")
def test_world_writable(guest: Guest, check: Checks) -> None:
    check.at_least("files looked at", expected=1000, observed=len(guest.inventory))
    check.empty(
        "files that everybody may write",
        observed=[_shown(e) for e in guest.inventory if e.type == "f" and e.mode & 0o002],
    )
    loose = [_shown(e) for e in guest.inventory if e.type == "d" and e.mode & 0o002 and not e.mode & 0o1000]
    check.empty("such directories without the sticky bit", observed=loose)
    for path in ("/tmp", "/var/tmp"):
        entry = guest.inventory.get(path)
        check.equal(f"mode of {path}", expected="1777", observed=f"{entry.mode:04o}" if entry else "missing")


@requirement("security.unowned-files")
def test_owners(guest: Guest, check: Checks) -> None:
    users, groups = {a.uid for a in guest.accounts}, set(guest.groups.values())
    check.at_least("groups", expected=5, observed=len(groups))
    check.empty(
        "files without an owner",
        observed=[_shown(e) for e in guest.inventory if e.uid not in users or e.gid not in groups],
    )


@requirement("security.suid-review")
def test_privileged_programs(guest: Guest, check: Checks) -> None:
    packaged = {
        guest.inventory.resolve(item.path, follow=False) or item.path: item.mode & 0o7777
        for item in rpmdb.files(guest.access)
    }
    privileged = [entry for entry in guest.inventory if entry.type == "f" and entry.mode & 0o6000]
    strange = [_shown(entry) for entry in privileged if packaged.get(entry.path) != entry.mode]
    check.empty("set-id programs that aren't the packages'", observed=strange)
    capable = [e.path for e in guest.inventory if e.capability is not None and e.path not in packaged]
    check.empty("programs with capabilities that no package owns", observed=capable)
    check.at_least("set-id programs", expected=1, observed=len(privileged))


@requirement("security.system-dir-perms")
def test_system_directories(guest: Guest, check: Checks) -> None:
    below = [
        e
        for e in guest.inventory.below("/usr")
        if e.type in ("f", "d") and not (e.path + "/").startswith("/usr/share/")
    ]
    check.at_least("files looked at", expected=1000, observed=len(below))
    check.empty(
        "not owned by root",
        observed=[_shown(e) for e in below if e.uid != 0 and not _default_of_etc(guest, e)],
    )
    # A set-group-id directory or program may belong to a group that writes nothing else.
    check.empty("writable for group or others", observed=[_shown(e) for e in below if e.mode & 0o022])


def _default_of_etc(guest: Guest, entry: Entry) -> bool:
    """An ostree host's default for a file in /etc, with the very owner that the file has there."""
    if not guest.ostree or not entry.path.startswith("/usr/etc/"):
        return False
    there = guest.inventory.get(entry.path.removeprefix("/usr"), follow=False)
    return there is not None and there.uid == entry.uid


@requirement("security.world-readable-keys")
def test_readable_keys(guest: Guest, check: Checks) -> None:
    names = re.compile(r".*(\.key|_key|\.pem|/id_(rsa|dsa|ecdsa|ed25519))")
    found = []
    looked = 0
    for entry in guest.inventory:
        if (
            entry.type == "f"
            and entry.mode & 0o004
            and 0 < entry.size < 100_000
            and names.fullmatch(entry.path)
        ):
            looked += 1
            if b"PRIVATE KEY-----" in (guest.access.read_bytes(entry.path) or b"")[:4096]:
                found.append(_shown(entry))
    check.empty(f"private keys that everybody may read (of {looked} candidates)", observed=found)
