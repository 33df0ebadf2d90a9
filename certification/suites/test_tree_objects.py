"""Every bit of an ostree host's tree. This file is the last by name: what it waits for was begun first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from certification.checks import requirement
from certification.testkit import object_store

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.views.guest import Guest


@requirement("atomic.fsck")
def test_objects(guest: Guest, check: Checks) -> None:
    # It was begun by the fixture `begun_early`.
    output = guest.host.run(object_store.collect(guest.access)).stdout
    check.contains("ostree fsck", expected="status: 0", observed=output)
    done = re.search(r"fsck of (\d+) commits completed successfully", output)
    check.at_least("commits that are whole", expected=1, observed=int(done[1]) if done else 0)
    if guest.command("findmnt -no SOURCE -T /usr").strip() == "composefs":
        return  # such a /usr is a list of objects by digest, and nothing can be added (ostree: composefs)
    # A deployment is made of links to the objects: what has one name only is in no commit. Empty files are
    # copied (ostree-checkout(1), --force-copy-zerosized, which deployments use).
    strange = guest.command("find /usr -xdev -type f -size +0c -links 1").splitlines()
    check.empty("files below /usr that are no objects", observed=strange)
