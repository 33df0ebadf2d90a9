"""A small tree of recipes and layers to break in one place at a time."""

from __future__ import annotations

import textwrap
from pathlib import Path

MINIMAL = """
recipe: demo-9
title: Demo
summary: A recipe for tests.
extends: [base]
distribution: {id: centos, name: Demo Linux, release: "9"}
repositories:
  main:
    baseurl: https://example.invalid/$releasever/$major/$basearch
    key: keys/KEY
    fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567
certification: {policies: [ccsp, azure-marketplace, hyperv-on-premises]}
"""

BASE = """
layer: base
summary: What the demo needs.
packages: {install: [kernel, grub2-pc, grub2-efi-x64, shim-x64, efibootmgr]}
kernel: {arguments: [console=tty1, console=ttyS0]}
disk: {size_mib: 12288}
"""


class RecipeTree:
    """Writes recipes and layers below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "layers").mkdir()
        (root / "keys").mkdir()
        (root / "keys" / "KEY").write_text("a key")
        self.layer("base", BASE)
        self.recipe(MINIMAL)

    def recipe(self, text: str, name: str = "demo-9") -> Path:
        return self._write(self.root / f"{name}.yaml", text)

    def layer(self, name: str, text: str) -> Path:
        return self._write(self.root / "layers" / f"{name}.yaml", text)

    def demo(self, more: str = "", **changes: str) -> Path:
        """The minimal recipe with text replaced and text added at the end."""
        text = MINIMAL
        for old, new in changes.items():
            text = text.replace(old, new)
        return self.recipe(text + textwrap.dedent(more))

    def _write(self, path: Path, text: str) -> Path:
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path
