"""Where a guest gets its updates: from repositories, an update client, or its owner's subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certification.parse import text

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest

__all__ = ["has_origin", "left_to_subscription", "update_clients"]


def update_clients(guest: Guest) -> list[str]:
    """Packages that are the client of Azure's RHUI, by name; an image that is paid by the hour has one."""
    return sorted(name for name in guest.package_names if name.startswith("rhui-azure-"))


def left_to_subscription(guest: Guest, facts: Facts, check: Checks) -> bool:
    """Whether the image names no repository because its owner's subscription will; then it is recorded
    whether it can.

    On an image that its owner registers, subscription-manager writes redhat.repo at registration: before it
    there is no repository (subscription-manager(8); rhsm.conf(5), ``manage_repos``, whose default is 1). An
    image with an update client has that client's, and of other distributions every image brings its own.
    """
    client = facts.subscription_client
    if client is None or guest.repositories or update_clients(guest):
        return False
    check.contains("packages, as no repository is configured", expected=client, observed=guest.package_names)
    values = text.ini(guest.content("/etc/rhsm/rhsm.conf")).get("rhsm", {})
    check.equal("manage_repos", expected="1", observed=values.get("manage_repos", "1"))
    return True


def has_origin(guest: Guest, facts: Facts, path: str) -> bool:
    """A package owns this repository file, or it is the one that an installed subscription client writes."""
    real = guest.inventory.resolve(path) or path
    written = facts.subscription_client in guest.package_names
    return real in guest.owners or (written and facts.allowed_unowned(real, link=False) is not None)
