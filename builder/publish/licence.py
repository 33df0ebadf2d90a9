"""The licence guard: who may have which content. Nothing turns it off."""

from __future__ import annotations

from builder.errors import HallmarkError
from builder.recipe.model import Licence, Visibility

__all__ = ["guard"]

#: The distributions that must never be public, by os-release ID, with the reason.
_NEVER_PUBLIC = {
    "rhel": "Red Hat's agreements forbid passing RHEL content on to the public",
}
#: So must no content be that somebody pays for, whatever its distribution.
_PAID: dict[Licence, str] = {
    "byos": "its users bring a subscription: who has none must not get the content",
    "payg": "its users pay for each hour: who doesn't must not get the content",
}


def guard(system: str, *, name: str, licence: Licence, visibility: Visibility, where: str) -> None:
    """Refuse content for people who may not have it.

    :param system: the distribution's os-release ID; ``name`` is what messages call it.
    :raises HallmarkError: RHEL, or content with a price, with a visibility other than private or tenant.
    """
    reason = _NEVER_PUBLIC.get(system) or _PAID.get(licence)
    if reason and visibility not in ("private", "tenant"):
        raise HallmarkError(
            f"{name} must not be published with visibility {visibility!r}",
            where=where,
            why=reason,
            hint="set `visibility: private` or `visibility: tenant` in the recipe",
        )
