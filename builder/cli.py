"""``hallmark``: the command line. It parses, calls one function, and turns errors into text and a status.

Exit status: 0 success, 1 the work could not be done, 2 the command line is wrong, 3 ``diff`` found a
difference, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from builder import log
from builder.errors import EXIT_FAILURE, HallmarkError
from builder.grammar import Verb, parser
from builder.redaction import install_excepthook
from builder.workspace import Workspace

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the value is the process's exit status."""
    install_excepthook()
    options = parser().parse_args(arguments)
    log.configure(mode="json" if options.json else None, verbose=options.verbose)
    try:
        workspace = Workspace.default(build=options.build_dir, cache=options.cache_dir)
        verb: Verb = options.verb
        return verb(options, workspace)
    except HallmarkError as error:
        log.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        log.warn("interrupted; the next run goes on from the last complete stage")
        return 130
    except BrokenPipeError:
        return EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
