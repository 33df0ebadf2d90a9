"""SCAP profiles, rule by rule against what is expected of a cloud image; for policies that ask for one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certification.checks import not_applicable, requirement
from certification.views import openscap

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest


def _profile(name: str, host: Any, guest: Guest, facts: Facts, check: Checks) -> None:
    how = facts.profile(name)
    if how is None:
        not_applicable(f"no SCAP content is known that has {name} for {facts.os_id} {facts.version}")

    def look() -> bytes:
        with host.backend.unpacked() as tree, tempfile.TemporaryDirectory(prefix="openscap-") as work:
            return openscap.evaluate(
                tree,
                profile=name,
                content=openscap.CONTENT / how["content"],
                package=next(name for name in facts.release_packages if name in guest.package_names),
                platform=how.get("platform"),
                work=Path(work),
            )

    found = openscap.Evaluation.model_validate_json(guest.access.made(f"openscap {name}", look))
    check.at_least("rules that were judged", expected=1, observed=len(found.judged()))
    expected = {rule: row["result"] for row in how["differs"] for rule in row["rules"]}
    for rule, result in sorted(found.judged().items()):
        check.equal(rule, expected=expected.get(rule, "pass"), observed=result)
    gone = sorted(set(expected) - set(found.judged()))
    check.empty("expectations about rules that were not judged", observed=gone)


@requirement("security.scap-cis-server-l1")
def test_cis_server_level_1(host: Any, guest: Guest, facts: Facts, check: Checks) -> None:
    _profile("cis_server_l1", host, guest, facts, check)


@requirement("ccsp.scap-rht-ccp")
def test_cloud_provider_profile(host: Any, guest: Guest, facts: Facts, check: Checks) -> None:
    _profile("rht-ccp", host, guest, facts, check)
