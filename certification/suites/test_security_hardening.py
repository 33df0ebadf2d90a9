"""Security, second part: cryptography, login, kernel settings, and what runs unasked."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.parse import openpgp, text

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

_SYSCTL = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")


@requirement("security.account-db-consistent")
def test_accounts_agree(guest: Guest, check: Checks) -> None:
    check.at_least("accounts", expected=5, observed=len(guest.accounts))
    uids, gids = [a.uid for a in guest.accounts], list(guest.groups.values())
    check.empty("uids that are there twice", observed=sorted({v for v in uids if uids.count(v) > 1}))
    check.empty("gids that are there twice", observed=sorted({v for v in gids if gids.count(v) > 1}))
    known = [a.name for a in guest.accounts]
    check.empty(
        "account names that are there twice", observed=sorted({n for n in known if known.count(n) > 1})
    )
    names = [line.split(":")[0] for line in text.significant(guest.content("/etc/group"))]
    check.empty("group names that are there twice", observed=sorted({n for n in names if names.count(n) > 1}))
    check.empty(
        "accounts whose group doesn't exist", observed=[a.name for a in guest.accounts if a.gid not in gids]
    )
    check.equal(
        "accounts in passwd and shadow", expected={a.name for a in guest.accounts}, observed=set(guest.shadow)
    )
    check.empty("passwords outside shadow", observed=[a.name for a in guest.accounts if a.password != "x"])


@requirement("security.root-directory")
def test_root_directory(guest: Guest, check: Checks) -> None:
    entry = guest.inventory.get("/")
    check.one_of("mode of /", expected=("0555", "0755"), observed=f"{entry.mode:04o}" if entry else "missing")
    owner = f"{entry.uid}:{entry.gid}" if entry else "nobody"
    check.equal("owner and group of /", expected="0:0", observed=owner)


@requirement("security.ssh-hardening")
def test_sshd_baseline(guest: Guest, facts: Facts, check: Checks) -> None:
    for row in facts.rows("settings", "sshd"):
        key = str(row["key"])
        what, value = f"{key} ({guest.sshd.origin(key)})", guest.sshd.get(key)
        if "values" in row:
            check.one_of(what, expected=row["values"], observed=value)
        else:
            seconds = _seconds(value)
            good = seconds is not None and 1 <= seconds <= int(row["most"])
            check.record(what, expected=f"1 to {row['most']}", observed=value, ok=good)


def _seconds(value: str) -> int | None:
    """A number, or one of sshd's times such as 1m; None when it is neither."""
    match = re.fullmatch(r"(\d+)([sm]?)", value.lower())
    return int(match[1]) * (60 if match[2] == "m" else 1) if match else None


@requirement("security.crypto-policy")
def test_crypto_policy(guest: Guest, check: Checks) -> None:
    wanted = text.significant(guest.content("/etc/crypto-policies/config"))
    active = text.significant(guest.content("/etc/crypto-policies/state/current")) or wanted
    for what, lines in (("configured policy", wanted), ("policy in force", active)):
        words = lines[0].split(":") if lines else ["none"]
        check.one_of(what, expected=("DEFAULT", "FUTURE", "FIPS"), observed=words[0])
        weak = [word for word in words[1:] if re.search(r"SHA1|LEGACY|WEAK", word, re.I)]
        check.empty(f"weakening modules in the {what}", observed=weak)
    links = guest.glob("/etc/crypto-policies/back-ends/*.config")
    check.at_least("back ends", expected=5, observed=len(links))
    changed = [
        path for path in links if not (e := guest.inventory.get(path)) or not _of_policy(guest, e.path)
    ]
    check.empty("back ends that aren't the policy's", observed=changed)
    check.empty(
        "sshd opts out",
        observed=re.findall(r"^\s*CRYPTO_POLICY=.*", guest.content("/etc/sysconfig/sshd"), re.M),
    )


def _of_policy(guest: Guest, path: str) -> bool:
    return (
        path.startswith(("/usr/share/crypto-policies/", "/etc/crypto-policies/state/"))
        or path in guest.unmodified
    )


@requirement("security.gpgcheck-key-files")
def test_key_files(guest: Guest, facts: Facts, check: Checks) -> None:
    wanted = set(facts.key_fingerprints)
    found: dict[str, str] = {}
    for path in guest.glob("/etc/pki/rpm-gpg/*"):
        for fingerprint in openpgp.fingerprints(guest.access.read_bytes(path) or b""):
            found[fingerprint] = path
    check.contains_all("fingerprints of key files", expected=wanted, observed=found)
    for fingerprint in sorted(wanted & set(found)):
        path = guest.inventory.resolve(found[fingerprint]) or found[fingerprint]
        check.true(f"a package owns {path}", observed=path in guest.owners)


@requirement("security.boot-perms")
def test_boot_configuration(guest: Guest, check: Checks) -> None:
    paths = [p for name in ("grub.cfg", "user.cfg", "grubenv") for p in guest.glob(f"/boot/grub2/{name}")]
    check.true("GRUB's configuration", observed=bool(paths), expected="in /boot/grub2", otherwise="not there")
    directory = guest.inventory.get("/boot/grub2")
    closed = directory is not None and directory.mode & 0o077 == 0
    for path in paths:
        entry = guest.inventory.get(path)
        if entry is None:
            check.true(path, observed=False, expected="a file", otherwise="leads to nothing")
            continue
        check.equal(f"owner of {path}", expected=(0, 0), observed=(entry.uid, entry.gid))
        good = closed or entry.mode & 0o077 == 0
        check.true(
            f"mode of {path}",
            observed=good,
            expected="0600, or below a directory of mode 0700",
            otherwise=f"{entry.mode:04o}",
        )
    esp = [mount for mount in guest.fstab if mount.target == "/boot/efi"]
    for mount in esp:
        masks = [option for option in mount.options if option.startswith(("umask=", "fmask="))]
        tight = any(int(option.split("=")[1], 8) & 0o077 == 0o077 for option in masks)
        check.true(
            "mask of /boot/efi", observed=tight, expected="umask=0077", otherwise=",".join(mount.options)
        )


@requirement("security.umask")
def test_masks(guest: Guest, facts: Facts, check: Checks) -> None:
    rows = [line.split() for line in text.significant(guest.content("/etc/login.defs"))]
    values = {row[0]: row[1] for row in rows if len(row) > 1}
    mask = values.get("UMASK", "none")
    check.true("UMASK", observed=_octal(mask) & 0o022 == 0o022, expected="022 or stricter", otherwise=mask)
    if facts.rows("settings", "home_mode"):
        home = values.get("HOME_MODE", "none")
        check.true(
            "HOME_MODE",
            observed=home != "none" and _octal(home) & 0o077 == 0,
            expected="0700",
            otherwise=home,
        )


def _octal(value: str) -> int:
    return int(value, 8) if re.fullmatch(r"[0-7]+", value) else 0


@requirement("security.password-quality")
def test_passwords(guest: Guest, check: Checks) -> None:
    values: dict[str, str] = {}
    paths = [*guest.glob("/etc/security/pwquality.conf.d/*.conf"), "/etc/security/pwquality.conf"]
    # pwquality.conf(5): the drop-ins are read first, by name; the last setting counts.
    for path in paths:
        for line in text.significant(guest.content(path)):
            key, _, value = line.partition("=")
            values[key.strip()] = value.strip()
    for key, least in (("minlen", 6), ("minclass", 3)):
        found = values.get(key, "0")
        check.at_least(key, expected=least, observed=int(found) if found.isdigit() else 0)
    for path in ("/etc/pam.d/system-auth", "/etc/pam.d/password-auth"):
        lines = [
            line for line in text.significant(guest.content(path)) if line.lstrip("-").startswith("password")
        ]
        check.true(f"pam_pwquality in {path}", observed=any("pam_pwquality.so" in line for line in lines))


@requirement("security.authselect")
def test_login_stack(guest: Guest, check: Checks) -> None:
    stacks = ("/etc/pam.d/system-auth", "/etc/pam.d/password-auth")
    for path in stacks:
        check.true(
            f"{path} has lines",
            observed=bool(text.significant(guest.content(path))),
            otherwise="empty or missing",
        )
    check.empty("files of authconfig", observed=guest.glob("/etc/sysconfig/authconfig"))
    profile = text.significant(guest.content("/etc/authselect/authselect.conf"))
    if profile:
        places = [
            f"{base}/{profile[0].removeprefix('custom/')}"
            for base in (
                "/usr/share/authselect/default",
                "/usr/share/authselect/vendor",
                "/etc/authselect/custom",
            )
        ]
        check.true(
            f"profile {profile[0]}",
            observed=any(guest.exists(path) for path in places),
            otherwise="not there",
        )
        links = [
            p for p in stacks if not ((e := guest.inventory.get(p)) and e.path.startswith("/etc/authselect/"))
        ]
        check.empty("stacks that aren't the profile's", observed=links)


@requirement("security.sysctl-hardening", views=("disk",))
def test_kernel_settings(guest: Guest, facts: Facts, check: Checks) -> None:
    files = [*guest.configuration(_SYSCTL), ("/etc/sysctl.conf", guest.content("/etc/sysctl.conf"))]
    check.at_least("files of settings", expected=2, observed=len(files))
    for row in facts.rows("settings", "sysctl"):
        key = str(row["key"])
        set_by = [
            (path, value)
            for path, content in files
            for name, value in _settings(content)
            if name == key or fnmatch.fnmatchcase(key, name)
        ]
        # The last file that sets it counts; what no file sets is the kernel's own, seen on a booted machine.
        for path, value in set_by[-1:]:
            check.one_of(f"{key} ({path})", expected=row["values"], observed=value)


def _settings(content: str) -> list[tuple[str, str]]:
    pairs = [line.lstrip("-").partition("=") for line in text.significant(content, comment="#;")]
    return [(key.strip().replace("/", "."), value.strip()) for key, sign, value in pairs if sign]


@requirement("security.sysctl-hardening", views=("booted",))
def test_running_settings(guest: Guest, facts: Facts, check: Checks) -> None:
    rows = {str(row["key"]): row["values"] for row in facts.rows("settings", "sysctl")}
    output = guest.command(f"sysctl {' '.join(rows)}")
    seen = {
        key.strip(): value.strip() for key, _, value in (line.partition("=") for line in output.splitlines())
    }
    for key, values in rows.items():
        check.one_of(key, expected=values, observed=seen.get(key, "not printed"))


@requirement("security.cron-at")
def test_jobs(guest: Guest, check: Checks) -> None:
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    spools = [
        e
        for place in ("/var/spool/cron", "/var/spool/at")
        for e in guest.inventory.below(place)
        if e.type == "f"
    ]
    check.empty("jobs in spools", observed=[e.path for e in spools if e.path not in guest.owners])
    tables = [
        p for pattern in ("/etc/cron.*/*", "/etc/crontab", "/etc/anacrontab") for p in guest.glob(pattern)
    ]
    check.empty("jobs that no package owns", observed=[path for path in tables if path not in guest.owners])
    units = [
        p
        for place in ("/etc/systemd/system", "/usr/lib/systemd/system")
        for p in guest.glob(f"{place}/*.timer")
    ]
    real = [guest.inventory.resolve(path) or path for path in units]
    check.empty(
        "timers that no package owns",
        observed=[path for path in real if path not in guest.owners and path != "/dev/null"],
    )


@requirement("security.package-denylist")
def test_unwanted(guest: Guest, facts: Facts, check: Checks) -> None:
    check.at_least("packages", expected=50, observed=len(guest.package_names))
    patterns = facts.listed("packages", "unwanted")
    found = sorted(
        n for n in guest.package_names if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)
    )
    check.empty("packages of a build or of another platform", observed=found)


@requirement("security.module-autoload")
def test_loaded_modules(guest: Guest, facts: Facts, check: Checks) -> None:
    known = {str(row["name"]) for row in facts.rows("files", "modules_load")}
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    paths = guest.glob("/etc/modules-load.d/*.conf") + guest.glob("/usr/lib/modules-load.d/*.conf")
    stray = [
        p for p in paths if p not in guest.owners and p.rsplit("/", 1)[-1].removesuffix(".conf") not in known
    ]
    check.empty("files without a reason", observed=stray)


@requirement("security.polkit-dbus")
def test_rules(guest: Guest, check: Checks) -> None:
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    places = (
        "/etc/polkit-1/rules.d",
        "/etc/polkit-1/localauthority",
        "/var/lib/polkit-1/localauthority",
        "/usr/share/polkit-1/rules.d",
    )
    paths = [e.path for place in places for e in guest.inventory.below(place) if e.type == "f"]
    check.empty("rules that no package owns", observed=[path for path in paths if path not in guest.owners])


@requirement("security.fips-declared")
def test_fips(guest: Guest, check: Checks) -> None:
    check.true("boot entries", observed=bool(guest.command_lines), expected="at least one", otherwise="none")
    policy = (text.significant(guest.content("/etc/crypto-policies/config")) or ["none"])[0].split(":")[
        0
    ] == "FIPS"
    for origin, arguments in guest.command_lines:
        check.equal(f"fips=1 in {origin} and policy FIPS", expected=policy, observed="fips=1" in arguments)
