"""Rules about container images: what a container doesn't have, and what its users must be told."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from builder.recipe.findings import Finding, Subject
from builder.recipe.merge import settled

__all__ = ["labels_present", "no_machine"]

#: What only a machine has: sections of a recipe, and packages that container certification prohibits
#: (openshift-preflight, HasNoProhibitedPackages) or that nothing in a container uses.
_SECTIONS = (
    *("kernel", "dracut", "selinux", "bootloader", "disk", "services", "default_target", "outputs"),
    *("security", "ostree"),
)
_PACKAGES = ("kernel", "kernel-*", "grub2*", "shim-*", "kpatch*", "linux-firmware", "dracut*")
#: openshift-preflight, HasRequiredLabel; the others of its list come by themselves.
_LABELS = {"vendor": "who answers for the image", "maintainer": "whom its users may write to"}


def no_machine(subject: Subject) -> Iterator[Finding]:
    """HM124: a container has nothing of a machine."""
    if subject.plan.container is None:
        return
    for section in _SECTIONS:
        value = subject.recipe.tree.children.get(section)
        if value is not None and settled(value) is not None:
            yield subject.error(
                "HM124",
                subject.recipe.where(section),
                f"{section} in a recipe for a container",
                "a container has no disk, no kernel and no services of its own: it would be ignored",
                "remove it, and extend no layer that is about machines",
            )
    for request in subject.plan.packages.install:
        if any(fnmatch.fnmatchcase(request.name, pattern) for pattern in _PACKAGES):
            yield subject.error(
                "HM124",
                request.where,
                f"the package {request.name} in a recipe for a container",
                "nothing boots a container; Red Hat's container certification refuses such packages",
                "remove it",
            )


def labels_present(subject: Subject) -> Iterator[Finding]:
    """HM125: the labels that only people can give are there."""
    container = subject.plan.container
    if container is None:
        return
    for label, why in _LABELS.items():
        if not container.labels.get(label):
            yield subject.error(
                "HM125",
                container.where,
                f"container.labels has no {label}",
                f"it says {why}; Red Hat's container certification asks for it",
                "set it",
            )
