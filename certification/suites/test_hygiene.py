"""Identities and leftovers: what each machine must make for itself, and what the build must not leave."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.parse import text

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest
    from certification.views.inventory import Entry

_HISTORIES = (".bash_history", ".zsh_history", ".sh_history", ".history", ".ash_history", ".ksh_history")
_TOOL_STATE = (
    ".lesshst", ".viminfo", ".python_history", ".mysql_history", ".psql_history", ".sqlite_history",
    ".dbshell", ".wget-hsts", ".cache", ".aws", ".azure", ".gnupg", ".ansible", ".pip", ".npm",
    ".local/share", ".gitconfig", ".git-credentials", ".subversion",
)  # fmt: skip


def _homes(guest: Guest) -> list[str]:
    """Every home directory that an account names, those below /home, root's and the skeleton."""
    named = {account.home.rstrip("/") for account in guest.accounts}
    return sorted(
        home for home in {*named, "/root", "/etc/skel", *guest.glob("/home/*")} if home not in ("", "/")
    )


def _anything(guest: Guest, *patterns: str) -> list[str]:
    """What matches one of the patterns, links and directories included."""
    return sorted({path for pattern in patterns for path in guest.glob(pattern)})


def _below(guest: Guest, *directories: str) -> list[Entry]:
    """Everything but directories below ``directories``."""
    return [
        entry for directory in directories for entry in guest.inventory.below(directory) if entry.type != "d"
    ]


def _unpackaged(guest: Guest, entries: list[Entry]) -> list[str]:
    """Of these, the ones that no package owns."""
    return [entry.path for entry in entries if entry.path not in guest.owners]


def _looked(guest: Guest, check: Checks) -> None:
    """A listing that is empty would let every image pass."""
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))


@requirement("hygiene.no-host-keys")
def test_no_host_keys(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    check.empty(
        "host keys", observed=_anything(guest, "/etc/ssh/ssh_host_*", "/etc/dropbear/*", "/var/lib/ssh/*")
    )
    for disk in guest.initramfs_files:
        names = guest.initramfs(disk.path).files
        check.empty(
            f"host keys in {disk.path}",
            observed=[n for n in names if re.search(r"ssh_host_|dropbear_.*key", n)],
        )


@requirement("hygiene.no-authorized-keys")
def test_no_authorized_keys(guest: Guest, check: Checks) -> None:
    homes = _homes(guest)
    check.contains("home directories", expected="/root", observed=homes)
    check.empty(
        "files of ssh", observed=[e.path for home in homes for e in _below(guest, f"{home}/.ssh") if e.size]
    )
    patterns = [word for word in guest.sshd.get("authorizedkeysfile").split() if word.startswith("/")]
    named = [guest.glob(re.sub(r"%[uUh]", "*", word)) for word in patterns]
    check.empty("files that AuthorizedKeysFile names", observed=[path for paths in named for path in paths])


@requirement("hygiene.machine-id")
def test_machine_id(guest: Guest, check: Checks) -> None:
    content = guest.read("/etc/machine-id")
    check.one_of(
        "/etc/machine-id",
        expected=("", "uninitialized"),
        observed="missing" if content is None else content.strip(),
    )


@requirement("hygiene.dbus-machine-id")
def test_dbus_machine_id(guest: Guest, check: Checks) -> None:
    entry = guest.inventory.get("/var/lib/dbus/machine-id", follow=False)
    seen = "absent" if entry is None else f"a link to {entry.link}" if entry.type == "l" else "a file"
    check.one_of("/var/lib/dbus/machine-id", expected=("absent", "a link to /etc/machine-id"), observed=seen)


@requirement("hygiene.random-seed")
def test_random_seed(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    places = (
        "/var/lib/systemd/random-seed",
        "/var/lib/random-seed",
        "/var/lib/misc/random-seed",
        "/etc/random-seed",
        "/boot/efi/loader/random-seed",
        "/boot/loader/random-seed",
        "/var/lib/urandom/random-seed",
    )
    check.empty("seeds", observed=_anything(guest, *places))


@requirement("hygiene.credential-secret")
def test_credential_secret(guest: Guest, check: Checks) -> None:
    check.empty("secrets", observed=_anything(guest, "/var/lib/systemd/credential.secret"))
    token = guest.content("/etc/kernel/entry-token").strip()
    check.true(
        "/etc/kernel/entry-token is no machine id",
        observed=re.fullmatch(r"[0-9a-f]{32}", token) is None,
        otherwise=token,
    )


@requirement("hygiene.shell-history")
def test_shell_history(guest: Guest, check: Checks) -> None:
    homes = _homes(guest)
    check.contains("home directories", expected="/root", observed=homes)
    paths = _anything(guest, *(f"{home}/{name}" for home in homes for name in _HISTORIES))
    check.empty(
        "histories", observed=[path for path in paths if (entry := guest.inventory.get(path)) and entry.size]
    )


@requirement("hygiene.tool-history")
def test_tool_state(guest: Guest, check: Checks) -> None:
    homes = [home for home in _homes(guest) if home.startswith(("/root", "/home", "/etc/skel"))]
    check.contains("home directories", expected="/root", observed=homes)
    paths = _anything(guest, *(f"{home}/{name}" for home in homes for name in _TOOL_STATE))
    check.empty("state", observed=[path for path in paths if path not in guest.owners])


@requirement("hygiene.home-leftovers")
def test_homes(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    check.empty("in /home", observed=_anything(guest, "/home/*", "/home/.[!.]*"))
    spool = [*_below(guest, "/var/spool/mail", "/var/mail", "/var/spool/cron", "/var/lib/systemd/linger")]
    check.empty("mail, crontabs and lingering users", observed=_unpackaged(guest, spool))
    names = {account.name for account in guest.accounts}
    for path in ("/etc/subuid", "/etc/subgid"):
        rows = [line.split(":")[0] for line in text.significant(guest.content(path))]
        check.empty(
            f"accounts in {path} that don't exist", observed=[name for name in rows if name not in names]
        )


@requirement("hygiene.cloud-init-state")
def test_cloud_init_state(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    places = tuple(f"/var/lib/cloud/{name}" for name in ("instances", "data", "sem", "seed"))
    check.empty(
        "state",
        observed=[entry.path for entry in _below(guest, *places)]
        + _anything(guest, "/var/lib/cloud/instance"),
    )
    check.empty("logs", observed=_anything(guest, "/var/log/cloud-init*.log"))
    installer = _anything(
        guest,
        "/etc/cloud/cloud.cfg.d/90-installer*",
        "/etc/cloud/cloud.cfg.d/99-installer*",
        "/etc/cloud/cloud.cfg.d/90_dpkg.cfg",
        "/etc/cloud/cloud.cfg.d/*subiquity*",
    )
    check.empty("configuration of an installer", observed=installer)


@requirement("hygiene.dhcp-leases")
def test_leases(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    places = ("/var/lib/dhclient", "/var/lib/dhcp", "/var/lib/dhcpcd", "/var/lib/systemd/network")
    found = [entry.path for entry in _below(guest, *places)] + _anything(
        guest, "/var/lib/NetworkManager/*.lease"
    )
    check.empty("leases", observed=found)


@requirement("hygiene.nm-state")
def test_network_manager_state(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    names = (
        "secret_key",
        "seen-bssids",
        "timestamps",
        "internal-*",
        "NetworkManager-intern.conf",
        "NetworkManager.state",
    )
    check.empty("state", observed=_anything(guest, *(f"/var/lib/NetworkManager/{name}" for name in names)))


@requirement("hygiene.waagent-state")
def test_agent_state(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    check.empty("in /var/lib/waagent", observed=_unpackaged(guest, _below(guest, "/var/lib/waagent")))
    check.empty("logs", observed=_anything(guest, "/var/log/waagent*", "/var/log/azure/*"))


@requirement("hygiene.logs-empty")
def test_logs(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    kept = [entry for entry in _below(guest, "/var/log") if entry.size and entry.type == "f"]
    check.empty(
        "logs with content",
        observed=[f"{entry.path} ({entry.size} bytes)" for entry in kept if entry.path not in guest.owners],
    )


@requirement("hygiene.journal-empty")
def test_journal(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    check.empty("in /var/log/journal", observed=_anything(guest, "/var/log/journal/*", "/run/log/journal/*"))


@requirement("hygiene.login-records")
def test_login_records(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    places = ("/var/log/wtmp", "/var/log/btmp", "/var/log/lastlog", "/var/run/utmp", "/var/log/tallylog")
    entries = [entry for place in places if (entry := guest.inventory.get(place)) is not None]
    entries += _below(guest, "/var/lib/wtmpdb", "/var/lib/lastlog", "/var/log/faillock", "/var/run/faillock")
    check.empty("records", observed=[f"{entry.path} ({entry.size} bytes)" for entry in entries if entry.size])


@requirement("hygiene.installer-files")
def test_installer(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    names = (
        "/root/*-ks.cfg",
        "/root/install.log*",
        "/root/ks-*",
        "/var/log/anaconda*",
        "/etc/sysconfig/anaconda",
        "/tmp/ks-script*",
    )
    check.empty("files", observed=_anything(guest, *names))


@requirement("hygiene.subscription-identity")
def test_subscription(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    places = ("/etc/pki/consumer", "/etc/pki/entitlement", "/var/lib/rhsm")
    check.empty(
        "identity",
        observed=_unpackaged(guest, _below(guest, *places)) + _anything(guest, "/etc/sysconfig/rhn/systemid"),
    )
    keys = [
        path
        for path in ("/etc/rhsm/rhsm.conf", *guest.glob("/etc/rhsm/*.conf"))
        if "activationkey" in guest.content(path)
    ]
    check.empty("activation keys", observed=keys)


@requirement("hygiene.tmp-empty")
def test_temporary(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    for directory in ("/tmp", "/var/tmp", "/run"):
        check.empty(f"in {directory}", observed=[entry.path for entry in guest.inventory.below(directory)])
    nodes = {
        "console",
        "null",
        "zero",
        "ptmx",
        "pts",
        "random",
        "urandom",
        "tty",
        "full",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "shm",
    }
    check.empty(
        "in /dev",
        observed=[e.path for e in guest.inventory.below("/dev") if posixpath.basename(e.path) not in nodes],
    )


@requirement("hygiene.crash-data")
def test_crashes(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    places = ("/var/crash", "/var/spool/abrt", "/var/lib/systemd/coredump")
    check.empty("crash data", observed=_unpackaged(guest, _below(guest, *places)))
    names = [f"{place}/core{end}" for place in ("", "/root", "/var/tmp") for end in ("", ".[0-9]*")]
    check.empty("core files", observed=_anything(guest, *names))


@requirement("hygiene.hostname")
def test_host_name(guest: Guest, check: Checks) -> None:
    names = list(text.significant(guest.content("/etc/hostname")))
    allowed: tuple[list[str], ...] = ([], ["localhost"], ["localhost.localdomain"])
    check.one_of("/etc/hostname", expected=allowed, observed=names)
    check.empty("machine-info", observed=_anything(guest, "/etc/machine-info"))
    settings = text.assignments(guest.content("/etc/sysconfig/network"))
    baked = [
        key
        for key in ("HOSTNAME", "DHCP_HOSTNAME")
        if not settings.get(key, "localhost").startswith("localhost")
    ]
    check.empty("names in /etc/sysconfig/network", observed=baked)


@requirement("hygiene.lvm-devices")
def test_lvm(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    check.empty("devices files", observed=_anything(guest, "/etc/lvm/devices/*.devices"))
    check.empty(
        "archives",
        observed=[e.path for e in _below(guest, "/etc/lvm/archive", "/etc/lvm/backup", "/etc/lvm/cache")],
    )


@requirement("hygiene.identity-services")
def test_enrolment(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    files = (
        "/etc/krb5.keytab",
        "/etc/ipa/default.conf",
        "/etc/salt/minion_id",
        "/etc/salt/pki/*",
        "/etc/chef/client.pem",
        "/etc/puppetlabs/puppet/ssl/*",
        "/var/lib/samba/private/*.tdb",
    )
    check.empty(
        "enrolments",
        observed=_unpackaged(
            guest, [e for path in _anything(guest, *files) if (e := guest.inventory.get(path))]
        ),
    )
    places = ("/var/lib/ipa-client", "/var/lib/sss/db", "/var/lib/sss/mc", "/var/lib/sss/pubconf")
    check.empty("state", observed=_unpackaged(guest, _below(guest, *places)))


@requirement("hygiene.insights-identity")
def test_insights(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    names = ("machine-id", ".registered", ".unregistered", ".last-upload.results", ".lastupload")
    check.empty("identity", observed=_anything(guest, *(f"/etc/insights-client/{name}" for name in names)))


@requirement("hygiene.tls-private-keys")
def test_tls_keys(guest: Guest, check: Checks) -> None:
    places = ("/etc/pki", "/etc/ssl", "/etc/httpd", "/etc/nginx")
    found, looked = [], 0
    for entry in _below(guest, *places):
        if entry.type == "f" and 0 < entry.size < 100_000:
            looked += 1
            found += (
                [entry.path] if b"PRIVATE KEY-----" in (guest.access.read_bytes(entry.path) or b"") else []
            )
    # A packaged key is no machine's: the one with which an update client says that it may have updates.
    left = [path for path in found if path not in guest.unmodified]
    check.empty("private keys that no package vouches for", observed=left)
    check.at_least("files looked at", expected=1, observed=looked)


@requirement("hygiene.container-credentials")
def test_registry_credentials(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    names = [
        f"{home}/{name}"
        for home in _homes(guest)
        for name in (".docker/config.json", ".config/containers/auth.json", ".dockercfg")
    ]
    check.empty(
        "credentials",
        observed=_anything(
            guest,
            *names,
            "/run/containers/*/auth.json",
            "/etc/ostree/auth.json",
            "/var/lib/kubelet/config.json",
        ),
    )


@requirement("hygiene.account-backups")
def test_backups(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    names = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
    check.empty("backups", observed=_anything(guest, *(f"/etc/{name}-" for name in names)))


@requirement("hygiene.autorelabel")
def test_relabel(guest: Guest, check: Checks) -> None:
    _looked(guest, check)
    check.empty("markers", observed=_anything(guest, "/.autorelabel"))
