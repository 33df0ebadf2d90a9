"""Nothing left behind, second part: spools, storage names, times, the vendors' own lists, and first boots."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from certification.checks import requirement

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest


@requirement("hygiene.spool")
def test_spools(guest: Guest, check: Checks) -> None:
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    names = ("mail", "cron", "at", "postfix", "cups", "mqueue", "clientmqueue", "rsyslog")
    places = ("/var/mail", *(f"/var/spool/{name}" for name in names))
    left = [e.path for place in places for e in guest.inventory.below(place) if e.type == "f"]
    check.empty("files in spools", observed=[path for path in left if path not in guest.owners])


@requirement("hygiene.storage-caches")
def test_storage_names(guest: Guest, check: Checks) -> None:
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    names = (
        "/etc/iscsi/initiatorname.iscsi", "/etc/nvme/hostnqn", "/etc/nvme/hostid", "/etc/multipath/bindings",
        "/etc/multipath/wwids", "/var/lib/multipath/*", "/etc/blkid.tab*", "/etc/blkid/blkid.tab*",
        "/run/blkid/*",
        "/var/lib/iscsi/nodes/*", "/var/lib/iscsi/send_targets/*",
    )  # fmt: skip
    check.empty("names and caches", observed=[path for name in names for path in guest.glob(name)])


@requirement("hygiene.mtime-sane")
def test_times(guest: Guest, check: Checks) -> None:
    now = datetime.now(UTC).timestamp()
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    future = [
        f"{e.path} ({datetime.fromtimestamp(e.mtime, UTC):%Y-%m-%d})"
        for e in guest.inventory
        if e.mtime > now + 86400
    ]
    check.empty("files from the future", observed=future)


@requirement("hygiene.deprovision-idempotent")
def test_nothing_to_generalise(guest: Guest, facts: Facts, check: Checks) -> None:
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    for row in facts.rows("files", "generalised"):
        found = []
        for pattern in row["paths"]:
            for path in guest.glob(str(pattern)):
                entry = guest.inventory.get(path, follow=False)
                # Directories and empty files stay: the operations empty them, too.
                kept = entry is None or entry.type == "d" or entry.size == 0
                if not kept and path not in guest.owners:
                    found.append(path)
        check.empty(str(row["operation"]), observed=found)


#: What a machine makes for itself, and the command that prints it.
_IDENTITIES = {
    "machine-id": "cat /etc/machine-id",
    "ssh host keys": "cat /etc/ssh/ssh_host_*_key.pub",
    "boot id": "cat /proc/sys/kernel/random/boot_id",
    "NetworkManager's key": "cat /var/lib/NetworkManager/secret_key",
    "random seed": "sha256sum </var/lib/systemd/random-seed",
}
_INITIATORS = "/etc/iscsi/initiatorname.iscsi /etc/nvme/hostnqn /etc/nvme/hostid"


def identities(guest: Guest, check: Checks) -> None:
    """Each identity is there, was made since the machine started, and is no other machine's."""
    for name, command in _IDENTITIES.items():
        check.unique(name, observed=guest.host.run(command).stdout.strip())
    # Where the storage is on the network, the names by which it knows the machine.
    for line in guest.host.run(f"grep -H . {_INITIATORS} 2>/dev/null").stdout.splitlines():
        path, _, name = line.partition(":")
        if not name.startswith("#"):
            check.unique(path, observed=name)
    identity = guest.content("/etc/machine-id").strip()
    check.matches("/etc/machine-id", pattern=r"[0-9a-f]{32}", observed=identity)
    check.differs("/etc/machine-id", unwanted="0" * 32, observed=identity)
    began = float(guest.command("awk '/^btime/{print $2}' /proc/stat"))
    files = "/etc/machine-id /etc/ssh/ssh_host_*_key /var/lib/NetworkManager/secret_key"
    rows = [line.split(None, 1) for line in guest.command(f"stat -c '%Y %n' {files}").splitlines()]
    check.at_least("files of identities", expected=3, observed=len(rows))
    # btime is rounded, and the clock may be set once more while the machine starts.
    early = [path for stamp, path in rows if float(stamp) < began - 120]
    check.empty("identities from before the start", observed=early)


@requirement("hygiene.first-boot-unique")
def test_own_identities(guest: Guest, check: Checks) -> None:
    identities(guest, check)


@requirement("atomic.unique-machine-id")
def test_own_identities_on_ostree(guest: Guest, check: Checks) -> None:
    identities(guest, check)
