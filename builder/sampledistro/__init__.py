"""The sample distribution: an RPM repository made on the spot from Debian packages.

A stand-in with Enterprise Linux names and layout, so that the whole pipeline runs and is tested on any
machine, without a mirror or a subscription. ``images/sample-distribution/README.md`` says what it is and
what it is not.
"""

from __future__ import annotations

from builder.sampledistro.repository import SampleRepository, ensure

__all__ = ["SampleRepository", "ensure"]
