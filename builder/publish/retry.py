"""When a request is sent again: after a pause of our own, or the longer one that the service asks for.

The storage library retries by its own clock and never looks at Retry-After (12.31): a service that throttles
and is asked again too soon throttles longer.
"""

from __future__ import annotations

import random
from typing import Any

from azure.storage.blob import ExponentialRetry

__all__ = ["PATIENCE", "Retry"]

#: The longest pause in seconds that is granted; a service that needs longer ends the run, the next goes on.
PATIENCE = 60.0


class Retry(ExponentialRetry):
    """Sends a request up to ``tries`` times more, after ``pause`` seconds, then twice that, and so on."""

    def __init__(self, *, tries: int = 6, pause: float = 1.0) -> None:
        super().__init__(retry_total=tries, retry_connect=tries, retry_read=tries, retry_status=tries)
        self._pause = pause

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """The pause before the next try, in seconds; spread, so that clients don't meet again."""
        own: float = self._pause * 2.0 ** max(0, settings["count"] - 1) * random.uniform(0.75, 1.25)
        response = settings["history"][-1].http_response if settings["history"] else None
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        return min(PATIENCE, max(own, float(asked) if asked.isdecimal() else 0.0))
