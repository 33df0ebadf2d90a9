"""How much memory this host has to give."""

from __future__ import annotations

from pathlib import Path

__all__ = ["available"]


def available() -> int:
    """Bytes that new processes can use without swapping (``MemAvailable``, proc(5)); 0 if unknown."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0
