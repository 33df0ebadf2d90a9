"""Hosts that run from an ostree deployment: deployments, origins, remotes, boot entries, running state."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from typing import TYPE_CHECKING

from certification.checks import not_applicable, requirement
from certification.parse import openpgp, ostree
from certification.parse.boot import argument_values, has_argument
from certification.views import rpmdb

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.model import OstreeClaim
    from certification.views.guest import Guest


def deployed(guest: Guest, check: Checks) -> list[ostree.Deployment]:
    """The deployments; a host without one has failed whatever is asked about them."""
    found = ostree.deployments(guest.read, guest.glob)
    check.true("deployments", observed=bool(found), expected="at least one", otherwise="none")
    return found


@requirement("atomic.deployment-booted", views=("disk",))
def test_entry_leads_to_a_deployment(guest: Guest, check: Checks) -> None:
    roots = [item.path.removeprefix("/sysroot") for item in deployed(guest, check)]
    check.true("boot entries", observed=bool(guest.boot_entries), expected="at least one", otherwise="none")
    for entry in guest.boot_entries:
        paths = argument_values(entry.arguments, "ostree")
        if check.equal(f"ostree= in {entry.origin}", expected=1, observed=len(paths)):
            real = guest.inventory.resolve(f"/sysroot{paths[0]}") or ""
            check.contains("deployments", expected=real.removeprefix("/sysroot"), observed=roots)


@requirement("atomic.deployment-booted", views=("booted",))
def test_booted_deployment(guest: Guest, check: Checks) -> None:
    check.equal("/run/ostree-booted", expected=0, observed=guest.host.run("test -e /run/ostree-booted").rc)
    lines = guest.command("ostree admin status").splitlines()
    check.equal("booted deployments", expected=1, observed=sum(line.startswith("*") for line in lines))


@requirement("atomic.single-deployment")
def test_one_deployment(guest: Guest, check: Checks) -> None:
    check.equal("deployments", expected=1, observed=len(deployed(guest, check)))
    check.empty("staged deployments", observed=guest.glob("/run/ostree/staged-deployment*"))
    pinned = [
        path
        for path in guest.glob(f"{ostree.DEPLOY}/*/deploy/*.origin")
        if "pinned=true" in guest.content(path)
    ]
    check.empty("pinned deployments", observed=pinned)
    commits = sorted(
        path.rpartition("/")[2] for path in guest.glob(f"{ostree.REPOSITORY}/objects/*/*.commit")
    )
    # An earlier build leaves its commit behind, or a name for it.
    check.equal("commits in the repository", expected=1, observed=len(commits))
    kept = {item.commit for item in ostree.deployments(guest.read, guest.glob)}
    names = [e.path for e in guest.inventory.below(f"{ostree.REPOSITORY}/refs") if e.type == "f"]
    check.empty("names of other commits", observed=[p for p in names if guest.content(p).strip() not in kept])
    origins = Counter(entry.origin for entry in guest.boot_entries)
    loader = sum(number for origin, number in origins.items() if origin.startswith("/boot/loader/entries/"))
    check.equal("boot loader entries", expected=1, observed=loader)
    # A GRUB that can't read it has the same entry once more, in its own language: once in each grub.cfg.
    check.empty(
        "files with more than one entry", observed=[name for name, number in origins.items() if number > 1]
    )
    booted = {tuple(argument_values(entry.arguments, "ostree")) for entry in guest.boot_entries}
    check.equal("deployments in the boot entries", expected=1, observed=len(booted))


@requirement("atomic.commit-matches-recipe")
def test_commit(guest: Guest, claimed: OstreeClaim | None, check: Checks) -> None:
    if claimed is None:
        not_applicable("nobody said which commit this image was made of")
    for item in deployed(guest, check):
        check.equal("deployed commit", expected=claimed.commit, observed=item.commit)
        check.equal("state root", expected=claimed.stateroot, observed=item.stateroot)
        # The commit's name is the digest of what it says, and that names every file by its own.
        path = f"{ostree.REPOSITORY}/objects/{item.commit[:2]}/{item.commit[2:]}.commit"
        entry = guest.inventory.get(path)
        check.equal(f"SHA-256 of {path}", expected=item.commit, observed=entry and entry.sha256)


@requirement("atomic.origin-remote")
def test_origin(guest: Guest, claimed: OstreeClaim | None, check: Checks) -> None:
    known = ostree.remotes(guest.read, guest.glob)
    if claimed is not None:
        # What is in remotes.d comes with the tree; this is what the image says beside it.
        own = [name for name, remote in known.items() if remote.where == f"{ostree.REPOSITORY}/config"]
        check.equal("remotes of the repository", expected=[claimed.remote], observed=own)
    for item in deployed(guest, check):
        if claimed is not None:
            origin = f"{claimed.remote}:{claimed.ref}"
            check.equal(f"origin of {item.commit[:12]} as said", expected=origin, observed=item.refspec)
        if item.refspec.startswith("ostree-"):
            check.matches(
                f"image of {item.commit[:12]}",
                pattern=r"ostree-(image-signed|remote-registry):.+",
                observed=item.refspec,
            )
            continue
        name, colon, _ = item.refspec.partition(":")
        if check.true(
            f"origin of {item.commit[:12]}",
            observed=bool(colon),
            expected="remote:ref",
            otherwise=item.refspec or "none",
        ):
            remote = known.get(name)
            if (
                check.true(f"remote {name}", observed=remote is not None, otherwise="not configured")
                and remote is not None
            ):
                if claimed is not None:
                    check.equal(f"address of {name} as said", expected=claimed.url, observed=remote.url)
                    if claimed.fingerprint:
                        keys = guest.access.read_bytes(f"{ostree.REPOSITORY}/{name}.trustedkeys.gpg") or b""
                        trusted = openpgp.fingerprints(keys)
                        check.equal(f"keys of {name}", expected=[claimed.fingerprint], observed=trusted)
                check.true(f"signatures of {name} are verified", observed=remote.verified)
                check.true(
                    f"address of {name}", observed=remote.secure, expected="https", otherwise=remote.url
                )
                local = re.search(r"//(localhost|127\.|10\.|192\.168\.|\[)", remote.url)
                check.true(f"{name} is no build host", observed=local is None, otherwise=remote.url)


@requirement("atomic.commit-signature", views=("disk",))
def test_signature(guest: Guest, check: Checks) -> None:
    for item in deployed(guest, check):
        path = f"{ostree.REPOSITORY}/objects/{item.commit[:2]}/{item.commit[2:]}.commitmeta"
        data = guest.access.read_bytes(path) or b""
        signed = (
            b"ostree.gpgsigs" in data
            or b"ostree.sign." in data
            or item.refspec.startswith("ostree-image-signed:")
        )
        check.true(
            f"signature of {item.commit[:12] or item.path}", observed=signed, otherwise="none in its metadata"
        )


@requirement("atomic.commit-signature", views=("booted",))
def test_good_signature(guest: Guest, check: Checks) -> None:
    # As the host itself judges what it takes: with its own keys, libraries and programs.
    status = guest.command("ostree admin status")
    if "origin: <unknown origin type>" in status:
        not_applicable("it follows a container image, which containers-policy.json judges at each pull")
    lines = r"^\* \S+ ([0-9a-f]{64})\.\d+.*(?:\n .*)*?\n +origin refspec: ([^:\s]+):"
    booted = re.search(lines, status, re.M)
    if check.true("booted deployment of a remote", observed=booted is not None, otherwise=status) and booted:
        shown = guest.host.run("ostree show --gpg-verify-remote=%s %s", booted[2], booted[1])
        said = f"{shown.stdout}{shown.stderr}"
        check.contains("signature by a key of the remote", expected="Good signature from", observed=said)


@requirement("atomic.no-unlock-override")
def test_nothing_local(guest: Guest, check: Checks) -> None:
    for item in deployed(guest, check):
        check.empty(f"local changes of {item.commit[:12] or item.path}", observed=item.changes)


@requirement("atomic.usr-readonly")
def test_usr_is_closed(guest: Guest, check: Checks) -> None:
    result = guest.host.run("touch /usr/.certification && rm -f /usr/.certification")
    check.true("writing to /usr", observed=result.rc != 0, expected="refused", otherwise="possible")
    options = guest.command("findmnt -no OPTIONS -T /usr").strip().split(",")
    check.contains("mount options of /usr", expected="ro", observed=options)


@requirement("atomic.kargs")
def test_arguments(guest: Guest, facts: Facts, check: Checks) -> None:
    check.true("boot entries", observed=bool(guest.command_lines), expected="at least one", otherwise="none")
    for origin, arguments in guest.command_lines:
        missing = [
            word for word in facts.required_arguments if not has_argument(arguments, word.split(",")[0])
        ]
        check.empty(f"arguments missing in {origin}", observed=missing)
    for path in guest.glob("/usr/lib/bootc/kargs.d/*.toml"):
        check.true(
            f"{path} can be read", observed="kargs" in _toml(guest.content(path)), otherwise="no kargs in it"
        )


def _toml(content: str) -> dict[str, object]:
    import tomllib

    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError:
        return {}


@requirement("atomic.space-for-upgrade")
def test_room(guest: Guest, check: Checks) -> None:
    # Files of the tree are hard links into the repository: each counts once.
    tree = sum(entry.size for entry in guest.inventory.below("/usr") if entry.type == "f")
    check.at_least("MiB in the tree", expected=1, observed=tree >> 20)
    roots = [f for f in guest.filesystems.values() if f.type in ("xfs", "ext4") and f.size > 4 << 30]
    free = max((found.free for found in roots), default=0)
    check.at_least("MiB free for a second tree", expected=(tree * 3 // 2) >> 20, observed=free >> 20)
    kernels = sum(e.size for e in guest.inventory.below("/boot/ostree") if e.type == "f")
    boots = [m for m in guest.fstab if m.target == "/boot"]
    boot = guest.filesystem(boots[0].source) if boots else None
    if boot is not None:
        check.at_least(
            "MiB free in /boot for two more kernels", expected=2 * kernels >> 20, observed=boot.free >> 20
        )


@requirement("atomic.rpmdb")
def test_database(guest: Guest, facts: Facts, check: Checks) -> None:
    check.at_least("packages that can be read", expected=50, observed=len(guest.packages))
    unsigned = [p.nevra for p in rpmdb.packages(guest.access) if p.key not in facts.key_ids]
    check.empty(f"packages not signed by {', '.join(facts.key_ids)}", observed=unsigned)


@requirement("atomic.lifecycle")
def test_variant(guest: Guest, facts: Facts, today: date, check: Checks) -> None:
    variant = guest.os_release.get("VARIANT_ID", "")
    old = variant == "atomic.host" or guest.os_release.get("VERSION_ID", "").startswith("7")
    check.true(
        "host variant",
        observed=not old,
        expected="one that is still made",
        otherwise="Atomic Host 7, which has ended",
    )
    support = facts.os_support
    if support is None:
        check.record("release", expected="with known support", observed="unknown", ok=False)
    else:
        check.supported_until(support.what, ends=support.ends, today=today)


@requirement("atomic.tmp-permissions", views=("disk",))
def test_temporary(guest: Guest, check: Checks) -> None:
    for path, otherwise in (("/sysroot/tmp", "missing"), ("/var/tmp", "made by tmpfiles.d")):
        entry = guest.inventory.get(path)
        seen = f"{entry.mode:04o} {entry.uid}:{entry.gid}" if entry else "missing"
        # A /var/tmp that isn't there tmpfiles.d makes when the host starts (systemd's tmp.conf: 1777).
        if entry is None and otherwise != seen:
            rules = "\n".join(guest.content(p) for p in guest.glob("/usr/lib/tmpfiles.d/*.conf"))
            made = re.search(rf"^[qQdD]\S*\s+{path}\s+1777", rules, re.M)
            seen = otherwise if made else seen
        check.one_of(path, expected=("1777 0:0", otherwise), observed=seen)


@requirement("atomic.tmp-permissions", views=("booted",))
def test_temporary_at_run_time(guest: Guest, check: Checks) -> None:
    for line in guest.command("stat -c '%a %U:%G %n' /tmp /var/tmp").splitlines():
        check.matches("mode and owner", pattern=r"1777 root:root /(var/)?tmp", observed=line)


@requirement("atomic.privileged-commands")
def test_ordinary_users(guest: Guest, check: Checks) -> None:
    user = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    check.equal("running as nobody works", expected=0, observed=guest.host.run(f"{user} true").rc)
    for command in ("ostree admin undeploy 0", "rpm-ostree cancel", "docker ps"):
        if guest.host.run("command -v %s", command.split()[0]).rc == 0:
            result = guest.host.run(f"{user} {command}")
            check.true(
                f"{command} as nobody", observed=result.rc != 0, expected="refused", otherwise="allowed"
            )


@requirement("atomic.journal-fatal")
def test_nothing_fatal(guest: Guest, check: Checks) -> None:
    log = guest.command("journalctl -b --no-pager -o cat").splitlines()
    check.at_least("lines in the journal", expected=50, observed=len(log))
    fatal = re.compile(r"segfault at|\bOops\b|kernel BUG|avc: +denied|Failed to start")
    check.empty("fatal lines", observed=[line for line in log if fatal.search(line)])


# greenboot's, and that of the layer for where there is no greenboot.
_HEALTH_CHECKS = ("greenboot-healthcheck.service", "health-check.service")


@requirement("atomic.greenboot", views=("disk",))
def test_health_checks(guest: Guest, check: Checks) -> None:
    if guest.os_release.get("VARIANT_ID") == "edge" or "greenboot" in guest.package_names:
        for name in ("greenboot", "greenboot-default-health-checks"):
            check.contains("packages", expected=name, observed=guest.package_names)
    starts = [name for name in _HEALTH_CHECKS if guest.unit(name).starts]
    check.true(
        "health checks that start",
        observed=bool(starts),
        expected=" or ".join(_HEALTH_CHECKS),
        otherwise="none",
    )
    scripts = guest.glob("/etc/greenboot/check/required.d/*") + guest.glob(
        "/usr/lib/greenboot/check/required.d/*"
    )
    check.true("required checks", observed=bool(scripts), expected="at least one", otherwise="none")
    dull = [p for p in scripts if not ((e := guest.inventory.get(p)) and e.mode & 0o111)]
    check.empty("required checks that can't be run", observed=dull)


@requirement("atomic.greenboot", views=("booted",))
def test_the_host_found_itself_healthy(guest: Guest, check: Checks) -> None:
    units = " ".join(_HEALTH_CHECKS)
    states = guest.command(
        f"for i in $(seq 60); do systemctl is-active {units} | grep -qx activating || break; sleep 1; done; "
        f"systemctl is-active {units}; true"
    ).split()
    check.contains("states of the health checks after this start", expected="active", observed=states)
