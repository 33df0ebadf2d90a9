""".NET, second part: patch levels, pairs of frameworks, variables and authorities, read from the disk."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from certification.checks import not_applicable, requirement

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.dotnet import Runtime
    from certification.views.guest import Guest

CORE = "Microsoft.NETCore.App"
ASPNET = "Microsoft.AspNetCore.App"
_BUNDLES = (
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/certs/ca-certificates.crt",
)


def _runtimes(guest: Guest) -> list[Runtime]:
    """Every framework; an image without any isn't a .NET host (dotnet.packages-present tells half a one)."""
    found = [runtime for root in guest.dotnet for runtime in root.runtimes]
    if not found:
        not_applicable("there is no .NET runtime in the image")
    return found


def _environment(guest: Guest, name: str) -> dict[str, str]:
    """Who sets a variable for everybody, and to what."""
    paths = ["/etc/environment", *guest.glob("/etc/profile.d/*"), *guest.glob("/etc/environment.d/*.conf")]
    paths += ["/etc/profile", "/etc/bashrc", "/etc/systemd/system.conf"]
    paths += guest.glob("/etc/systemd/system.conf.d/*.conf")
    pattern = re.compile(rf"^(?!\s*#).*\b{name}=[\"']?([^\s\"';]*)", re.M)
    return {path: match[1] for path in paths if (match := pattern.search(guest.content(path)))}


@requirement("dotnet.ca-trust")
def test_authorities(guest: Guest, check: Checks) -> None:
    _runtimes(guest)
    check.true("package ca-certificates", observed="ca-certificates" in guest.package_names)
    found = [path for path in _BUNDLES if guest.content(path).count("BEGIN CERTIFICATE") >= 50]
    check.true("a bundle with at least 50 authorities", observed=bool(found), otherwise="none")
    # The runtime asks OpenSSL for the place of its bundle, which is cert.pem in OPENSSLDIR.
    for path in ("/etc/pki/tls/cert.pem", "/usr/lib/ssl/cert.pem", "/etc/ssl/cert.pem"):
        if guest.inventory.get(path, follow=False) is not None:
            check.true(
                f"{path} leads to it",
                observed="BEGIN CERTIFICATE" in guest.content(path),
                otherwise="to nothing",
            )


@requirement("dotnet.channel-eol-warning")
def test_half_a_year(guest: Guest, facts: Facts, today: date, check: Checks) -> None:
    for channel in sorted({runtime.channel for runtime in _runtimes(guest)}):
        support = facts.dotnet_support(channel)
        ends = support.ends if support is not None else date.min
        check.at_least(f"support of .NET {channel} ends", expected=today + timedelta(days=180), observed=ends)


@requirement("dotnet.patch-level")
def test_security_fixes(guest: Guest, facts: Facts, check: Checks) -> None:
    for runtime in _runtimes(guest):
        row = facts.dotnet(runtime.channel)
        if check.true(f"channel {runtime.channel} is known", observed=row is not None) and row is not None:
            wanted, observed = Version(str(row["security"])), _version(runtime.version)
            check.at_least(f"version of {runtime.name}", expected=wanted, observed=observed)


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


@requirement("dotnet.framework-pairing")
def test_pairs(guest: Guest, check: Checks) -> None:
    runtimes = _runtimes(guest)
    web = [runtime for runtime in runtimes if runtime.name == ASPNET]
    if not web:
        not_applicable("ASP.NET isn't installed")
    cores = [runtime.version for runtime in runtimes if runtime.name == CORE]
    for runtime in web:
        path = f"{runtime.path}/{ASPNET}.runtimeconfig.json"
        try:
            wanted = json.loads(guest.content(path))["runtimeOptions"]["framework"]["version"]
        except (ValueError, KeyError, TypeError):
            check.record(path, expected="names the base runtime", observed="unreadable", ok=False)
            continue
        check.contains(f"base runtimes for {ASPNET} {runtime.version}", expected=wanted, observed=cores)


@requirement("dotnet.sdk-policy")
def test_no_compiler(guest: Guest, check: Checks) -> None:
    _runtimes(guest)
    packages = [
        name for name in guest.package_names if re.fullmatch(r"dotnet-(sdk|templates|targeting-pack).*", name)
    ]
    check.empty("packages of an SDK", observed=sorted(packages))
    check.empty(
        "SDKs", observed=[f"{root.path}/sdk/{version}" for root in guest.dotnet for version in root.sdks]
    )


@requirement("dotnet.dotnet-root-env")
def test_root_variable(guest: Guest, check: Checks) -> None:
    _runtimes(guest)
    for name in ("DOTNET_ROOT", "DOTNET_ROOT_X64"):
        for path, value in _environment(guest, name).items():
            check.one_of(
                f"{name} in {path}", expected=[root.path for root in guest.dotnet], observed=value.rstrip("/")
            )
    wrong = _environment(guest, "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT")
    check.empty(
        "files that give up cultures for everybody",
        observed=[p for p, v in wrong.items() if v in ("1", "true")],
    )


@requirement("dotnet.side-by-side")
def test_channels(guest: Guest, check: Checks) -> None:
    channels = sorted({runtime.channel for runtime in _runtimes(guest) if runtime.name == CORE})
    if len(channels) < 2:
        not_applicable(f"one channel is installed: {', '.join(channels)}")
    check.empty(
        "files that set DOTNET_ROLL_FORWARD", observed=sorted(_environment(guest, "DOTNET_ROLL_FORWARD"))
    )
    check.equal("roots with runtimes", expected=1, observed=sum(bool(root.runtimes) for root in guest.dotnet))
    for channel in channels:
        check.contains("packages", expected=f"dotnet-runtime-{channel}", observed=guest.package_names)


@requirement("dotnet.telemetry-policy")
def test_telemetry(guest: Guest, check: Checks) -> None:
    _runtimes(guest)
    values = set(_environment(guest, "DOTNET_CLI_TELEMETRY_OPTOUT").values())
    check.true(
        "DOTNET_CLI_TELEMETRY_OPTOUT",
        observed=bool(values & {"1", "true"}),
        expected="1",
        otherwise="not set",
    )


@requirement("dotnet.rhel7-scl")
def test_none_on_seven(guest: Guest, check: Checks) -> None:
    packages = sorted(
        n for n in guest.package_names if re.fullmatch(r"rh-dotnet.*|(dotnet|aspnetcore)-.*", n)
    )
    if not packages and not guest.dotnet and not guest.glob("/opt/rh/rh-dotnet*"):
        not_applicable("there is no .NET in the image, as it should be on release 7")
    check.empty("packages out of support", observed=packages)
    check.empty(
        "runtimes out of support",
        observed=[root.path for root in guest.dotnet] + guest.glob("/opt/rh/rh-dotnet*"),
    )


@requirement("dotnet.selinux-clean", views=("disk",))
def test_labels(guest: Guest, check: Checks) -> None:
    _runtimes(guest)
    entries = [entry for root in guest.dotnet for entry in guest.inventory.below(root.path)]
    check.at_least("files of .NET", expected=10, observed=len(entries))
    check.empty("files without a label", observed=[entry.path for entry in entries if entry.label is None])
    check.empty("files whose label isn't the policy's", observed=guest.mislabelled(entries))


@requirement("dotnet.atomic-delivery")
def test_in_the_tree(guest: Guest, check: Checks) -> None:
    _runtimes(guest)
    for root in guest.dotnet:
        check.true(
            f"{root.path} is part of the tree", observed=root.path.startswith("/usr/"), otherwise="mutable"
        )
        stray = [
            e.path for e in guest.inventory.below(root.path) if e.type == "f" and e.path not in guest.owners
        ]
        check.empty(f"files in {root.path} that no package owns", observed=stray)
