"""Python byte code for packaged modules.

Debian compiles when it installs; RPM packages carry the result, so that it is verified like any file. The
pycs are of the kind that is never checked against the source (PEP 552), which needs no times and is
deterministic.
"""

from __future__ import annotations

import importlib.util
import marshal
import posixpath
import sys
from collections.abc import Mapping

from builder.errors import HallmarkError

__all__ = ["MODULE_TREES", "compile_modules"]

MODULE_TREES = ("/usr/lib/python3/", "/usr/lib/python3.11/")
_FLAGS_UNCHECKED_HASH = (0b01).to_bytes(4, "little")


def compile_modules(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """The content of ``__pycache__/*.cpython-311.pyc`` for modules by path. What doesn't compile is left out.

    :raises HallmarkError: this is not Python 3.11, whose byte code the distribution's Python reads.
    """
    if sys.version_info[:2] != (3, 11):
        raise HallmarkError(
            f"the sample distribution is made with Python 3.11, this is {sys.version.split()[0]}",
            why="the packages of its Python carry byte code, which is different in every version of Python",
            hint="run Hallmark with the system's Python of Debian 12: ./ci/nox makes such an environment",
        )
    result: dict[str, bytes] = {}
    for path, source in sources.items():
        directory, name = posixpath.split(path)
        target = f"{directory}/__pycache__/{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
        try:
            code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError):  # templates and deliberately broken test data
            continue
        digest = importlib.util.source_hash(source)
        result[target] = importlib.util.MAGIC_NUMBER + _FLAGS_UNCHECKED_HASH + digest + marshal.dumps(code)
    return result
