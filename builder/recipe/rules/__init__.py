"""Every lint rule, each in the file of its subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from builder.recipe.findings import Finding, Subject
from builder.recipe.rules import container, content, machine, supply

__all__ = ["RULES"]

RULES: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    machine.generation_and_architecture,
    machine.boot_packages,
    machine.disk_size,
    supply.dotnet_offered,
    supply.dotnet_supported,
    supply.release_supported,
    supply.licence_and_client,
    supply.licence_and_visibility,
    supply.mixed_dotnet_feeds,
    machine.kernel_arguments,
    content.services_at_odds,
    supply.plain_http,
    supply.keys_present,
    content.idle_removals,
    content.waivers_present,
    content.policies_exist,
    content.targets_are_judged,
    supply.one_pin_for_a_key,
    supply.system_is_pinned,
    machine.security_type,
    machine.processor_level,
    content.signatures_are_checked,
    content.no_secrets,
    content.gallery_name,
    container.no_machine,
    container.labels_present,
    machine.outputs_bootable,
    content.packages_at_odds,
)
