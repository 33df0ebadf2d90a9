"""Accounts, files and privileges: what an attacker would look for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.parse import text
from certification.views import rpmdb

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

_LOCKED = re.compile(r"[!*].*")
_NAMED_USERS = {
    "cloud-user",
    "fedora",
    "centos",
    "ec2-user",
    "azureuser",
    "packer",
    "vagrant",
    "builder",
    "rhel",
    "debian",
    "ubuntu",
}
_NOLOGIN = re.compile(r".*/(nologin|false|sync|shutdown|halt)")


@requirement("security.root-locked")
def test_root_locked(guest: Guest, check: Checks) -> None:
    field = guest.shadow.get("root")
    check.true(
        "root's password field",
        observed=field is not None and _LOCKED.fullmatch(field) is not None,
        expected="locked (starts with ! or *)",
        otherwise="no line" if field is None else field or "empty",
    )


@requirement("security.no-empty-passwords")
def test_no_empty_password(guest: Guest, check: Checks) -> None:
    check.at_least("lines in shadow", expected=5, observed=len(guest.shadow))
    check.empty(
        "accounts with an empty field in shadow",
        observed=[name for name, field in guest.shadow.items() if not field],
    )
    check.empty(
        "accounts with an empty field in passwd", observed=[a.name for a in guest.accounts if not a.password]
    )
    missing = [a.name for a in guest.accounts if a.password == "x" and a.name not in guest.shadow]
    check.empty("accounts without a line in shadow", observed=missing)


@requirement("security.no-password-hashes")
def test_no_hash(guest: Guest, check: Checks) -> None:
    check.at_least("lines in shadow", expected=5, observed=len(guest.shadow))
    # Anaconda writes "!locked", systemd "!unprovisioned": words that no password hashes to.
    plain = re.compile(r"[!*]*|!+(locked|unprovisioned)")
    fields = {
        **guest.shadow,
        **{f"{a.name} (passwd)": a.password for a in guest.accounts if a.password != "x"},
    }
    fields |= {
        f"{name} (gshadow)": field for name, field in text.shadow(guest.content("/etc/gshadow")).items()
    }
    check.empty(
        "accounts with a password",
        observed=[name for name, field in fields.items() if not plain.fullmatch(field)],
    )


@requirement("security.default-users")
def test_users(guest: Guest, check: Checks) -> None:
    check.at_least("accounts", expected=5, observed=len(guest.accounts))
    people = [a.name for a in guest.accounts if 1000 <= a.uid < 65534 or a.name in _NAMED_USERS]
    check.empty("accounts of people", observed=people)


@requirement("security.uid0-only-root")
def test_one_root(guest: Guest, check: Checks) -> None:
    check.equal(
        "accounts with uid 0", expected=["root"], observed=[a.name for a in guest.accounts if a.uid == 0]
    )
    allowed = {"root", "sync", "shutdown", "halt", "operator"}
    check.empty(
        "others in group 0", observed=[a.name for a in guest.accounts if a.gid == 0 and a.name not in allowed]
    )


@requirement("security.system-accounts-nologin")
def test_no_shell(guest: Guest, check: Checks) -> None:
    system = [account for account in guest.accounts if 1 <= account.uid <= 999 or account.uid == 65534]
    check.at_least("system accounts", expected=3, observed=len(system))
    check.empty(
        "system accounts with a shell",
        observed=[f"{a.name} ({a.shell})" for a in system if not _NOLOGIN.fullmatch(a.shell)],
    )


@requirement("security.account-file-perms")
def test_account_files(guest: Guest, check: Checks) -> None:
    for name, most in (("passwd", 0o644), ("group", 0o644), ("shadow", 0o600), ("gshadow", 0o600)):
        for path in (f"/etc/{name}", f"/etc/{name}-"):
            entry = guest.inventory.get(path)
            if entry is None:
                if not path.endswith("-"):
                    check.true(path, observed=False, expected="there", otherwise="missing")
                continue
            check.true(
                f"mode of {path}",
                observed=entry.mode & ~most == 0,
                expected=f"at most {most:04o}",
                otherwise=f"{entry.mode:04o}",
            )
            check.equal(f"owner of {path}", expected=(0, 0), observed=(entry.uid, entry.gid))


@requirement("security.ssh-root-login")
def test_root_login(guest: Guest, check: Checks) -> None:
    origin = guest.sshd.origin("permitrootlogin")
    allowed = ("no", "prohibit-password", "without-password", "forced-commands-only")
    check.one_of(f"PermitRootLogin ({origin})", expected=allowed, observed=guest.sshd.get("permitrootlogin"))
    loose = [
        f"{value} ({path})"
        for keyword, value, path in guest.sshd.matched
        if keyword == "permitrootlogin" and value.lower() == "yes"
    ]
    check.empty("Match blocks that let root in", observed=loose)


@requirement("security.ssh-password-auth")
def test_keys_only(guest: Guest, check: Checks) -> None:
    keywords = ("passwordauthentication", "kbdinteractiveauthentication", "permitemptypasswords")
    for keyword in keywords:
        check.equal(
            f"{keyword} ({guest.sshd.origin(keyword)})", expected="no", observed=guest.sshd.get(keyword)
        )
    loose = [
        f"{keyword} ({path})"
        for keyword, value, path in guest.sshd.matched
        if keyword in keywords and value.lower() != "no"  # sshd doesn't mind the case
    ]
    check.empty("Match blocks that turn passwords on", observed=loose)
    check.one_of(
        "cloud-init's ssh_pwauth",
        expected=(None, False, "unchanged", "no", 0),
        observed=guest.cloud_config.get("ssh_pwauth"),
    )


@requirement("security.sshd-config-valid")
def test_sshd_accepts(guest: Guest, check: Checks) -> None:
    result = guest.host.run("sshd -t")
    check.record(
        "sshd -t",
        expected="status 0",
        observed=f"status {result.rc} {result.stderr.strip()}",
        ok=result.rc == 0,
    )
    modes = guest.host.run(
        "stat -c '%a %n' /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*"
    ).stdout.splitlines()
    check.empty(
        "files that others may write", observed=[line for line in modes if int(line.split()[0], 8) & 0o022]
    )


@requirement("security.ssh-hostkey-mode")
def test_host_keys(guest: Guest, check: Checks) -> None:
    lines = guest.host.run("stat -c '%a %U %G %n' /etc/ssh/ssh_host_*_key").stdout.splitlines()
    check.at_least("host keys after the first boot", expected=1, observed=len(lines))
    for line in lines:
        mode, owner, group, path = line.split()
        ok = owner == "root" and (mode == "600" or (mode == "640" and group == "ssh_keys"))
        check.true(
            path,
            observed=ok,
            expected="0600 root, or 0640 root:ssh_keys",
            otherwise=f"{mode} {owner}:{group}",
        )


@requirement("security.auditd", views=("disk",))
def test_audit(guest: Guest, check: Checks) -> None:
    check.true("package audit", observed="audit" in guest.package_names)
    unit = guest.unit("auditd.service")
    check.true("auditd starts with the system", observed=unit.starts, otherwise=unit.state)
    off = [origin for origin, arguments in guest.command_lines if "audit=0" in arguments]
    check.empty("boot entries with audit=0", observed=off)
    changed = [
        str(item)
        for item in rpmdb.verify(guest.access)
        if item.path == "/etc/audit/auditd.conf" and "5" in item.flags
    ]
    check.empty("auditd.conf differs from its package", observed=changed)


@requirement("security.auditd", views=("booted",))
def test_audit_runs(guest: Guest, check: Checks) -> None:
    output = guest.host.run("systemctl is-active auditd; auditctl -s").stdout
    check.equal("auditd", expected="active", observed=(output.split() or ["nothing"])[0])
    check.matches("auditctl -s", pattern=r".*\benabled [12]\b.*", observed=output)


@requirement("security.sudoers")
def test_sudo(guest: Guest, check: Checks) -> None:
    paths = ["/etc/sudoers", *guest.glob("/etc/sudoers.d/*")]
    check.true(
        "/etc/sudoers", observed=guest.read("/etc/sudoers") is not None, expected="there", otherwise="missing"
    )
    included = False
    for path in paths:
        content = guest.content(path)
        included |= bool(re.search(r"^[#@]includedir\s+/etc/sudoers\.d", content, re.M))
        lines = text.significant(content)
        check.empty(
            f"unsafe lines in {path}",
            observed=[
                x for x in lines if re.search(r"(?<!!)\b(target|root|runas)pw\b|NOPASSWD|!authenticate", x)
            ],
        )
        entry = guest.inventory.get(path)
        if entry is not None:
            check.true(
                f"mode of {path}",
                observed=entry.mode & ~0o440 == 0,
                expected="0440",
                otherwise=f"{entry.mode:04o}",
            )
    check.true("/etc/sudoers.d is included", observed=included)


@requirement("security.legacy-services")
def test_legacy(guest: Guest, facts: Facts, check: Checks) -> None:
    check.excludes("packages", unwanted=facts.package_names("legacy"), observed=guest.package_names)


@requirement("security.no-rhosts")
def test_trust_files(guest: Guest, check: Checks) -> None:
    names = {".rhosts", ".shosts", "hosts.equiv", "shosts.equiv", ".netrc"}
    check.empty(
        "trust files", observed=[e.path for e in guest.inventory if e.path.rsplit("/", 1)[-1] in names]
    )
    check.at_least("files looked at", expected=1000, observed=len(guest.inventory))


@requirement("security.ca-anchors")
def test_anchors(guest: Guest, check: Checks) -> None:
    places = (
        "/etc/pki/ca-trust/source/anchors",
        "/usr/share/pki/ca-trust-source/anchors",
        "/etc/pki/ca-trust/source/blocklist",
        "/usr/local/share/ca-certificates",
    )
    added = [
        e.path
        for place in places
        for e in guest.inventory.below(place)
        if e.type != "d" and e.path not in guest.owners
    ]
    check.empty("authorities that no package owns", observed=added)
    bundles = (
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/certs/ca-certificates.crt",
    )
    count = max((guest.content(path).count("BEGIN CERTIFICATE") for path in bundles), default=0)
    check.at_least("authorities in the bundle", expected=50, observed=count)


@requirement("security.boot-args-secrets")
def test_no_secret_in_arguments(guest: Guest, check: Checks) -> None:
    secret = re.compile(
        r"\b(pass(word|wd)?|secret|token|api_?key|sas|accountkey)\s*=\s*[\"']?[^\s\"'$%]{6,}", re.I
    )
    check.true("boot entries", observed=bool(guest.command_lines), expected="at least one", otherwise="none")
    for origin, arguments in guest.command_lines:
        check.empty(f"secrets in {origin}", observed=[word for word in arguments if secret.search(word)])
    units = [
        path for kind in ("service", "timer", "mount") for path in guest.glob(f"/etc/systemd/system/*.{kind}")
    ]
    units += guest.glob("/etc/systemd/system/*.d/*.conf") + guest.glob("/etc/sysconfig/*")
    check.empty(
        "units with a secret", observed=[path for path in units if secret.search(guest.content(path))]
    )


@requirement("security.ld-preload")
def test_loader(guest: Guest, check: Checks) -> None:
    check.empty("/etc/ld.so.preload", observed=text.significant(guest.content("/etc/ld.so.preload")))
    strange = [path for path in guest.glob("/etc/ld.so.conf.d/*") if path not in guest.owners]
    check.empty("loader paths that no package owns", observed=strange)
    variables = [
        path
        for path in ("/etc/environment", *guest.glob("/etc/profile.d/*"))
        if re.search(r"^\s*(export\s+)?LD_(PRELOAD|LIBRARY_PATH)=", guest.content(path), re.M)
    ]
    check.empty("files that set LD_PRELOAD", observed=variables)
