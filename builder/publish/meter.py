"""How far a transfer is: for a person one line in two seconds, for a program one JSON event a second."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from builder import log

__all__ = ["Meter"]

_MIB = 1 << 20


@dataclass(slots=True)
class Meter:
    """Counts bytes of one transfer.

    :param what: what is being done, in a word or two.
    :param total: bytes that this run has to move.
    :param present: bytes that are at the destination already.
    :param skipped: bytes that are zero and never move.
    """

    what: str
    total: int
    present: int = 0
    skipped: int = 0
    moved: int = 0
    _began: float = field(default_factory=time.monotonic)

    def add(self, length: int) -> None:
        """``length`` more bytes have moved."""
        self.moved += length
        seconds = max(time.monotonic() - self._began, 1e-6)
        rate = self.moved / seconds
        remaining = self.total - self.moved
        log.progress(
            self.what,
            self.moved / _MIB,
            self.total / _MIB,
            unit="MiB",
            note=f"{rate / _MIB:,.0f} MiB/s, about {remaining / rate:,.0f} s left" if remaining else "",
            remaining=remaining / _MIB,
            present=self.present / _MIB,
            skipped=self.skipped / _MIB,
            rate=round(rate / _MIB, 3),
        )
