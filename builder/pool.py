"""Work side by side, in as many places as this host has room for, whichever image it is for."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from builder import memory
from builder.run import Programs

__all__ = ["Pool", "places"]

_T = TypeVar("_T")


def places(wanted: int, *, memory_mib: int) -> int:
    """How many programs this host runs at once: one for each processor and as many as its memory holds.

    :param wanted: how many there are to run.
    :param memory_mib: what each takes.
    """
    processors = len(os.sched_getaffinity(0))
    return max(1, min(wanted, processors, (memory.available() >> 20) // memory_mib))


class Pool:
    """Jobs in threads, never more at once than there are places, for the length of a ``with`` block.

    A thread is enough for a job whose work is done by programs that it waits for. A job that fails leaves
    the others alone. An exception that leaves the block, an interruption above all, ends them: those that
    wait never begin, and the programs of those that run are killed, so that nobody waits for them.
    """

    def __init__(self, places: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=places)
        self._programs = Programs()

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        """Do a job as soon as there is a place, in the order of asking; what it logs is about what the
        caller's is (``log.about``).
        """
        with self._programs.within():
            return self._threads.submit(contextvars.copy_context().run, job)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._programs.stop()
        self._threads.shutdown(cancel_futures=kind is not None)
