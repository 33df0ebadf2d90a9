"""The root filesystem: a plan becomes a generated element, diskimage-builder makes a tar of it."""

from __future__ import annotations

from builder.rootfs.compile import Element, compile_element
from builder.rootfs.dib import Rootfs, build_rootfs, check_host, sweep
from builder.rootfs.repositories import ResolvedRepository

__all__ = [
    "Element",
    "ResolvedRepository",
    "Rootfs",
    "build_rootfs",
    "check_host",
    "compile_element",
    "sweep",
]
