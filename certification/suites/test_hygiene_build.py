"""What the build itself may leave: caches, repositories, tools, proxies, credentials."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.views.updates import has_origin, left_to_subscription

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

_CREDENTIALS = {
    "private key": re.compile(
        rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----\s*\r?\n[A-Za-z0-9+/=:, -]{16,}"
    ),
    "storage account key": re.compile(rb"AccountKey=[A-Za-z0-9+/]{40,}"),
    "shared access signature": re.compile(rb"[?&]sig=[A-Za-z0-9%+/]{30,}"),
    "AWS key": re.compile(rb"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "GitHub token": re.compile(rb"\b(ghp|gho|ghs|ghu|ghr)_[A-Za-z0-9]{36}\b|\bgithub_pat_[A-Za-z0-9_]{60,}"),
    "web token": re.compile(rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "password hash": re.compile(rb"(^|[:\s\"'=])\$(1|2[aby]|5|6|y)\$[^:\s\"']{20,}", re.M),
}
_SCANNED = 10 << 20


@requirement("hygiene.secret-scan")
def test_secrets(guest: Guest, check: Checks) -> None:
    packaged = guest.unmodified
    # The same content elsewhere (an ostree host's object store) is no other content: it is read once.
    known = {e.sha256 for e in guest.inventory if e.path in packaged or _is_computed(e.path)} - {None}
    found, looked = [], 0
    for entry in guest.inventory:
        if (
            entry.type != "f"
            or not 0 < entry.size <= _SCANNED
            or entry.path in packaged
            or _is_computed(entry.path)
            or entry.sha256 in known
        ):
            continue
        looked += 1
        data = guest.access.read_bytes(entry.path) or b""
        hits = [f"{entry.path}: {name}" for name, pattern in _CREDENTIALS.items() if pattern.search(data)]
        found += hits
        if not hits and entry.sha256 is not None:
            known.add(entry.sha256)
    check.empty("credentials in files that no package vouches for", observed=found)
    check.at_least("files scanned", expected=20, observed=looked)


def _is_computed(path: str) -> bool:
    """Caches that tools compute from packaged files hold nothing of the builder, and are large."""
    return _COMPUTED.match(path.removeprefix("/usr") if path.startswith("/usr/etc/") else path) is not None


_COMPUTED = re.compile(
    r"/(usr/lib/modules/[^/]+/modules\.|usr/lib/udev/hwdb\.bin|etc/udev/hwdb\.bin|etc/ld\.so\.cache|var/cache/ldconfig/"
    r"|etc/selinux/[^/]+/(policy|contexts|active)/|var/lib/selinux/|etc/pki/ca-trust/extracted/|etc/ssl/certs/"
    r"|boot/(vmlinuz|System\.map|config)-|boot/grub2/(i386-pc|fonts)/|(var/lib|usr/lib/sysimage)/rpm/)"
)


@requirement("hygiene.proxy-settings")
def test_proxies(guest: Guest, check: Checks) -> None:
    paths = [
        "/etc/dnf/dnf.conf",
        "/etc/yum.conf",
        "/etc/environment",
        "/etc/rhsm/rhsm.conf",
        "/etc/waagent.conf",
        "/etc/wgetrc",
        "/etc/curlrc",
    ]
    paths += (
        guest.glob("/etc/yum.repos.d/*.repo")
        + guest.glob("/etc/profile.d/*")
        + guest.glob("/etc/systemd/system.conf.d/*")
    )
    setting = re.compile(
        r"^\s*(export\s+)?(\w*https?_proxy|all_proxy|proxy|proxy_hostname|HttpProxy\.Host)\s*=\s*(\S+)",
        re.I | re.M,
    )
    found = []
    for path in paths:
        for match in setting.finditer(guest.content(path)):
            if match[3].strip("\"'").lower() not in ("", "none", "_none_"):
                found.append(f"{path}: {match[0].strip()}")
    check.empty("proxies", observed=found)
    check.true("files looked at", observed=any(guest.read(path) is not None for path in paths))


@requirement("hygiene.build-repos")
def test_build_repositories(guest: Guest, facts: Facts, check: Checks) -> None:
    if not left_to_subscription(guest, facts, check):
        known = bool(guest.repositories)
        check.true("repositories", observed=known, expected="at least one", otherwise="none")
    local = re.compile(
        r"file:|https?://(localhost|127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|\[)"
    )
    for repository in guest.repositories:
        check.empty(
            f"addresses of a build network in {repository.name}",
            observed=[u for u in repository.urls if local.match(u)],
        )
    paths = {repository.path for repository in guest.repositories}
    strange = sorted(path for path in paths if not has_origin(guest, facts, path))
    check.empty("repository files that no package owns", observed=strange)


@requirement("hygiene.builder-artifacts")
def test_build_tools(guest: Guest, check: Checks) -> None:
    patterns = (
        "/tmp/in_target.d", "/tmp/image-customize*", "/etc/dib-manifests", "/etc/dib_*", "/usr/share/pkg-map",
        "/usr/local/*bin/dib-*", "/usr/local/bin/*install-packages", "/usr/local/bin/package-installs-v2",
        "/usr/local/bin/svc-map", "/usr/local/bin/pkg-map", "/usr/lib/virt-sysprep", "/root/virt-sysprep*",
        "/usr/lib/guestfs*", "/etc/systemd/system/guestfs-firstboot.service", "/var/lib/packer*",
        "/.dockerenv",
        "/run/.containerenv", "/policy-rc.d", "/usr/sbin/policy-rc.d", "/root/.ansible",
    )  # fmt: skip
    check.empty("files", observed=sorted({path for pattern in patterns for path in guest.glob(pattern)}))
    stray = [
        e.path for e in guest.inventory.below("/usr/local") if e.type != "d" and e.path not in guest.owners
    ]
    check.empty("files below /usr/local that no package owns", observed=stray)
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))


@requirement("hygiene.package-cache")
def test_cache(guest: Guest, check: Checks) -> None:
    places = ("/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5", "/var/cache/PackageKit")
    files = [
        e.path
        for place in places
        for e in guest.inventory.below(place)
        if e.type != "d" and e.path not in guest.owners
    ]
    check.empty("cached metadata and packages", observed=files)
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))


@requirement("hygiene.rpm-temp")
def test_rpm_leftovers(guest: Guest, check: Checks) -> None:
    left = re.compile(
        r".*(\.rpm(new|save|orig|moved)|;[0-9a-f]{8}|/\.rpm-tmp.*|/__db\.\d+|\.dpkg-(new|old|dist))"
    )
    check.empty("files", observed=[entry.path for entry in guest.inventory if left.fullmatch(entry.path)])
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
