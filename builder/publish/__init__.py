"""Publishing: the gate, the upload, the release record. Nothing uncertified leaves the build directory."""

from __future__ import annotations

from builder.publish.gate import Certified, check
from builder.publish.publish import publish
from builder.publish.release import Release

__all__ = ["Certified", "Release", "check", "publish"]
