"""A command that takes long in a guest: begun before the first test, its end awaited when its turn comes.

It needs no answer meanwhile, and leaves nothing behind: its files lie in a directory of its own.
"""

from __future__ import annotations

import secrets
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certification.views.base import GuestAccess

__all__ = ["begin", "collect"]

_SECONDS = 90


def _directory(access: GuestAccess, name: str) -> str:
    return f"/var/tmp/certification-{access.made(name, lambda: secrets.token_hex(8).encode()).decode()}"


def begin(access: GuestAccess, name: str, command: str) -> str:
    """A shell line that starts ``command`` in the background, in a new directory, under ``name``."""
    place = _directory(access, name)
    return (
        f"mkdir -m 700 {place} || exit 1; cd {place} || exit 1; "
        f'{{ {command} & echo $! >pid; wait $!; echo "status: $?" >ended; mv ended status; }} '
        ">log 2>&1 </dev/null &"
    )


def collect(access: GuestAccess, name: str, *, then: str = "") -> str:
    """A shell line that waits for it (at most 90 s more), prints its status, what the command ``then`` prints
    in its directory, the last lines of its log, and ``removed`` once the directory is gone.
    """
    script = (
        f"cd {_directory(access, name)} || exit 1; "
        f"timeout {_SECONDS} sh -c 'until [ -e status ]; do sleep 0.2; done'; "
        f"cat status || kill $(cat pid); {then and f'{then}; '}"
        'tail -5 log; cd /; rm -rf "$OLDPWD"; ls -d "$OLDPWD" 2>/dev/null || echo removed'
    )
    return f"sh -c {shlex.quote(script)}"
