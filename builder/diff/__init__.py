"""What differs between two recipes, two locks or two images; nothing here needs root or the network.

Either side is reduced to sections (packages, files, services, …) of named values, and these are compared. A
section that one side can't fill is said to be not compared: silence would read as "equal".
"""

from __future__ import annotations

from builder.diff.command import diff_command
from builder.diff.model import Difference, Side, compare

__all__ = ["Difference", "Side", "compare", "diff_command"]
