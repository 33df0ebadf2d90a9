"""Systems that are deployed and updated as a whole: ostree commits, made here or taken from a repository."""

from __future__ import annotations

from builder.ostree.repository import Commit

__all__ = ["Commit"]
