"""``sparseSha256`` as the documents say that anybody can compute it."""

from __future__ import annotations

import re
from pathlib import Path

from builder.workspace import PROJECT

__all__ = ["by_hand"]

README = PROJECT / "certification" / "README.md"


def by_hand(path: Path) -> str:
    """``sparseSha256`` as certification/README.md computes it, by reading every byte."""
    [code] = re.findall(r"```python\n(from hashlib.*?)```", README.read_text(), re.DOTALL)
    printed: list[str] = []
    exec(code.replace('"image.vhd"', repr(str(path))), {"print": printed.append})
    return printed[0]
