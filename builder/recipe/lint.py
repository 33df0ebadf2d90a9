"""What is allowed by the language and still wrong: rules with stable codes.

An ``error`` stops a build, a ``warning`` doesn't. Each rule is one function that looks at a plan and yields
findings; the tables in the tests show a good and a bad example of every code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

from builder.errors import Where
from builder.recipe.load import Recipe
from builder.recipe.model import Origin, Plan
from builder.recipe.support import DOTNET_END, DOTNET_OFFERED, RELEASE_END
from builder.recipe.violations import did_you_mean
from builder.workspace import PROJECT

__all__ = ["RULES", "Finding", "lint"]

POLICIES = PROJECT / "certification" / "policies"
_GIB = 1024
_FORBIDDEN = re.compile(
    r"(rhgb|quiet|single|rd\.break|selinux=0|enforcing=0|audit=0|mitigations=off|numa=off|init=.*"
    r"|libata\.atapi_enabled=0|systemd\.unit=rescue.*|(modprobe\.blacklist|rd\.driver\.blacklist)=.*hv_.*)\Z"
)
_MICROSOFT_FEED = "packages.microsoft.com"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found. ``level`` is ``error`` or ``warning``."""

    code: str
    level: Literal["error", "warning"]
    where: Where
    what: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.level} {self.code} {self.what}; {self.why} — {self.fix}"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule looks at: the recipe with its places, its plan, and the day on which it would be built."""

    recipe: Recipe
    plan: Plan
    today: date

    def error(self, code: str, where: Where | Origin, what: str, why: str, fix: str) -> Finding:
        """A finding that stops a build."""
        return Finding(code, "error", _where(where), what, why, fix)

    def warning(self, code: str, where: Where | Origin, what: str, why: str, fix: str) -> Finding:
        """A finding that doesn't."""
        return Finding(code, "warning", _where(where), what, why, fix)


def lint(recipe: Recipe, plan: Plan, *, today: date) -> list[Finding]:
    """Every finding of every rule, in the order of places.

    :param today: the day that ends of support are compared with.
    """
    subject = Subject(recipe, plan, today)
    found = {finding for rule in RULES for finding in rule(subject)}
    return sorted(found, key=lambda item: (str(item.where.path), item.where.line, item.code, item.what))


def generation_and_architecture(subject: Subject) -> Iterator[Finding]:
    """HM101: aarch64 has no generation 1."""
    plan = subject.plan
    if plan.architecture == "aarch64" and 1 in plan.disk.generations:
        yield subject.error(
            "HM101",
            subject.recipe.where("disk"),
            "an aarch64 image for generation 1",
            "Azure and Hyper-V boot aarch64 machines by UEFI only, and a Compute Gallery refuses the pair",
            "set disk.generations to [2]",
        )


def boot_packages(subject: Subject) -> Iterator[Finding]:
    """HM102: the loaders for every generation are installed."""
    plan = subject.plan
    held = {request.name for request in plan.packages.install}
    wanted = {1: ("grub2-pc",), 2: ("shim-x64", "grub2-efi-x64", "efibootmgr")}
    if plan.architecture == "aarch64":
        wanted[2] = ("shim-aa64", "grub2-efi-aa64", "efibootmgr")
    for generation in plan.disk.generations:
        missing = [name for name in wanted[generation] if name not in held]
        if missing:
            yield subject.error(
                "HM102",
                subject.recipe.where("disk"),
                f"generation {generation} is wanted but not {', '.join(missing)}",
                "the machine's firmware finds no loader",
                "add the packages or leave the generation out of disk.generations",
            )


def disk_size(subject: Subject) -> Iterator[Finding]:
    """HM103: the disk is within the limits of the clouds and large enough for certification."""
    disk = subject.plan.disk
    where = subject.recipe.where("disk", "size_mib")
    if 1 in disk.generations and disk.size_mib > 2048 * _GIB:
        yield subject.error(
            "HM103",
            where,
            "a generation 1 disk of more than 2 TiB",
            "BIOS firmware can't address what lies beyond",
            "make it smaller or leave generation 1 out",
        )
    root = disk.size_mib - disk.esp_mib - disk.boot_mib - 3
    if root < 10 * _GIB:
        yield subject.warning(
            "HM103",
            where,
            f"the root filesystem gets {root} MiB",
            "Red Hat's certification policy asks for 10 GiB; the file stays sparse, so size costs nothing",
            f"set disk.size_mib to {10 * _GIB + disk.esp_mib + disk.boot_mib + 3} or more",
        )


def dotnet_offered(subject: Subject) -> Iterator[Finding]:
    """HM104: the .NET channel exists for the release."""
    distribution = subject.plan.distribution
    if distribution.id not in ("rhel", "centos"):
        return
    offered = DOTNET_OFFERED.get(distribution.major, ())
    for runtime in subject.plan.dotnet:
        if runtime.channel not in offered:
            yield subject.error(
                "HM104",
                subject.recipe.where("dotnet"),
                f".NET {runtime.channel} for {distribution.name} {distribution.release}",
                "the distribution's repositories don't have it"
                + ("; .NET 8 and later need a newer glibc" if distribution.major < 8 else ""),
                f"offered: {', '.join(offered) or 'nothing'}",
            )


def dotnet_supported(subject: Subject) -> Iterator[Finding]:
    """HM105: the .NET channel is in support on the build date."""
    for runtime in subject.plan.dotnet:
        end = DOTNET_END.get(runtime.channel)
        if end is not None and end < subject.today:
            yield subject.warning(
                "HM105",
                _dotnet_place(subject, runtime.channel),
                f"support of .NET {runtime.channel} ended on {end}",
                "an image with it is certified only with a waiver",
                "use a later channel, or state the reason in a waiver",
            )


def release_supported(subject: Subject) -> Iterator[Finding]:
    """HM106: the distribution release is in support on the build date."""
    distribution = subject.plan.distribution
    end = RELEASE_END.get((distribution.id, distribution.major))
    if end is not None and end < subject.today:
        yield subject.warning(
            "HM106",
            subject.recipe.where("distribution", "release"),
            f"support of {distribution.name} {distribution.major} ended on {end}",
            "nobody mends security defects in it any more",
            "move to a later release",
        )


def licence_and_client(subject: Subject) -> Iterator[Finding]:
    """HM107: the update client fits the licence."""
    plan = subject.plan
    rhui = [item for item in plan.packages.install if re.match(r"rhui-azure-|.*[-_]rhui(-|$)", item.name)]
    for request in rhui:
        if plan.licence != "payg":
            yield subject.error(
                "HM107",
                request.where,
                f"the RHUI client {request.name} in an image with licence {plan.licence}",
                "RHUI content is paid by the hour through the marketplace; others may not use it",
                "set licence to payg or remove the package",
            )
    if plan.licence == "payg" and len(rhui) != 1:
        yield subject.error(
            "HM107",
            subject.recipe.where("licence"),
            f"licence payg with {len(rhui)} RHUI client packages",
            "a pay-as-you-go machine gets its updates through exactly one",
            "install one rhui-azure-* package",
        )


def licence_and_visibility(subject: Subject) -> Iterator[Finding]:
    """HM108: RHEL is not given to everybody."""
    plan = subject.plan
    if plan.distribution.id == "rhel" and plan.visibility == "community":
        yield subject.error(
            "HM108",
            subject.recipe.where("visibility"),
            "RHEL for everybody",
            "the subscription agreement forbids public redistribution",
            "set visibility to private or tenant",
        )


def mixed_dotnet_feeds(subject: Subject) -> Iterator[Finding]:
    """HM109: .NET comes from one place."""
    plan = subject.plan
    if not plan.dotnet or any(re.match(r"dotnet", word) for word in plan.packages.exclude):
        return
    for repository in plan.repositories:
        if _MICROSOFT_FEED in (repository.baseurl or "") and len(plan.repositories) > 1:
            yield subject.error(
                "HM109",
                repository.where,
                "two sources of .NET packages",
                "a host from one and a runtime from the other don't find each other",
                "leave Microsoft's repository out",
            )


def kernel_arguments(subject: Subject) -> Iterator[Finding]:
    """HM110: no argument hides messages or weakens the machine, and the serial console is the last one."""
    arguments = subject.plan.kernel.arguments
    where = subject.recipe.where("kernel")
    for argument in arguments:
        if _FORBIDDEN.match(argument):
            yield subject.error(
                "HM110",
                where,
                f"the kernel argument {argument}",
                "it hides messages from the serial console, breaks provisioning or weakens security",
                "remove it",
            )
    consoles = [argument for argument in arguments if argument.startswith("console=")]
    serial = "console=ttyAMA0" if subject.plan.architecture == "aarch64" else "console=ttyS0"
    if not consoles or not consoles[-1].startswith(serial):
        yield subject.error(
            "HM110",
            where,
            f"the last console is {consoles[-1] if consoles else 'none'}",
            "boot diagnostics and the serial console show what goes to the last one",
            f"end the consoles with {serial}",
        )


def services_at_odds(subject: Subject) -> Iterator[Finding]:
    """HM111: a unit is enabled, disabled or masked, not two of them."""
    services = subject.plan.services
    for first, second in (("enable", "disable"), ("enable", "mask"), ("disable", "mask")):
        for unit in sorted(set(getattr(services, first)) & set(getattr(services, second))):
            yield subject.error(
                "HM111",
                subject.recipe.where("services"),
                f"{unit} is in {first} and in {second}",
                "the result would depend on an order that nobody sees",
                "remove it from one",
            )


def plain_http(subject: Subject) -> Iterator[Finding]:
    """HM112: repositories are fetched over TLS."""
    for repository in subject.plan.repositories:
        url = repository.baseurl or repository.metalink or ""
        if url.startswith("http://"):
            yield subject.warning(
                "HM112",
                repository.where,
                f"repository {repository.id!r} is fetched without TLS",
                "signatures protect the packages, but an attacker can hold updates back",
                "use https",
            )


def keys_present(subject: Subject) -> Iterator[Finding]:
    """HM113: the key files are there."""
    for repository in subject.plan.repositories:
        if not (subject.recipe.root / repository.key).is_file():
            yield subject.warning(
                "HM113",
                repository.where,
                f"the key file {repository.key} of repository {repository.id!r} is missing",
                "planning works without it, building doesn't",
                f"get it from the vendor; its fingerprint must be {repository.fingerprint}",
            )


def idle_removals(subject: Subject) -> Iterator[Finding]:
    """HM114: what is removed was there."""
    for item in subject.recipe.idle_removals:
        yield subject.warning(
            "HM114",
            item.where,
            f"removes {item.value!r}, which no layer below adds",
            "most often it is misspelt or the layer has changed",
            "correct or remove it",
        )


def policies_exist(subject: Subject) -> Iterator[Finding]:
    """HM116: the policies are there."""
    known = sorted(path.stem for path in POLICIES.glob("*.yaml"))
    for policy in subject.plan.certification.policies:
        if policy not in known:
            yield subject.error(
                "HM116",
                subject.recipe.where("certification", "policies"),
                f"there is no policy {policy!r}",
                "certification would stop after the long part of the work",
                did_you_mean(policy, known),
            )


def waivers_present(subject: Subject) -> Iterator[Finding]:
    """HM115: the waivers file is there."""
    waivers = subject.plan.certification.waivers
    if waivers is not None and not (subject.recipe.root / waivers).is_file():
        yield subject.error(
            "HM115",
            subject.recipe.where("certification", "waivers"),
            f"there is no waivers file {waivers}",
            "certification would stop after the long part of the work",
            "write it or remove the key",
        )


RULES: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    generation_and_architecture,
    boot_packages,
    disk_size,
    dotnet_offered,
    dotnet_supported,
    release_supported,
    licence_and_client,
    licence_and_visibility,
    mixed_dotnet_feeds,
    kernel_arguments,
    services_at_odds,
    plain_http,
    keys_present,
    idle_removals,
    waivers_present,
    policies_exist,
)


def _dotnet_place(subject: Subject, channel: str) -> Where | Origin:
    for request in subject.plan.packages.install:
        if request.name.endswith(f"-{channel}"):
            return request.where
    return subject.recipe.where("dotnet")


def _where(place: Where | Origin) -> Where:
    return place if isinstance(place, Where) else Where(place.path, place.line)
