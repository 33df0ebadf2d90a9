"""Rules about where the content comes from: repositories, keys, licences, ends of support."""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.errors import Where
from builder.recipe import support
from builder.recipe.findings import Finding, Subject
from builder.recipe.model import Origin

__all__ = [
    "dotnet_offered",
    "dotnet_supported",
    "keys_present",
    "licence_and_client",
    "licence_and_visibility",
    "mixed_dotnet_feeds",
    "one_pin_for_a_key",
    "plain_http",
    "release_supported",
    "system_is_pinned",
]

_MICROSOFT_FEED = "packages.microsoft.com"


def dotnet_offered(subject: Subject) -> Iterator[Finding]:
    """HM104: the .NET channel exists for the release."""
    distribution = subject.plan.distribution
    if distribution.id not in ("rhel", "centos"):
        return
    offered = support.table().dotnet_offered(distribution.major)
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
        end = support.table().dotnet_end(runtime.channel)
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
    end = support.table().release_end(distribution.id, distribution.major)
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
    if plan.licence != "byos" or plan.distribution.id != "rhel" or plan.ostree is not None:
        return
    registration = "redhat-cloud-client-configuration"
    held = {item.name: item for item in plan.packages.install}
    if registration not in held:
        yield subject.error(
            "HM107",
            subject.recipe.where("licence"),
            f"licence byos without {registration}",
            "the machine would not register itself with its owner's subscription and get no updates",
            "install it",
        )
    if f"{registration}-cdn" in held:
        yield subject.error(
            "HM107",
            held[f"{registration}-cdn"].where,
            f"{registration}-cdn in an image with licence byos",
            "it is for pay-as-you-go machines on the content delivery network, and excludes the other one",
            f"install {registration} alone",
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
    if plan.licence == "payg" and plan.visibility == "community":
        yield subject.error(
            "HM108",
            subject.recipe.where("visibility"),
            "a pay-as-you-go image for everybody",
            "whoever starts it gets content that somebody else pays for",
            "set visibility to private or tenant",
        )
    if plan.distribution.id == "rhel" and plan.licence == "free":
        yield subject.error(
            "HM108",
            subject.recipe.where("licence"),
            "RHEL without a licence",
            "every RHEL machine needs a subscription: its owner's, or one that is paid by the hour",
            "set licence to byos or payg",
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


def plain_http(subject: Subject) -> Iterator[Finding]:
    """HM112: repositories are fetched over TLS."""
    places = [
        (f"repository {item.id!r}", item.baseurl or item.metalink or "", item.where)
        for item in subject.plan.repositories
    ]
    system = subject.plan.ostree
    if system is not None:
        places.append(("the ostree repository", system.url or "", system.where))
        places.append(("the commit", system.source or "", system.where))
    for what, url, where in places:
        if url.startswith("http://"):
            yield subject.warning(
                "HM112",
                where,
                f"{what} is fetched without TLS",
                "signatures protect what is fetched, but an attacker can hold updates back",
                "use https",
            )


def keys_present(subject: Subject) -> Iterator[Finding]:
    """HM113: the key files are there."""
    wanted = [(item.key, item.fingerprint, item.where) for item in subject.plan.repositories]
    system = subject.plan.ostree
    if system is not None and system.key is not None:
        wanted.append((system.key, str(system.fingerprint), system.where))
    told: set[str] = set()
    for key, fingerprint, where in wanted:
        if key not in told and not (subject.recipe.root / key).is_file():
            told.add(key)
            yield subject.warning(
                "HM113",
                where,
                f"the key file {key} is missing",
                "planning works without it, building doesn't",
                f"get it from the vendor; its fingerprint must be {fingerprint}",
            )


def one_pin_for_a_key(subject: Subject) -> Iterator[Finding]:
    """HM117: one key file has one fingerprint."""
    pins: dict[str, str] = {}
    for repository in subject.plan.repositories:
        pinned = pins.setdefault(repository.key, repository.fingerprint)
        if pinned != repository.fingerprint:
            yield subject.error(
                "HM117",
                repository.where,
                f"{repository.key} is pinned to {repository.fingerprint} here and to {pinned} elsewhere",
                "one of the two repositories can never be used",
                "give each key a file of its own",
            )


def system_is_pinned(subject: Subject) -> Iterator[Finding]:
    """HM118: a system that comes whole is one system, and known."""
    system = subject.plan.ostree
    if system is None:
        return
    if system.image is not None and system.digest is None:
        yield subject.warning(
            "HM118",
            system.where,
            f"the container {system.image} is not pinned by a digest",
            "its tag moves and nothing checks a signature: nobody knows what the next build holds",
            "set ostree.digest",
        )
    if system.image is None and system.key is None:
        yield subject.warning(
            "HM118",
            system.where,
            "a system whose commits nobody signs",
            "the build takes exactly the pinned commit, but a machine takes every update that it is served",
            "set key and fingerprint, if the vendor signs its commits",
        )
    if system.compose and (system.source or system.commit or system.image):
        yield subject.error(
            "HM118",
            system.where,
            "a commit that is made here and taken from elsewhere",
            "compose makes it from the packages; source, commit and image name one that exists",
            "remove compose and signing_key, or source, commit and image",
        )
    if not system.compose and (subject.plan.packages.install or subject.plan.repositories):
        yield subject.error(
            "HM118",
            system.where,
            "packages or repositories beside ostree",
            "the system comes as one whole; packages would be ignored",
            "remove them, and extend no layer that brings packages; or make the commit of them: `compose`",
        )


def _dotnet_place(subject: Subject, channel: str) -> Where | Origin:
    for request in subject.plan.packages.install:
        if request.name.endswith(f"-{channel}"):
            return request.where
    return subject.recipe.where("dotnet")
