"""Rules about what the recipe puts into the image, and about the recipe itself."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from builder.errors import Where
from builder.recipe.findings import Finding, Subject
from builder.recipe.merge import Item, Tree, leaves
from builder.recipe.model import Origin
from builder.recipe.violations import did_you_mean
from builder.workspace import PROJECT
from certification.model import POLICY_OF_TARGET

__all__ = [
    "gallery_name",
    "idle_removals",
    "no_secrets",
    "packages_at_odds",
    "policies_exist",
    "services_at_odds",
    "signatures_are_checked",
    "targets_are_judged",
    "waivers_present",
]

POLICIES = PROJECT / "certification" / "policies"
#: Compute Gallery: names of image definitions have at most 80 characters.
_LONGEST_NAME = 80
#: On any line that isn't a comment, so that a script's ``echo gpgcheck=0 >>…`` counts too; but not what
#: ``s/gpgcheck=0/gpgcheck=1/`` looks for.
_UNVERIFIED = re.compile(
    r"^(?![ \t]*[#;])[^\n]*(?:"
    r"\b(?P<switch>(?:(?:repo_|local|localpkg_)?gpgcheck|gpg-verify|sslverify)"
    r"[ \t]*[=:][ \t]*[\"']?(?:0|no|false|off)\b)"
    r"(?![/|,#][^\n]*=[ \t]*(?:1|yes|true|on)\b)"
    r"|(?P<option>--no-?(?:gpg\w*|sign\w*)\b))",
    re.IGNORECASE | re.MULTILINE,
)
_SECRET_NAME = r"(?:(?:activation|account|api|access|secret)[-_]?key|client[-_]?secret|pass(?:word|phrase))"
#: A secret itself: no variable, no placeholder, and not the answer to a question such as DeletePassword.
_SECRET_VALUE = r"[\"']?(?!(?:y|yes|n|no|true|false|on|off|none|null|[0-9])(?![\w-]))[^\s$<{(\[|*\"'\\%-]"
_SECRET = re.compile(
    r"-----BEGIN (?P<pem>[A-Z ]*PRIVATE KEY)-----"
    rf"|(?P<name>{_SECRET_NAME})[\"']?[ \t]*[=:][ \t]*{_SECRET_VALUE}"
    rf"|--(?P<option>{_SECRET_NAME})[ \t]+{_SECRET_VALUE}"
    r"|:[^\s$<{\"'|]{1,128}[\"']?[ \t]*\|[ \t]*(?P<program>chpasswd)",
    re.IGNORECASE,
)
#: The sections of a recipe whose values are texts of the image.
_DATA = ("edit", "container", "kernel")


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
    """HM116: there are policies to judge the image, and they are known."""
    known = sorted(path.stem for path in POLICIES.glob("*.yaml"))
    if not subject.plan.certification.policies:
        yield subject.error(
            "HM116",
            subject.recipe.where("certification"),
            "no policy judges the image",
            "it could be neither certified nor published",
            f"known: {', '.join(known)}",
        )
    for policy in subject.plan.certification.policies:
        if policy not in known:
            yield subject.error(
                "HM116",
                subject.recipe.where("certification", "policies"),
                f"there is no policy {policy!r}",
                "certification would stop after the long part of the work",
                did_you_mean(policy, known),
            )


def targets_are_judged(subject: Subject) -> Iterator[Finding]:
    """HM128: where the image is meant to run, it is judged by the policy of that place."""
    chosen = subject.plan.certification
    for target in chosen.targets if chosen.policies else ():
        if (policy := POLICY_OF_TARGET[target]) not in chosen.policies:
            yield subject.error(
                "HM128",
                subject.recipe.where("certification", "policies"),
                f"the image is meant for {target}, and the policy {policy} isn't among its policies",
                "the certificate would not say whether it runs there",
                f"add {policy} to certification.policies, or name targets without {target}",
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


def signatures_are_checked(subject: Subject) -> Iterator[Finding]:
    """HM121: nothing in the image turns the check of signatures off."""
    for place, what, text in _texts(subject):
        found = _UNVERIFIED.search(text)
        if found is not None:
            yield subject.error(
                "HM121",
                place,
                f"{what} says {found['switch'] or found['option']!r}",
                "the machine would take updates from anybody",
                "leave the check on; import the key that it needs",
            )


def no_secrets(subject: Subject) -> Iterator[Finding]:
    """HM122: no secret is written into the image."""
    for place, what, text in _texts(subject):
        found = _SECRET.search(text)
        if found is not None:
            word = next(text for text in found.groupdict().values() if text)
            yield subject.error(
                "HM122",
                place,
                f"{what} holds a secret ({word})",
                "everybody who gets the image, or this file, can read it",
                "hand it to the machine when it is made: custom data, a key vault, a managed identity",
            )


def packages_at_odds(subject: Subject) -> Iterator[Finding]:
    """HM127: no package is asked for and forbidden."""
    packages = subject.plan.packages
    for request in packages.install:
        found = next((word for word in packages.exclude if fnmatch.fnmatchcase(request.name, word)), None)
        if found is not None:
            as_what = "" if found == request.name else f" as {found}"
            yield subject.error(
                "HM127",
                request.where,
                f"{request.name} is in packages.install, and in packages.exclude{as_what}",
                "the package manager doesn't see what is excluded: it would not find it",
                "remove it from one",
            )


def gallery_name(subject: Subject) -> Iterator[Finding]:
    """HM123: the full name is one that a Compute Gallery accepts."""
    name = subject.recipe.name
    if len(name) > _LONGEST_NAME:
        yield subject.error(
            "HM123",
            subject.recipe.where("recipe"),
            f"the name {name} has {len(name)} characters",
            f"a Compute Gallery takes {_LONGEST_NAME}",
            "shorten the recipe's name or the values of its variants",
        )


def _texts(subject: Subject) -> Iterator[tuple[Where | Origin, str, str]]:
    """Every text that the recipe writes: its place, what it is, and the text."""
    for file in subject.plan.files:
        yield file.where, file.path, file.content
    tree = subject.recipe.tree.children
    own = tree.get("scripts")
    for script in subject.plan.scripts:
        # The others are made of edits, whose quotes would hide what they say.
        if isinstance(own, Tree) and script.name in own.children:
            yield script.where, f"the script {script.name}", script.content
    for section in _DATA:
        for path, leaf in leaves(tree[section]) if section in tree else ():
            *_, key = path
            named = "" if isinstance(leaf, Item) else f"{key}="
            yield leaf.where, ".".join((section, *path)), f"{named}{leaf.value}"
