"""The second half of the ccsp area: services, firewall, login and logging."""

from __future__ import annotations

import re
import secrets
import shlex
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from certification.checks import requirement
from certification.parse import locales, text
from certification.parse.boot import has_argument
from certification.testkit import support_report

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

#: What an image may let in: the way in, and the answers to its own DHCPv6 requests.
OPEN_SERVICES = {"ssh", "dhcpv6-client"}

#: firewalld(8) on the bus, as firewall-cmd asks it (firewalld.dbus(5)): that is a Python program, which an
#: emulated guest takes six seconds to start.
_FIREWALL = "org.fedoraproject.FirewallD1 /org/fedoraproject/FirewallD1 org.fedoraproject.FirewallD1"


@requirement("ccsp.syslog-default")
def test_logging(guest: Guest, check: Checks) -> None:
    nonce = guest.access.made("nonce", lambda: f"certification-{secrets.token_hex(8)}".encode()).decode()
    script = (
        f"logger -t certification {nonce}; for i in 1 2 3 4 5 6 7 8 9 10; do "
        f"grep -q {nonce} /var/log/messages && break; sleep 1; done; "
        f"echo messages: $(grep -c {nonce} /var/log/messages); "
        f"echo journal: $(journalctl -b -t certification -o cat --no-pager | grep -c {nonce}); "
        "systemctl is-active rsyslog systemd-journald"
    )
    output = guest.host.run(f"sh -c {shlex.quote(script)}").stdout
    check.contains("lines in /var/log/messages", expected="messages: 1", observed=output)
    check.contains("lines in the journal", expected="journal: 1", observed=output)
    check.equal("rsyslog and journald", expected=["active", "active"], observed=output.split()[-2:])


@requirement("ccsp.firewall-running", views=("disk",))
def test_firewall_enabled(guest: Guest, check: Checks) -> None:
    unit = guest.unit("firewalld.service")
    check.true("firewalld starts with the system", observed=unit.starts, otherwise=unit.state)


@requirement("ccsp.firewall-running", views=("booted",))
def test_firewall_runs(guest: Guest, check: Checks) -> None:
    answer = guest.host.run(f"busctl get-property {_FIREWALL} state")
    said = answer.stdout.strip() or answer.stderr.strip()[-200:]
    check.equal("state of firewalld", expected='s "RUNNING"', observed=said)
    rules = guest.host.run("nft list ruleset 2>/dev/null || iptables -S").stdout
    check.true("rules in the kernel", observed=len(rules.split()) > 10, otherwise=rules[:200])


@requirement("ccsp.firewall-zone-ports", views=("disk",))
def test_zone(guest: Guest, check: Checks) -> None:
    configuration = text.key_values(guest.content("/etc/firewalld/firewalld.conf"))
    zone = configuration.get("DefaultZone", "public")
    paths = [f"/etc/firewalld/zones/{zone}.xml", f"/usr/lib/firewalld/zones/{zone}.xml"]
    found = next(((path, content) for path in paths if (content := guest.read(path)) is not None), None)
    if not check.true(f"definition of the default zone {zone}", observed=found is not None) or found is None:
        return
    root = ElementTree.fromstring(found[1])
    services = {element.get("name", "") for element in root.iter("service")}
    check.contains(f"services in {found[0]}", expected="ssh", observed=services)
    check.empty(f"further services in {found[0]}", observed=sorted(services - OPEN_SERVICES))
    ports = [f"{element.get('port')}/{element.get('protocol')}" for element in root.iter("port")]
    check.empty(f"ports in {found[0]}", observed=ports)
    check.differs("target of the zone", unwanted="ACCEPT", observed=root.get("target", "default"))


@requirement("ccsp.firewall-zone-ports", views=("booted",))
def test_active_zone(guest: Guest, check: Checks) -> None:
    # "" is the default zone. The answers are of busctl(1): a signature, how many, and each in quotes.
    asked = " && ".join(
        f'busctl call {_FIREWALL}.zone {method} s ""' for method in ("getServices", "getPorts")
    )
    lines = [shlex.split(line) for line in guest.command(asked).splitlines()]
    if not check.equal("answers", expected=["as", "aas"], observed=[line[0] for line in lines if line]):
        return
    services, ports = (line[2:] for line in lines)
    check.contains("open services", expected="ssh", observed=services)
    check.empty("further open services", observed=sorted(set(services) - OPEN_SERVICES))
    check.empty("open ports", observed=ports)


@requirement("ccsp.listening-sockets")
def test_listeners(guest: Guest, check: Checks) -> None:
    rows = [line.split() for line in guest.command("ss -Hlntup").splitlines() if line.strip()]
    check.true(
        "sshd's socket", observed=any(row[4].endswith(":22") for row in rows), otherwise="no listener on 22"
    )
    strange = [" ".join(row[:1] + row[4:5] + row[6:]) for row in rows if not _allowed(row)]
    check.empty("other listeners", observed=strange)


def _allowed(row: list[str]) -> bool:
    address, _, port = row[4].rpartition(":")
    local = address.split("%")[0].strip("[]")
    if local.startswith("127.") or local == "::1":
        return True
    if row[0] == "tcp":
        return port == "22" and '"sshd"' in " ".join(row)
    # Sockets on which the machine's own DHCP client waits for answers.
    return port in ("68", "546")


@requirement("ccsp.sshd-enabled", views=("disk",))
def test_sshd_enabled(guest: Guest, check: Checks) -> None:
    unit = guest.unit("sshd.service")
    check.true("sshd starts with the system", observed=unit.starts, otherwise=unit.state)
    check.equal("ports", expected=("22",), observed=guest.sshd.ports)


@requirement("ccsp.sshd-enabled", views=("booted",))
def test_sshd_runs(guest: Guest, check: Checks) -> None:
    check.equal("ports", expected=("22",), observed=guest.sshd.ports)
    check.equal(
        "sshd.service", expected="active", observed=guest.host.run("systemctl is-active sshd").stdout.strip()
    )


@requirement("ccsp.password-hash-policy")
def test_hashes(guest: Guest, check: Checks) -> None:
    defaults = dict(
        line.split(None, 1)
        for line in text.significant(guest.content("/etc/login.defs"))
        if len(line.split()) > 1
    )
    method = defaults.get("ENCRYPT_METHOD", "").upper()
    check.one_of("ENCRYPT_METHOD in login.defs", expected=("SHA512", "YESCRYPT"), observed=method)
    stacks = [path for path in _PAM if guest.read(path) is not None]
    check.true(
        "PAM stacks for passwords", observed=bool(stacks), expected=", ".join(stacks), otherwise="none found"
    )
    lines = [
        (path, line)
        for path in stacks
        for line in text.significant(guest.content(path))
        if line.lstrip("-").split()[0] == "password" and "pam_unix.so" in line
    ]
    check.true("pam_unix lines for passwords", observed=bool(lines), otherwise="none")
    for path, line in lines:
        check.true(
            f"hash in {path}", observed=bool({"sha512", "yescrypt"} & set(line.split())), otherwise=line
        )
    weak = [
        name
        for name, field in guest.shadow.items()
        if re.match(r"!*(\$(1|2[abxy]?|5|md5)\$|[A-Za-z0-9./]{13}$)", field)
    ]
    check.empty("accounts with a weaker hash", observed=weak)


_PAM = ("/etc/pam.d/system-auth", "/etc/pam.d/password-auth")


@requirement("ccsp.selinux-enforcing", views=("disk",))
def test_selinux_configured(guest: Guest, check: Checks) -> None:
    check.equal("SELINUX", expected="enforcing", observed=guest.selinux.get("SELINUX"))
    check.equal("SELINUXTYPE", expected="targeted", observed=guest.selinux.get("SELINUXTYPE"))
    check.true("compiled policy", observed=bool(guest.glob("/etc/selinux/targeted/policy/policy.*")))
    for origin, arguments in [*guest.command_lines, *guest.future_command_lines]:
        off = [word for word in ("selinux=0", "enforcing=0") if has_argument(arguments, word)]
        check.empty(f"arguments against SELinux in {origin}", observed=off)


@requirement("ccsp.selinux-enforcing", views=("booted",))
def test_selinux_enforces(guest: Guest, check: Checks) -> None:
    output = guest.host.run("getenforce; sestatus").stdout
    check.equal("getenforce", expected="Enforcing", observed=(output.split() or ["nothing"])[0])
    check.matches("loaded policy", pattern=r".*Loaded policy name:\s+targeted\b.*", observed=output)


@requirement("ccsp.default-target", views=("disk",))
def test_default_target(guest: Guest, check: Checks) -> None:
    for path in ("/etc/systemd/system/default.target", "/usr/lib/systemd/system/default.target"):
        entry = guest.inventory.get(path, follow=False)
        if entry is not None:
            check.equal(
                path, expected="multi-user.target", observed=entry.link.rsplit("/", 1)[-1] or "no link"
            )
            return
    check.true("default.target", observed=False, expected="a link to multi-user.target", otherwise="missing")


@requirement("ccsp.default-target", views=("booted",))
def test_current_default_target(guest: Guest, check: Checks) -> None:
    check.equal(
        "systemctl get-default",
        expected="multi-user.target",
        observed=guest.command("systemctl get-default").strip(),
    )
    state = guest.host.run("systemctl is-active multi-user.target").stdout.strip()
    check.equal("multi-user.target", expected="active", observed=state)


@requirement("ccsp.mandatory-services", views=("disk",))
def test_services_enabled(guest: Guest, facts: Facts, check: Checks) -> None:
    for names in facts.services:
        found = [guest.unit(name) for name in names]
        states = ", ".join(f"{unit.name} {unit.state}" for unit in found)
        check.true(
            f"{' or '.join(names)} starts with the system",
            observed=any(unit.starts for unit in found),
            otherwise=states,
        )


@requirement("ccsp.mandatory-services", views=("booted",))
def test_services_active(guest: Guest, facts: Facts, check: Checks) -> None:
    names = [name for alternatives in facts.services for name in alternatives]
    output = guest.host.run(f"systemctl show -p Id -p ActiveState -p SubState {shlex.join(names)}").stdout
    blocks = [text.key_values(block) for block in output.split("\n\n")]
    states = {block.get("Id", ""): block.get("ActiveState", "") for block in blocks}
    for alternatives in facts.services:
        seen = {name: states.get(name, "unknown") for name in alternatives}
        check.true(
            " or ".join(alternatives),
            observed="active" in seen.values(),
            expected="active",
            otherwise=str(seen),
        )


@requirement("ccsp.sosreport-works")
def test_sos(guest: Guest, check: Checks) -> None:
    # It was begun by the fixture `begun_early`.
    output = guest.host.run(support_report.collect(guest.access)).stdout
    check.contains("sos report", expected="status: 0", observed=output)
    for plugin in support_report.PLUGINS:
        check.contains(f"output of plugin {plugin}", expected=f"sos_commands/{plugin}", observed=output)
    check.contains("the report is deleted again", expected="removed", observed=output)


@requirement("ccsp.locale-timezone")
def test_locale(guest: Guest, check: Checks) -> None:
    check.equal(
        "LANG",
        expected="en_US.UTF-8",
        observed=text.assignments(guest.content("/etc/locale.conf")).get("LANG"),
    )
    # Directories from 8 on (glibc-langpack-en), one archive in 7.
    archive = "/usr/lib/locale/locale-archive"
    found = {path.split("/")[-2] for path in guest.glob("/usr/lib/locale/*/LC_CTYPE")}
    if guest.inventory.get(archive) is not None:
        found |= locales.archived(guest.fetch(archive).read_bytes())
    check.contains("locales that are installed", expected="en_US.utf8", observed=sorted(found))
    entry = guest.inventory.get("/etc/localtime", follow=False)
    target = entry.link if entry is not None else "no /etc/localtime (UTC)"
    check.true("time zone", observed=target.endswith(("/UTC", "(UTC)")), expected="UTC", otherwise=target)
