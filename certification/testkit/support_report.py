"""A support report in a guest: begun before the first test, collected when its turn comes.

Of all that a guest is asked it takes longest (sos imports some 350 plugins), and needs no answer meanwhile.
"""

from __future__ import annotations

import secrets
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certification.views.base import GuestAccess

__all__ = ["PLUGINS", "begin", "collect"]

#: A few only: under emulation a full report takes longer than everything else together.
PLUGINS = ("kernel", "rpm")
_SECONDS = 90


def _directory(access: GuestAccess) -> str:
    return f"/var/tmp/certification-{access.made('report', lambda: secrets.token_hex(8).encode()).decode()}"


def begin(access: GuestAccess) -> str:
    """A shell line that starts the report in the background."""
    place = _directory(access)
    return (
        f"mkdir -m 700 {place} || exit 1; cd {place} || exit 1; "
        '{ sos report --batch --tmp-dir "$PWD" --threads 1 -o '
        f"{','.join(PLUGINS)} & echo $! >pid; wait $!; "
        'echo "status: $?" >ended; mv ended status; } >log 2>&1 </dev/null &'
    )


def collect(access: GuestAccess) -> str:
    """A shell line that waits for the report, prints its status and its plugins, and removes it."""
    script = (
        f"cd {_directory(access)} || exit 1; "
        f"timeout {_SECONDS} sh -c 'until [ -e status ]; do sleep 0.2; done'; "
        "cat status || kill $(cat pid); "
        'for a in sosreport-*.tar.*; do case $a in *.sha256|*.md5) ;; *) tar -tf "$a" | '
        f"grep -o -E 'sos_commands/({'|'.join(PLUGINS)})' | sort -u;; esac; done; "
        'tail -3 log; cd /; rm -rf "$OLDPWD"; ls -d "$OLDPWD" 2>/dev/null || echo removed'
    )
    return f"sh -c {shlex.quote(script)}"
