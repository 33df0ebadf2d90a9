"""A support report in a guest: an errand, because of all that a guest is asked it takes longest (sos imports
some 350 plugins).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from certification.testkit import errand

if TYPE_CHECKING:
    from certification.views.base import GuestAccess

__all__ = ["PLUGINS", "begin", "collect"]

#: Two that run commands and copy files, and few of each: under emulation a full report takes longer than
#: everything else together. The plugins kernel and rpm, and xz instead of gzip, double what it takes.
PLUGINS = ("date", "memory")
_NAME = "report"


def begin(access: GuestAccess) -> str:
    """A shell line that starts the report in the background."""
    options = f'--batch --tmp-dir "$PWD" --threads 1 -z gzip -o {",".join(PLUGINS)}'
    return errand.begin(access, _NAME, f"sos report {options}")


def collect(access: GuestAccess) -> str:
    """A shell line that waits for the report, prints its status and its plugins, and removes it."""
    listing = (
        'for a in sosreport-*.tar.*; do case $a in *.sha256|*.md5) ;; *) tar -tf "$a" | '
        f"grep -o -E 'sos_commands/({'|'.join(PLUGINS)})' | sort -u;; esac; done"
    )
    return errand.collect(access, _NAME, then=listing)
