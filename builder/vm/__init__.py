"""Virtual machines: boot an image the way Azure and Hyper-V do, and log in to it."""

from __future__ import annotations

from builder.vm.shell import interactive

__all__ = ["interactive"]
