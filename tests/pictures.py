"""Take the README's pictures with a real browser: ./ci/nox -s pictures

Shows the report and the catalog page of the newest release in the build directory.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from builder import versions
from builder.run import run
from builder.workspace import PROJECT, Workspace

__all__ = ["main", "take"]

TARGET = PROJECT / ".readme"


def take(page: Path, picture: Path, *, width: int = 1200, height: int = 1100) -> None:
    """Render a page in headless Chromium; sizes in CSS pixels.

    :raises HallmarkError: the browser is missing or didn't answer.
    """
    with tempfile.TemporaryDirectory() as profile:
        run(
            [
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                f"--screenshot={picture}",
                page.resolve().as_uri(),
            ],
            timeout=120,
        )


def main(words: list[str]) -> int:
    """Take both pictures of a recipe's newest version."""
    workspace = Workspace.default()
    artefacts = versions.newest(workspace, words[0] if words else "sample-9")
    if artefacts is None or not artefacts.report_html.exists():
        print("there is nothing to show yet: run ./ci/nox -s release first", file=sys.stderr)
        return 1
    TARGET.mkdir(exist_ok=True)
    take(artefacts.report_html, TARGET / "report.png")
    take(workspace.catalog / "index.html", TARGET / "catalog.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
