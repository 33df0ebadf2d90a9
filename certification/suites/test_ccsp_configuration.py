"""The third part of the ccsp area: what configuration may and may not say, and where files come from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from certification.checks import not_applicable, requirement
from certification.parse import text
from certification.views import rpmdb
from certification.views.updates import left_to_subscription

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

#: Arguments that turn a mitigation off (Linux: Documentation/admin-guide/kernel-parameters.txt).
_OFF = (
    "mitigations=off", "nopti", "pti=off", "nospectre_v1", "nospectre_v2", "spectre_v2=off",
    "spec_store_bypass_disable=off", "nospec_store_bypass_disable", "l1tf=off", "mds=off",
    "tsx_async_abort=off", "mmio_stale_data=off", "retbleed=off",
)  # fmt: skip
_SYSTEM = ("/usr", "/etc", "/boot", "/opt", "/srv")


@requirement("ccsp.cpu-vulnerabilities", views=("disk",))
def test_mitigations(guest: Guest, check: Checks) -> None:
    _no_switch(guest, check)


@requirement("ccsp.cpu-vulnerabilities", views=("booted",))
def test_mitigations_at_run_time(guest: Guest, check: Checks) -> None:
    _no_switch(guest, check)
    lines = guest.command("grep -H . /sys/devices/system/cpu/vulnerabilities/*").splitlines()
    check.at_least("faults that the kernel knows of", expected=5, observed=len(lines))
    # What the host's processor and microcode leave open isn't the image's doing: recorded, not judged.
    for line in lines:
        path, _, state = line.partition(":")
        check.record(path.rsplit("/", 1)[-1], expected="recorded", observed=state, ok=True)


def _no_switch(guest: Guest, check: Checks) -> None:
    check.true("boot entries", observed=bool(guest.command_lines), expected="at least one", otherwise="none")
    for origin, arguments in guest.command_lines:
        off = [word for word in _OFF if word in arguments]
        check.empty(f"mitigations turned off in {origin}", observed=off)


@requirement("ccsp.no-tech-preview-modules")
def test_no_preview(guest: Guest, check: Checks) -> None:
    log = guest.command("journalctl -k -b --no-pager -o cat", once=True).splitlines()
    check.at_least("kernel log lines", expected=10, observed=len(log))
    check.empty(
        "previews", observed=[line for line in log if re.search(r"tech(nology)? preview", line, re.I)]
    )
    # Bit 29 of the taint mask is Red Hat's TAINT_TECH_PREVIEW (kernel.spec, include/linux/panic.h).
    taint = int(guest.command("cat /proc/sys/kernel/tainted"))
    check.true("taint bit 29 is clear", observed=not taint >> 29 & 1, otherwise=str(taint))


@requirement("ccsp.rpm-nonvendor-no-conflict")
def test_nothing_is_replaced(guest: Guest, facts: Facts, check: Checks) -> None:
    foreign = {p.name: p for p in guest.packages if p.vendor not in facts.vendors}
    if not foreign:
        not_applicable(f"all {len(guest.packages)} packages are from {', '.join(facts.vendors)}")
    vendor = {p.name for p in guest.packages if p.vendor in facts.vendors}
    files: dict[str, set[str]] = {}
    for item in rpmdb.files(guest.access):
        if item.mode & 0o170000 != 0o040000:
            files.setdefault(item.path, set()).add(item.package)
    shared = [
        f"{path} ({', '.join(sorted(names))})"
        for path, names in files.items()
        if names & set(foreign) and names & vendor
    ]
    check.empty("files that both own", observed=shared)
    for name in foreign:
        rows = rpmdb.query(
            guest.access, "[O %{OBSOLETES}\\n][P %{PROVIDENAME}\\n]", names=(name,)
        ).splitlines()
        taken = sorted({row[2:] for row in rows if row[2:] in vendor and row[2:] != name})
        check.empty(f"packages of the vendor that {name} obsoletes or provides", observed=taken)


@requirement("ccsp.rpm-unowned-files")
def test_origin_of_files(guest: Guest, facts: Facts, check: Checks) -> None:
    stray, looked = [], 0
    for place in _SYSTEM:
        for entry in guest.inventory.below(place):
            if entry.type == "d" or entry.path in guest.owners:
                looked += 1
            elif facts.allowed_unowned(entry.path, link=entry.type == "l") is None:
                stray.append(entry.path)
    check.empty("files without an origin", observed=sorted(stray))
    check.at_least("packaged files seen", expected=20, observed=looked)


@requirement("ccsp.modules-streams")
def test_streams(guest: Guest, facts: Facts, check: Checks) -> None:
    paths = guest.glob("/etc/dnf/modules.d/*.module")
    if not paths:
        not_applicable("no module stream was ever chosen (/etc/dnf/modules.d is empty)")
    for path in paths:
        for name, values in text.ini(guest.content(path)).items():
            if values.get("state") == "enabled":
                stream = f"{name}:{values.get('stream', '')}"
                check.one_of(
                    f"stream in {path}", expected=facts.listed("packages", "module_streams"), observed=stream
                )
            else:
                check.one_of(f"state in {path}", expected=("disabled", ""), observed=values.get("state", ""))


@requirement("ccsp.syslog-config-default")
def test_no_forwarding(guest: Guest, check: Checks) -> None:
    check.true("package rsyslog", observed="rsyslog" in guest.package_names)
    paths = ["/etc/rsyslog.conf", *guest.glob("/etc/rsyslog.d/*.conf")]
    remote = re.compile(r"\s@{1,2}[\w\[*(]|\bomfwd\b|\bomrelp\b|\$ActionSendStreamDriver", re.I)
    for path in paths:
        content = guest.read(path)
        if check.true(path, observed=content is not None, expected="there", otherwise="missing"):
            check.empty(
                f"actions in {path} that send logs away",
                observed=[line for line in text.significant(content or "") if remote.search(line)],
            )
    for path in ("/etc/rsyslog.conf", "/etc/systemd/journald.conf"):
        if path in guest.owners:
            check.true(f"{path} is as packaged", observed=path in guest.unmodified)
    forwarding = [
        path
        for path, content in guest.configuration(
            ("/etc/systemd/journald.conf.d", "/usr/lib/systemd/journald.conf.d")
        )
        if re.search(r"^\s*ForwardTo\w*=\s*(yes|true|1|on)", content, re.M | re.I)
        and path not in guest.owners
    ]
    check.empty("drop-ins that forward the journal", observed=forwarding)
    check.empty(
        "journal uploads", observed=[n for n in ("systemd-journal-upload.service",) if guest.unit(n).starts]
    )


@requirement("ccsp.dnf-config-baseline")
def test_package_manager(guest: Guest, facts: Facts, check: Checks) -> None:
    paths = [path for path in ("/etc/dnf/dnf.conf", "/etc/yum.conf") if guest.read(path) is not None]
    if not check.true(
        "configuration", observed=bool(paths), expected="dnf.conf or yum.conf", otherwise="none"
    ):
        return
    main = text.ini(guest.content(paths[0])).get("main", {})
    for row in facts.rows("settings", "dnf_main"):
        wanted = {"1": ("1", "true"), "True": ("1", "true"), "False": ("0", "false")}
        expected = wanted.get(row["value"], (row["value"],))
        check.one_of(
            f"{row['key']} in {paths[0]}", expected=expected, observed=main.get(row["key"], "not set").lower()
        )
    strange = [
        key
        for key in main
        if key in ("proxy", "exclude", "excludepkgs", "releasever", "cachedir", "installroot")
    ]
    check.empty(f"settings in {paths[0]} that hide updates", observed=strange)
    locks = guest.glob("/etc/dnf/plugins/versionlock.list") + guest.glob(
        "/etc/yum/pluginconf.d/versionlock.list"
    )
    check.empty(
        "locked versions", observed=[x for path in locks for x in text.significant(guest.content(path))]
    )


@requirement("ccsp.no-release-lock")
def test_release_lock(guest: Guest, facts: Facts, check: Checks) -> None:
    if not left_to_subscription(guest, facts, check):
        check.at_least("repositories that follow the release", expected=1, observed=len(guest.repositories))
    names = ("/etc/dnf/vars/releasever", "/etc/yum/vars/releasever", "/var/lib/rhsm/cache/releasever.json")
    check.empty("locks", observed=[path for path in names if guest.content(path).strip()])
    check.empty(
        "repositories with a lock", observed=[r.name for r in guest.repositories if "releasever" in r.options]
    )


@requirement("ccsp.kernel-sysconfig")
def test_default_kernel(guest: Guest, facts: Facts, check: Checks) -> None:
    values = text.assignments(guest.content("/etc/sysconfig/kernel"))
    check.equal("UPDATEDEFAULT", expected="yes", observed=values.get("UPDATEDEFAULT", "not set"))
    wanted = [str(row["name"]) for row in facts.rows("settings", "kernel_packages")]
    check.one_of("DEFAULTKERNEL", expected=wanted, observed=values.get("DEFAULTKERNEL", "not set"))


@requirement("ccsp.hosts-file")
def test_hosts(guest: Guest, check: Checks) -> None:
    rows = [line.split() for line in text.significant(guest.content("/etc/hosts"))]
    for address in ("127.0.0.1", "::1"):
        names = [name for row in rows if row[0] == address for name in row[1:]]
        check.contains(f"names of {address}", expected="localhost", observed=names)
    local = re.compile(
        r"(localhost|ip6-localhost|ip6-loopback|ip6-all(nodes|routers))(\.localdomain|\d(\.localdomain\d)?)?"
    )
    strange = [
        " ".join(row)
        for row in rows
        if not row[0].startswith(("127.", "::1", "ff02::", "fe00::"))
        or not all(map(local.fullmatch, row[1:]))
    ]
    check.empty("other names", observed=strange)


@requirement("ccsp.shells-file")
def test_shells(guest: Guest, check: Checks) -> None:
    shells = text.significant(guest.content("/etc/shells"))
    check.contains("/etc/shells", expected="/bin/bash", observed=shells)
    absent = [path for path in shells if not ((e := guest.inventory.get(path)) and e.mode & 0o111)]
    check.empty("shells that can't be run", observed=absent)
    root = next((account.shell for account in guest.accounts if account.name == "root"), "no account")
    check.contains("root's shell", expected=root, observed=shells)


@requirement("ccsp.insights-client")
def test_insights(guest: Guest, check: Checks) -> None:
    check.true("package insights-client", observed="insights-client" in guest.package_names)
    check.differs("unit", unwanted="missing", observed=guest.unit("insights-client.timer").state)


@requirement("ccsp.eula-package")
def test_licence_agreement(guest: Guest, check: Checks) -> None:
    check.true("package redhat-release-eula", observed=guest.provides("redhat-release-eula"))
    check.true("its text", observed=bool(guest.glob("/usr/share/redhat-release*/EULA*")))


@requirement("ccsp.system-reinstall-bootc")
def test_way_to_image_mode(guest: Guest, check: Checks) -> None:
    check.true("package system-reinstall-bootc", observed="system-reinstall-bootc" in guest.package_names)
