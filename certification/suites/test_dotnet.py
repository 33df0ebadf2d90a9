"""The baked-in .NET runtime: complete, from one source, supported, and able to run a program."""

from __future__ import annotations

import base64
import re
import shlex
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from certification import testkit
from certification.checks import not_applicable, requirement
from certification.parse import binaries
from certification.views.dotnet import DotnetRoot, Runtime

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

CORE = "Microsoft.NETCore.App"
_PACKAGE = re.compile(r"(dotnet|aspnetcore|netstandard)-.*")


def _roots(guest: Guest) -> list[DotnetRoot]:
    """The roots; an image without .NET packages and without a root isn't a .NET host."""
    packages = [name for name in guest.package_names if _PACKAGE.fullmatch(name)]
    if not guest.dotnet and not packages:
        not_applicable("no .NET root and no .NET package is installed")
    return guest.dotnet


def _runtimes(guest: Guest, check: Checks) -> list[Runtime]:
    found = [runtime for root in _roots(guest) for runtime in root.runtimes]
    check.true(
        "runtimes",
        observed=bool(found),
        expected=", ".join(f"{r.name} {r.version}" for r in found) or "at least one",
        otherwise="none",
    )
    return found


@requirement("dotnet.packages-present")
def test_packages(guest: Guest, check: Checks) -> None:
    kinds = {CORE: "dotnet-runtime", "Microsoft.AspNetCore.App": "aspnetcore-runtime"}
    for runtime in _runtimes(guest, check):
        wanted = [
            "dotnet-host",
            f"dotnet-hostfxr-{runtime.channel}",
            f"{kinds.get(runtime.name, runtime.name)}-{runtime.channel}",
        ]
        check.contains_all(
            f"packages for {runtime.name} {runtime.version}", expected=wanted, observed=guest.package_names
        )
        found = guest.installed(wanted[-1])
        if found:
            check.equal(f"version of {wanted[-1]}", expected=runtime.version, observed=found[0].version)
    for root in _roots(guest):
        for version in root.sdks:
            channel = ".".join(version.split(".")[:2])
            check.contains("packages", expected=f"dotnet-sdk-{channel}", observed=guest.package_names)


@requirement("dotnet.packages-vendor")
def test_vendor(guest: Guest, facts: Facts, check: Checks) -> None:
    _roots(guest)
    packages = [package for package in guest.packages if _PACKAGE.fullmatch(package.name)]
    check.true("packages", observed=bool(packages), expected="at least one", otherwise="none")
    for package in packages:
        check.one_of(f"vendor of {package.nevra}", expected=facts.vendors, observed=package.vendor)
        check.one_of(f"key of {package.nevra}", expected=facts.key_ids, observed=package.key)


@requirement("dotnet.no-mixed-feeds")
def test_one_feed(guest: Guest, check: Checks) -> None:
    check.equal("roots", expected=1, observed=len(_roots(guest)))
    check.empty("further roots", observed=[root.path for root in guest.dotnet[1:]])
    for repository in guest.repositories:
        if repository.enabled and any("packages.microsoft.com" in url for url in repository.urls):
            excluded = repository.options.get("excludepkgs", "") + " " + repository.options.get("exclude", "")
            names = ["dotnet*", "aspnetcore*", "netstandard*"]
            check.contains_all(
                f"excludes of {repository.name}", expected=names, observed=excluded.replace(",", " ").split()
            )


@requirement("dotnet.host-link")
def test_command(guest: Guest, check: Checks) -> None:
    for root in _roots(guest)[:1]:
        link = guest.inventory.get("/usr/bin/dotnet", follow=False)
        check.equal("/usr/bin/dotnet", expected="l", observed=link.type if link else "missing")
        target = guest.inventory.get("/usr/bin/dotnet")
        check.equal(
            "it leads to", expected=f"{root.path}/dotnet", observed=target.path if target else "nothing"
        )
        if target is not None and target.type == "f":
            check.true(
                "it can be executed", observed=target.mode & 0o111 == 0o111, otherwise=f"{target.mode:04o}"
            )
            found = binaries.elf(guest.access.read_bytes(target.path) or b"")
            check.equal(
                "its machine", expected=guest.machine, observed=found.machine if found else "no ELF file"
            )


@requirement("dotnet.install-location")
def test_install_location(guest: Guest, check: Checks) -> None:
    for root in _roots(guest)[:1]:
        names = list(guest.glob("/etc/dotnet/install_location*"))
        if root.path != "/usr/share/dotnet":
            check.contains("files", expected="/etc/dotnet/install_location", observed=names)
        for path in names:
            check.equal(path, expected=root.path, observed=guest.content(path).removesuffix("\n"))


@requirement("dotnet.layout")
def test_layout(guest: Guest, check: Checks) -> None:
    core = ("libcoreclr.so", "libhostpolicy.so", "System.Private.CoreLib.dll", f"{CORE}.deps.json")
    for root in _roots(guest):
        check.at_least(f"resolvers in {root.path}", expected=1, observed=len(root.resolvers))
        wanted = [f"{root.path}/host/fxr/{version}/libhostfxr.so" for version in root.resolvers]
        for runtime in root.runtimes:
            names = core if runtime.name == CORE else (f"{runtime.name}.deps.json",)
            wanted += [f"{runtime.path}/{name}" for name in names]
        for path in wanted:
            entry = guest.inventory.get(path)
            if (
                check.true(path, observed=entry is not None, expected="there", otherwise="missing")
                and entry is not None
            ):
                check.true(
                    f"everybody reads {path}",
                    observed=entry.mode & 0o444 == 0o444,
                    otherwise=f"{entry.mode:04o}",
                )
                check.true(f"a package owns {path}", observed=path in guest.owners)


@requirement("dotnet.hostfxr-newest")
def test_resolver(guest: Guest, check: Checks) -> None:
    for root in _roots(guest):
        cores = [Version(runtime.version) for runtime in root.runtimes if runtime.name == CORE]
        if check.true(
            "runtimes and resolvers",
            observed=bool(cores and root.resolvers),
            otherwise="one of them is missing",
        ):
            newest = max(Version(version) for version in root.resolvers)
            check.at_least("newest resolver", expected=max(cores), observed=newest)
            hosts = [Version(package.version) for package in guest.installed("dotnet-host")]
            check.at_least(
                "package dotnet-host", expected=max(cores), observed=max(hosts, default=Version("0"))
            )


@requirement("dotnet.native-deps")
def test_native_libraries(guest: Guest, check: Checks) -> None:
    wanted = [
        "ca-certificates",
        "krb5-libs",
        "glibc",
        "libgcc",
        "libstdc++",
        "openssl-libs",
        "tzdata",
        "libicu",
    ]
    _roots(guest)
    check.contains_all("packages", expected=wanted, observed=guest.package_names)
    names = {
        entry.path.rsplit("/", 1)[-1]
        for place in ("/usr/lib64", "/usr/lib")
        for entry in guest.inventory.below(place)
    }
    for root in guest.dotnet:
        unresolved, looked = [], 0
        for entry in guest.inventory.below(root.path):
            if entry.type != "f" or not (entry.path.endswith(".so") or entry.path == f"{root.path}/dotnet"):
                continue
            found = binaries.elf(guest.access.read_bytes(entry.path) or b"")
            looked += found is not None
            # The tracing provider is loaded only where the tracer's own library is, and is optional.
            optional = entry.path.endswith("/libcoreclrtraceptprovider.so")
            unresolved += [
                f"{name} ({entry.path})"
                for name in (found.needed if found else ())
                if name not in names and not optional
            ]
        check.empty(f"libraries that {root.path} needs and the image lacks", observed=unresolved)
        check.at_least(f"native files in {root.path}", expected=3, observed=looked)


@requirement("dotnet.channel-supported")
def test_support(guest: Guest, facts: Facts, today: date, check: Checks) -> None:
    for runtime in _runtimes(guest, check):
        support = facts.dotnet_support(runtime.channel)
        if support is None:
            check.record(
                f"channel {runtime.channel}",
                expected="a channel with known support",
                observed="unknown",
                ok=False,
            )
            continue
        check.supported_until(support.what, ends=support.ends, today=today)


@requirement("dotnet.os-supported")
def test_supported_here(guest: Guest, facts: Facts, check: Checks) -> None:
    glibc = guest.installed("glibc")
    for runtime in _runtimes(guest, check):
        row = facts.dotnet(runtime.channel)
        if not check.true(f"channel {runtime.channel} is known", observed=row is not None) or row is None:
            continue
        # A distribution that is like RHEL is judged as RHEL of the same release.
        window = row["releases"].get(facts.os_id, row["releases"]["rhel"])
        check.true(
            f".NET {runtime.channel} on {facts.name} {facts.version}",
            observed=Version(facts.version) in SpecifierSet(window),
            expected=f"release {window}",
            otherwise=facts.version,
        )
        version = glibc[0].version if glibc else "0"
        check.at_least("version of glibc", expected=Version(row["glibc"]), observed=Version(version))


@requirement("dotnet.no-cli-home")
def test_no_tool_state(guest: Guest, check: Checks) -> None:
    names = (".dotnet", ".nuget", ".templateengine", ".aspnet", "NuGetScratch", ".config/NuGet")
    homes = {account.home for account in guest.accounts} | {
        "/root",
        "/etc/skel",
        "/tmp",
        *guest.glob("/home/*"),
    }
    check.empty(
        "state",
        observed=[path for home in sorted(homes) for name in names for path in guest.glob(f"{home}/{name}")],
    )
    check.at_least("directories looked at", expected=3, observed=len(homes))


@requirement("dotnet.license-files")
def test_licences(guest: Guest, check: Checks) -> None:
    _roots(guest)
    names = [
        entry.path.rsplit("/", 1)[-1].lower()
        for root in guest.dotnet
        for entry in guest.inventory.children(root.path)
    ]
    names += [
        entry.path.lower() for entry in guest.inventory.below("/usr/share/licenses") if "dotnet" in entry.path
    ]
    check.true("licence", observed=any("license" in name for name in names))
    check.true(
        "third-party notices",
        observed=any("thirdpartynotices" in name or "third-party" in name for name in names),
    )


def _listed(guest: Guest) -> list[tuple[str, str, str]]:
    """(framework, version, directory) as ``dotnet --list-runtimes`` prints them."""
    result = guest.host.run("command -v dotnet >/dev/null && dotnet --list-runtimes", once=True)
    if result.rc == 1 and not result.stdout and not guest.host.run("rpm -qa 'dotnet*'").stdout.strip():
        not_applicable("no dotnet command and no .NET package is installed")
    found = re.findall(r"^(\S+) (\S+) \[(.+)\]$", result.stdout, re.M)
    return [(name, version, directory) for name, version, directory in found]


@requirement("dotnet.list-runtimes")
def test_list(guest: Guest, check: Checks) -> None:
    listed = _listed(guest)
    check.true("dotnet --list-runtimes", observed=bool(listed), expected="at least one", otherwise="none")
    root = guest.command('dirname "$(readlink -f "$(command -v dotnet)")"').strip()
    script = f"cd {shlex.quote(root)}/shared && ls -d */*"
    there = {tuple(line.split("/")) for line in guest.command(script).split()}
    check.equal(
        "runtimes",
        expected=sorted(" ".join(pair) for pair in there),
        observed=sorted(f"{name} {version}" for name, version, _ in listed),
    )
    check.equal(
        "their root", expected={root}, observed={directory.split("/shared/")[0] for _, _, directory in listed}
    )
    check.equal("status of dotnet --info", expected=0, observed=guest.host.run("dotnet --info").rc)


@requirement("dotnet.runtime-runs")
def test_program(guest: Guest, check: Checks) -> None:
    versions = [version for name, version, _ in _listed(guest) if name == CORE]
    check.true(
        "runtimes to try",
        observed=bool(versions),
        expected=", ".join(versions) or "at least one",
        otherwise="none",
    )
    assembly = base64.b64encode(guest.access.made("testkit", _compile)).decode()
    arguments = [3, 14, -15, 92, 65358, 979323]
    for version in versions:
        output = guest.host.run(f"sh -c {shlex.quote(_script(assembly, version, arguments))}")
        got = dict(line.split("=", 1) for line in output.stdout.splitlines() if "=" in line)
        check.record(
            f"status on {version}",
            expected=0,
            observed=f"{output.rc} {output.stderr[-400:]}",
            ok=output.rc == 0,
        )
        for key, value in testkit.expected_output(arguments).items():
            check.equal(f"{key} on {version}", expected=value, observed=got.get(key, "not printed"))
        check.equal(
            f"garbage collections on {version}",
            expected="some",
            observed=got.get("collections", "not printed"),
        )


def _compile() -> bytes:
    with tempfile.TemporaryDirectory(prefix="hallmark-testkit-") as work:
        return testkit.build(Path(work)).assembly.read_bytes()


def _script(assembly: str, version: str, arguments: list[int]) -> str:
    """Put the program into the guest, run it as an ordinary user, and remove it whatever happens."""
    configuration = base64.b64encode(testkit.runtime_config(version=version).encode()).decode()
    words = " ".join(map(str, arguments))
    return (
        'd=$(mktemp -d /var/tmp/certification.XXXXXX) || exit 1; trap \'rm -rf "$d"\' EXIT; chmod 755 "$d"; '
        f'echo {assembly} | base64 -d >"$d/Probe.dll"; '
        f'echo {configuration} | base64 -d >"$d/Probe.runtimeconfig.json"; '
        'chmod 644 "$d"/*; cd "$d" && '
        "setpriv --reuid=65534 --regid=65534 --clear-groups "
        f'env HOME=/nonexistent DOTNET_CLI_HOME="$d" dotnet Probe.dll {words}'
    )


@requirement("dotnet.path-everywhere")
def test_found_in_every_context(guest: Guest, check: Checks) -> None:
    _listed(guest)
    contexts = {
        "a login shell": "sh -lc 'command -v dotnet'",
        "sudo": "sudo -n sh -c 'command -v dotnet'",
        "a service": "systemd-run --quiet --pipe --wait sh -c 'command -v dotnet'",
        "cron's path": "env -i PATH=/usr/bin:/bin sh -c 'command -v dotnet'",
    }
    for name, command in contexts.items():
        # Each from a login, as a person has it, and not from the shell that asks all the other things.
        observed = guest.host.run(command, login=True).stdout.strip()
        check.matches(f"dotnet in {name}", pattern=r"/\S*bin/dotnet", observed=observed)
