"""Tests of the tests: damages to a good image, and the requirement that must notice each of them.

``*.yaml`` describes the mutants, ``operations`` applies them to a copy of an image, ``engine`` looks at the
copies with the same suites as a certification and says which mutants were killed and which survived.
"""

from __future__ import annotations
