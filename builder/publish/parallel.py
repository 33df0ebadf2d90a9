"""A bounded number of requests at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["CONCURRENCY", "concurrently"]

CONCURRENCY = 8
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def concurrently(work: Callable[[_Job], _Result], jobs: Iterator[_Job]) -> Iterator[_Result]:
    """Results of ``work`` as they come; the first error stops it all.

    Data is read by the job itself, so no more than ``CONCURRENCY`` pieces are in memory.
    """
    workers = CONCURRENCY
    with ThreadPoolExecutor(workers, thread_name_prefix="blob") as pool:
        running: set[Future[_Result]] = set()
        try:
            for job in jobs:
                running.add(pool.submit(work, job))
                if len(running) >= 2 * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
