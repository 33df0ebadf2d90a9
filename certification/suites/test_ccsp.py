"""Provenance and supportability, as Red Hat's certification for cloud providers looks at them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from certification.checks import not_applicable, requirement
from certification.views import rpmcheck, rpmdb
from certification.views.updates import has_origin, left_to_subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

GIB = 1 << 30
_KERNEL = re.compile(r"kernel(-rt|-64k|-debug)?(-core|-modules|-modules-core|-modules-extra|-uki-virt)?")


def _kernel_packages(guest: Guest) -> list[rpmdb.InstalledPackage]:
    return [package for package in guest.packages if _KERNEL.fullmatch(package.name)]


def _says_what_it_is_called(guest: Guest, facts: Facts, check: Checks) -> None:
    major = guest.os_release.get("VERSION_ID", "none").partition(".")[0]
    check.equal("ID in os-release", expected=facts.os_id, observed=guest.os_release.get("ID", "none"))
    check.equal("major version in os-release", expected=facts.version.partition(".")[0], observed=major)


@requirement("ccsp.os-version-consistent", views=("disk",))
def test_identity(guest: Guest, facts: Facts, check: Checks) -> None:
    _says_what_it_is_called(guest, facts, check)
    present = [name for name in facts.release_packages if guest.installed(name)]
    if check.equal("release packages of the distribution", expected=1, observed=len(present)):
        package = guest.installed(present[0])[0]
        major = guest.os_release.get("VERSION_ID", "").split(".")[0]
        check.equal(
            "major version of the release package", expected=major, observed=package.version.split(".")[0]
        )
    check.excludes(
        "release packages of others", unwanted=facts.foreign_release_packages, observed=guest.package_names
    )
    check.contains(
        "/etc/system-release or /etc/redhat-release",
        expected=guest.os_release.get("VERSION_ID", "?"),
        observed=guest.content("/etc/system-release") or guest.content("/etc/redhat-release"),
    )


@requirement("ccsp.os-version-consistent", views=("booted",))
def test_identity_at_run_time(guest: Guest, facts: Facts, check: Checks) -> None:
    _says_what_it_is_called(guest, facts, check)
    # Asked for by name: to read all of the database takes an emulated guest seconds.
    asked = [*facts.release_packages, *facts.foreign_release_packages]
    output = guest.host.run(f"rpm -q --qf '%{{NAME}}\\n' {shlex.join(asked)}").stdout
    names = [line for line in output.splitlines() if line in asked]
    present = [name for name in facts.release_packages if name in names]
    check.equal("release packages of the distribution", expected=1, observed=len(present))
    check.excludes("release packages of others", unwanted=facts.foreign_release_packages, observed=names)
    name = guest.os_release.get("PRETTY_NAME", "?")
    check.contains("hostnamectl", expected=name, observed=guest.command("hostnamectl status"))


@requirement("ccsp.log-versions", views=("disk",))
def test_versions_are_known(guest: Guest, check: Checks) -> None:
    check.true(
        "PRETTY_NAME",
        observed=bool(guest.os_release.get("PRETTY_NAME")),
        expected=guest.os_release.get("PRETTY_NAME", ""),
    )
    nevras = ", ".join(package.nevra for package in _kernel_packages(guest))
    check.true("kernel packages", observed=bool(nevras), expected=nevras or "at least one", otherwise="none")


@requirement("ccsp.log-versions", views=("booted",))
def test_running_versions_are_known(guest: Guest, check: Checks) -> None:
    check.matches("uname -a", pattern=r"Linux .+\S", observed=guest.command("uname -a").strip())
    check.true("PRETTY_NAME", observed=bool(guest.os_release.get("PRETTY_NAME")))


@requirement("ccsp.kernel-vendor", views=("disk",))
def test_kernel_vendor(guest: Guest, facts: Facts, check: Checks) -> None:
    found = _kernel_packages(guest)
    check.true("kernel packages", observed=bool(found), expected="at least one", otherwise="none")
    for package in found:
        check.one_of(f"vendor of {package.nevra}", expected=facts.vendors, observed=package.vendor)
        check.one_of(f"signing key of {package.nevra}", expected=facts.key_ids, observed=package.key)
    images = [path for kernel in guest.kernels for path in kernel.images]
    names = {package.name for package in found}
    strange = [
        path
        for path in images
        if guest.owners.get(path) not in names and not _copy_of_packaged(guest, path, names)
    ]
    check.empty("kernels that no kernel package owns", observed=strange)


def _copy_of_packaged(guest: Guest, path: str, names: set[str]) -> bool:
    """/boot/vmlinuz-X that the kernel's scripts copied from /usr/lib/modules/X, byte for byte."""
    entry = guest.inventory.get(path)
    version = path.removeprefix("/boot/vmlinuz-")
    original = guest.inventory.get(f"/usr/lib/modules/{version}/vmlinuz")
    if entry is None or original is None or guest.owners.get(original.path) not in names:
        return False
    return entry.sha256 is not None and entry.sha256 == original.sha256


@requirement("ccsp.kernel-vendor", views=("booted",))
def test_running_kernel_is_packaged(guest: Guest, facts: Facts, check: Checks) -> None:
    release = guest.command("uname -r", once=True).strip()
    owner = guest.host.run("rpm -qf --qf '%%{NAME}|%%{VENDOR}\\n' /usr/lib/modules/%s/vmlinuz", release)
    name, _, vendor = owner.stdout.strip().partition("|")
    check.true(
        "a kernel package owns the running kernel",
        observed=bool(_KERNEL.fullmatch(name)),
        otherwise=owner.stdout,
    )
    check.one_of("its vendor", expected=facts.vendors, observed=vendor)


@requirement("ccsp.kernel-release-match")
def test_kernel_line(guest: Guest, facts: Facts, check: Checks) -> None:
    versions = (
        [guest.command("uname -r", once=True).strip()]
        if guest.booted
        else [kernel.version for kernel in guest.kernels]
    )
    check.true("kernels", observed=bool(versions), expected="at least one", otherwise="none")
    allowed = facts.kernels
    for version in versions:
        fits = [
            row for row in allowed if version.startswith(row["version"]) and row.get("dist", "") in version
        ]
        check.true(
            f"kernel {version}",
            observed=bool(fits),
            expected=" or ".join(f"{row['version']}*{row.get('dist', '')}" for row in allowed),
            otherwise=version,
        )


@requirement("ccsp.kernel-unmodified")
def test_kernel_files(guest: Guest, check: Checks) -> None:
    names = {package.name for package in _kernel_packages(guest)}
    watched = [item for item in rpmdb.files(guest.access) if item.package in names and not item.ghost]
    check.true(
        "files of kernel packages", observed=bool(watched), expected=f"{len(watched)} files", otherwise="none"
    )
    generated = re.compile(r"/modules\.(dep|alias|symbols|softdep|devname|builtin)[.a-z]*$")
    changed = [
        str(item)
        for item in rpmdb.verify(guest.access)
        if item.package in names
        and set(item.flags) & set("S5L") | {item.flags} & {"missing"}
        and not generated.search(item.path)
    ]
    check.empty("files that differ from their package", observed=changed)


@requirement("ccsp.kernel-not-tainted")
def test_not_tainted(guest: Guest, check: Checks) -> None:
    value = guest.command("cat /proc/sys/kernel/tainted").strip()
    bits = [str(bit) for bit in range(20) if value.isdigit() and int(value) >> bit & 1]
    check.true("taint bits", observed=value == "0", expected="none", otherwise=f"{', '.join(bits)} ({value})")


@requirement("ccsp.kernel-module-provenance")
def test_modules_are_packaged(guest: Guest, facts: Facts, check: Checks) -> None:
    vendors = {package.name: package for package in guest.packages}
    strange = []
    for kernel in guest.kernels:
        for path in kernel.modules.values():
            owner = guest.owners.get(path)
            package = vendors.get(owner or "")
            if package is None or package.vendor not in facts.vendors or package.key not in facts.key_ids:
                strange.append(f"{path} ({owner or 'no package'})")
    check.empty("modules that no package of the vendor owns", observed=strange)
    total = sum(len(kernel.modules) for kernel in guest.kernels)
    check.at_least("modules looked at", expected=1, observed=total)


@requirement("ccsp.hardware-health")
def test_hardware(guest: Guest, check: Checks) -> None:
    log = guest.command("journalctl -k -b --no-pager -o cat", once=True)
    check.at_least("kernel log lines", expected=10, observed=len(log.splitlines()))
    pattern = re.compile(
        r"unsupported hardware|unmaintained (driver|hardware)|disabled driver|deprecated driver", re.I
    )
    check.empty(
        "complaints of the kernel", observed=[line for line in log.splitlines() if pattern.search(line)]
    )


@requirement("ccsp.minimal-package-set")
def test_minimal_set(guest: Guest, facts: Facts, check: Checks) -> None:
    _require_packages(guest, facts.package_sets("minimal"), check)


@requirement("ccsp.required-cloud-packages")
def test_cloud_packages(guest: Guest, facts: Facts, check: Checks) -> None:
    _require_packages(guest, facts.package_sets("cloud"), check)


def _require_packages(guest: Guest, wanted: Any, check: Checks) -> None:
    missing = [" or ".join(names) for names in wanted if not any(map(guest.provides, names))]
    check.true(
        "packages",
        observed=not missing,
        expected=f"all {len(wanted)}",
        otherwise=f"missing: {', '.join(missing)}",
    )


@requirement("ccsp.root-fs-type", views=("disk",))
def test_root_type(guest: Guest, check: Checks) -> None:
    mounts = [mount for mount in guest.fstab if mount.target == "/"]
    if check.equal("fstab lines for /", expected=1, observed=len(mounts)):
        found = guest.filesystem(mounts[0].source)
        check.one_of(
            "filesystem of /", expected=("xfs", "ext4"), observed=found.type if found else "not on this disk"
        )
        check.equal("type in fstab", expected=found.type if found else "?", observed=mounts[0].type)


@requirement("ccsp.root-fs-type", views=("booted",))
def test_mounted_root_type(guest: Guest, check: Checks) -> None:
    check.one_of(
        "filesystem of /", expected=("xfs", "ext4"), observed=guest.command("findmnt -no FSTYPE /").strip()
    )


@requirement("ccsp.root-fs-size")
def test_root_size(guest: Guest, check: Checks) -> None:
    volumes = {
        mount.target: guest.filesystem(mount.source) for mount in guest.fstab if mount.type in ("xfs", "ext4")
    }
    system = {target: found for target, found in volumes.items() if found and not target.startswith("/boot")}
    check.contains("filesystems in fstab", expected="/", observed=list(system))
    total = sum(found.size for found in system.values())
    # Filesystems keep some room for themselves: 10 GB (decimal) of filesystem, not of files.
    check.true(
        f"size of {', '.join(sorted(system)) or 'no filesystem'}",
        observed=total >= 10 * 10**9,
        expected="at least 10 GB",
        otherwise=f"{total / 10**9:.1f} GB",
    )


@requirement("ccsp.boot-fs-size")
def test_boot_size(guest: Guest, check: Checks) -> None:
    mounts = [mount for mount in guest.fstab if mount.target == "/boot"]
    if not mounts:
        not_applicable("fstab has no line for /boot: it is a directory of the root filesystem")
    found = guest.filesystem(mounts[0].source)
    if not check.true("/boot is on this disk", observed=found is not None) or found is None:
        return
    check.one_of("filesystem of /boot", expected=("xfs", "ext4"), observed=found.type)
    # 960 MiB usable is what a partition of 1 GiB leaves.
    check.at_least("size of /boot in MiB", expected=960, observed=found.size >> 20)
    check.at_least("free in /boot in MiB", expected=200, observed=found.free >> 20)


@requirement("ccsp.rpm-provenance")
def test_signatures(guest: Guest, facts: Facts, check: Checks) -> None:
    strange = [
        f"{package.nevra} ({'key ' + package.key if package.key else 'not signed'})"
        for package in guest.packages
        if package.key not in facts.key_ids and facts.declared(package.name, key=package.key) is None
    ]
    check.empty(f"packages not signed by {', '.join(facts.key_ids)}", observed=strange)
    check.at_least("packages looked at", expected=50, observed=len(guest.packages))


@requirement("ccsp.rpm-signing-keys")
def test_trusted_keys(guest: Guest, facts: Facts, check: Checks) -> None:
    output = rpmdb.query(guest.access, "%{NAME} %{VERSION}\\n")
    keys = [line.split()[1].lower() for line in output.splitlines() if line.startswith("gpg-pubkey ")]
    allowed = [key[-8:] for key in (*facts.key_ids, *facts.declared_key_ids(guest.package_names))]
    # rpm names a key by the last 8 digits of its id, newer ones by the whole fingerprint.
    check.empty("keys of others", observed=[key for key in keys if key[-8:] not in allowed])
    check.at_least("keys in the database", expected=1, observed=len(keys))


@requirement("ccsp.rpm-nonvendor-declared")
def test_vendors(guest: Guest, facts: Facts, check: Checks) -> None:
    strange = [
        f"{package.nevra} ({package.vendor or 'no vendor'})"
        for package in guest.packages
        if package.vendor not in facts.vendors and facts.declared(package.name, key=package.key) is None
    ]
    check.empty(f"packages not from {', '.join(facts.vendors)}", observed=strange)
    check.at_least("packages looked at", expected=50, observed=len(guest.packages))


@requirement("ccsp.rpm-verify")
def test_verify(guest: Guest, facts: Facts, check: Checks) -> None:
    check.at_least("packaged files compared", expected=1000, observed=len(rpmdb.files(guest.access)))
    changed = []
    for item in rpmdb.verify(guest.access):
        flags = item.flags
        if flags != "missing":
            # Times say nothing about content. A FAT filesystem knows neither owner nor mode.
            flags = flags.replace("T", "")
            if item.path.startswith(facts.mode_exempt) or item.path + "/" in facts.mode_exempt:
                flags = re.sub("[MUG]", "", flags)
        if flags and facts.may_differ(item.path) is None:
            changed.append(str(item))
    check.empty("files that differ from their package", observed=changed)


@requirement("ccsp.rpm-dependencies")
def test_dependencies(guest: Guest, check: Checks) -> None:
    unsatisfied = rpmcheck.unsatisfied(guest.access)
    check.empty("unsatisfied dependencies", observed=unsatisfied)
    check.at_least("packages looked at", expected=50, observed=len(guest.packages))


@requirement("ccsp.rpm-no-duplicates")
def test_duplicates(guest: Guest, check: Checks) -> None:
    several = re.compile(r"kernel.*|gpg-pubkey")
    names = [
        f"{package.name}.{package.arch}" for package in guest.packages if not several.fullmatch(package.name)
    ]
    check.empty(
        "packages installed twice", observed=sorted({name for name in names if names.count(name) > 1})
    )


@requirement("ccsp.rpmdb-healthy")
def test_database(guest: Guest, check: Checks) -> None:
    check.at_least("packages that can be read", expected=50, observed=len(guest.packages))
    check.true(
        "sound",
        observed=not rpmcheck.faults(guest.access),
        otherwise="; ".join(rpmcheck.faults(guest.access)),
    )
    places = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
    check.empty(
        "environment files", observed=[path for place in places for path in guest.glob(f"{place}/__db.*")]
    )


@requirement("ccsp.repos-configured")
def test_repositories(guest: Guest, facts: Facts, check: Checks) -> None:
    if left_to_subscription(guest, facts, check):
        return
    enabled = [repository for repository in guest.repositories if repository.enabled]
    check.at_least("enabled repositories", expected=facts.repositories, observed=len(enabled))
    for repository in enabled:
        local = [url for url in repository.urls if re.match(r"file:|https?://(localhost|127\.|\[::1\])", url)]
        check.empty(f"local addresses of {repository.name}", observed=local)
        check.true(f"{repository.name} has an address", observed=bool(repository.urls))
        known = has_origin(guest, facts, repository.path)
        check.true(f"{repository.path} belongs to a package", observed=known)


@requirement("ccsp.repos-gpgcheck")
def test_signature_checks(guest: Guest, facts: Facts, check: Checks) -> None:
    if left_to_subscription(guest, facts, check):
        # What is written at registration has options of its own; everything else has these.
        _must_check_signatures("dnf's main section", guest.dnf_options, check)
        return
    check.at_least("repositories", expected=1, observed=len(guest.repositories))
    for repository in guest.repositories:
        _must_check_signatures(repository.name, repository.options, check)
        secure = repository.options.get("sslverify", "1").strip().lower()
        check.one_of(f"sslverify of {repository.name}", expected=("1", "true", "yes", "on"), observed=secure)


def _must_check_signatures(name: str, options: Mapping[str, str], check: Checks) -> None:
    # dnf's own default is off, so that a missing option counts as off.
    value = options.get("gpgcheck", "0").strip().lower()
    check.one_of(f"gpgcheck of {name}", expected=("1", "true", "yes", "on"), observed=value)
