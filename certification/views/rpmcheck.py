"""Asks this machine's rpm about the copy of the guest's database: is it sound and consistent."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from builder.run import run

if TYPE_CHECKING:
    from certification.views.base import GuestAccess

__all__ = ["faults", "unsatisfied"]


def unsatisfied(access: GuestAccess) -> list[str]:
    """Dependencies of installed packages that nothing installed provides, one line each.

    rpm itself resolves them, rich dependencies and all; files, digests and scripts are left out.
    """
    directory = access.rpmdb()
    argv = [
        "rpm",
        "--dbpath",
        str(directory),
        "-Va",
        "--nofiles",
        "--nodigest",
        "--nosignature",
        "--noscripts",
    ]
    result = run(argv, env={"HOME": str(directory)}, timeout=120, check=False)
    lines = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    if result.returncode != 0 and not lines:
        lines = [f"rpm -V ended with status {result.returncode} without saying why"]
    return lines


def faults(access: GuestAccess) -> list[str]:
    """What is wrong with the database itself: by ``rpmdb --verifydb`` and, for SQLite, by its own check."""
    directory = access.rpmdb()
    result = run(
        ["rpmdb", "--dbpath", str(directory), "--verifydb"],
        env={"HOME": str(directory)},
        timeout=120,
        check=False,
    )
    found = (
        []
        if result.returncode == 0
        else [(result.stderr or result.stdout).strip() or "rpmdb --verifydb failed"]
    )
    database = directory / "rpmdb.sqlite"
    if database.exists():
        connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
        try:
            rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
            found += [row for row in rows if row != "ok"]
        except sqlite3.DatabaseError as error:
            found.append(str(error))
        finally:
            connection.close()
    return found
