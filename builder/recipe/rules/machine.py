"""Rules about the machine that the image runs on: firmware, processor, disk, kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

# The module, not what is in it: it needs the models of plans, so that each may be the first to be imported.
from builder.disk import layout
from builder.errors import HallmarkError
from builder.recipe.findings import Finding, Subject
from builder.recipe.resolve import default_processor

__all__ = [
    "boot_packages",
    "disk_size",
    "generation_and_architecture",
    "kernel_arguments",
    "outputs_bootable",
    "processor_level",
    "security_type",
]

_GIB = 1024
_FORBIDDEN = re.compile(
    r"(rhgb|quiet|single|rd\.break|selinux=0|enforcing=0|audit=0|mitigations=off|numa=off|init=.*"
    r"|libata\.atapi_enabled=0|systemd\.unit=rescue.*|(modprobe\.blacklist|rd\.driver\.blacklist)=.*hv_.*)\Z"
)


def generation_and_architecture(subject: Subject) -> Iterator[Finding]:
    """HM101: there is a generation to boot, and on aarch64 it isn't the first."""
    plan = subject.plan
    if plan.container is not None:
        return
    if not plan.disk.generations:
        yield subject.error(
            "HM101",
            subject.recipe.where("disk"),
            "a disk for no generation",
            "nothing could boot it",
            "set disk.generations to [1, 2], or to one of the two",
        )
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
    if plan.ostree is not None and not plan.ostree.compose:
        return
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
    if subject.plan.container is not None:
        return
    where = subject.recipe.where("disk", "size_mib")
    if 1 in disk.generations and disk.size_mib > 2048 * _GIB:
        yield subject.error(
            "HM103",
            where,
            "a generation 1 disk of more than 2 TiB",
            "BIOS firmware can't address what lies beyond",
            "make it smaller or leave generation 1 out",
        )
    if disk.size_mib > 4095 * _GIB and "azure" in subject.plan.certification.targets:
        yield subject.error(
            "HM103",
            where,
            "a disk of more than 4095 GiB for Azure",
            "the disk of an operating system can't be larger there",
            "make it smaller, or leave azure out of certification.targets",
        )
    try:
        root = layout.compute(disk, subject.plan.identifiers).partition("root").size // layout.MIB
    except HallmarkError as problem:
        yield subject.error(
            "HM103",
            where,
            problem.what,
            problem.why or "the filesystem can't be made",
            problem.hint or "change the sizes",
        )
        return
    if root < 10 * _GIB:
        yield subject.warning(
            "HM103",
            where,
            f"the root filesystem gets {root} MiB",
            "Red Hat's certification policy asks for 10 GiB; the file stays sparse, so size costs nothing",
            f"set disk.size_mib to {10 * _GIB + disk.esp_mib + disk.boot_mib + 3} or more",
        )


def outputs_bootable(subject: Subject) -> Iterator[Finding]:
    """HM126: every format can be booted by what it is for."""
    plan = subject.plan
    if "vhdx" in plan.outputs and 2 not in plan.disk.generations:
        yield subject.warning(
            "HM126",
            subject.recipe.where("outputs"),
            "a VHDX without generation 2",
            "it is mostly asked for because of machines of generation 2, and these can't boot it",
            "add 2 to disk.generations, or leave vhdx out of outputs",
        )


def security_type(subject: Subject) -> Iterator[Finding]:
    """HM119: the machine that the image is offered for can boot it."""
    plan = subject.plan
    if plan.security == "standard":
        return
    problems = []
    if 2 not in plan.disk.generations:
        problems.append(("without generation 2", "only UEFI firmware measures and verifies the boot"))
    if plan.security == "confidential":
        if 1 in plan.disk.generations:
            problems.append(("with generation 1", "a confidential machine boots by UEFI only"))
        if plan.architecture != "x86_64":
            problems.append(
                (f"for {plan.architecture}", "confidential machines have AMD or Intel processors")
            )
        if plan.distribution.major < 9:
            problems.append(
                (f"of release {plan.distribution.major}", "its kernel can't be a confidential guest")
            )
        if plan.disk.layout == "lvm":
            problems.append(("on LVM", "the platform encrypts one plain root partition"))
        if plan.disk.esp_mib < 510:
            problems.append(
                (
                    f"with an ESP of {plan.disk.esp_mib} MiB",
                    "the unified kernel images need 510 (cloud-image-val)",
                )
            )
    for what, why in problems:
        yield subject.error(
            "HM119",
            subject.recipe.where("disk"),
            f"security {plan.security} {what}",
            why,
            "change the disk, or set security to standard",
        )


def processor_level(subject: Subject) -> Iterator[Finding]:
    """HM120: the image runs on the processors that it promises to run on."""
    plan = subject.plan
    needed = default_processor(plan.distribution.major, plan.architecture)
    where = subject.recipe.where("processor")
    if needed is None:
        if plan.processor is not None:
            yield subject.error(
                "HM120",
                where,
                f"processor {plan.processor} for {plan.architecture}",
                "the levels are those of x86_64 processors",
                "remove processor",
            )
    elif plan.processor is not None and plan.processor < needed:
        yield subject.error(
            "HM120",
            where,
            f"{plan.distribution.name} {plan.distribution.major} for processors of level {plan.processor}",
            f"it is compiled for {needed} and stops in the first seconds of the boot on less",
            f"set processor to {needed} or remove it",
        )


def kernel_arguments(subject: Subject) -> Iterator[Finding]:
    """HM110: no argument hides messages or weakens the machine, and the serial console is the last one."""
    if subject.plan.container is not None:
        return
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
