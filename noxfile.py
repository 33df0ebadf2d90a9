"""The sessions that release engineers and CI use: ``./ci/nox -l`` lists them.

Sessions are thin: the work is in the ``hallmark`` command and in the tests. They all run in the environment
that ``ci/nox`` made, because libguestfs's binding fits one interpreter only.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nox

# Whichever way nox was started: its own environment's programs come first.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"

nox.options.sessions = ["lint", "typecheck", "unit"]
nox.options.default_venv_backend = "none"

_ROOM = 8 << 30  # bytes; the unit tests' files take about a third of that

RECIPE = os.environ.get("HALLMARK_RECIPE", "sample-9")


def hallmark(session: nox.Session, *words: str) -> None:
    """Run the command line; words after ``--`` are passed on."""
    session.run("hallmark", *words, *session.posargs, external=True)


@nox.session
def doctor(session: nox.Session) -> None:
    """Examine the host and explain each miss."""
    hallmark(session, "doctor")


@nox.session
def release(session: nox.Session) -> None:
    """Build, certify and publish a recipe (default sample-9), then write the catalog."""
    hallmark(session, "release", *([] if session.posargs else [RECIPE]))


@nox.session
def build(session: nox.Session) -> None:
    """Build a recipe's image."""
    hallmark(session, "build", *([] if session.posargs else [RECIPE]))


@nox.session
def certify(session: nox.Session) -> None:
    """Certify the latest image of a recipe."""
    hallmark(session, "certify", *([] if session.posargs else [RECIPE]))


@nox.session
def requirement(session: nox.Session) -> None:
    """Look at one requirement in the latest image: -- ID [RECIPE]."""
    hallmark(session, "requirement")


@nox.session
def publish(session: nox.Session) -> None:
    """Publish the latest certified image of a recipe."""
    hallmark(session, "publish", *([] if session.posargs else [RECIPE]))


@nox.session(name="try")
def try_(session: nox.Session) -> None:
    """Build recipes of real distributions from the sample distribution (default: all of 8 to 10)."""
    session.run("python", "-m", "tests.stand_in", *session.posargs, external=True)


@nox.session
def catalog(session: nox.Session) -> None:
    """Write the catalog of every release."""
    hallmark(session, "catalog")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite: lint, types, unit tests, then everything that needs the real tools."""
    lint(session)
    typecheck(session)
    if session.posargs:
        session.run("pytest", "--durations=15", *session.posargs, external=True)
        return
    unit(session)
    with tempfile.TemporaryDirectory(prefix="hallmark-tests-") as directory:
        # What one test built is up to date for the others, whichever process they run in.
        session.env["HALLMARK_TEST_BUILD_DIR"] = os.environ.get("HALLMARK_TEST_BUILD_DIR", directory)
        hallmark(session, "sample-distribution")
        words = ("-m", "system and not slow", "--durations=15")
        side_by_side = ("-n", str(len(os.sched_getaffinity(0))), "--dist", "loadfile")
        session.run("pytest", *words, *side_by_side, "tests/builder", "tests/certification", external=True)
        # One after the other: these have guests of their own, which share the processors.
        session.run("pytest", *words, *map(str, sorted(Path("tests").glob("test_*.py"))), external=True)


@nox.session
def updates(session: nox.Session) -> None:
    """What running guests go through: certified by address, a new kernel, a new ostree commit and back."""
    words = session.posargs or ["tests/test_boot.py", "tests/test_atomic.py", "-m", "slow"]
    session.run("pytest", "--durations=5", *words, external=True)


@nox.session
def openscap(session: nox.Session) -> None:
    """Judge the sample image by a SCAP profile, and a damaged copy of it."""
    words = session.posargs or ["tests/certification/test_openscap_image.py"]
    session.run("pytest", "--durations=5", *words, external=True)


@nox.session
def containers(session: nox.Session) -> None:
    """Build the .NET container, run it with podman here and on a booted host, certify and publish it."""
    words = session.posargs or ["tests/test_dotnet_container.py"]
    session.run("pytest", "--durations=5", *words, external=True)


@nox.session
def unit(session: nox.Session) -> None:
    """The tests that need no root, no network and no virtual machine: under a minute."""
    # One more than there are processors: some of the tests wait for programs.
    side_by_side = ("-n", str(len(os.sched_getaffinity(0)) + 1), "--dist", "worksteal")
    # They make thousands of small files: in memory, where there is plenty of it.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > _ROOM
    with tempfile.TemporaryDirectory(prefix="hallmark-unit-", dir=memory if roomy else None) as scratch:
        words = ("-m", "not system", "-q", *side_by_side, f"--basetemp={scratch}/pytest", *session.posargs)
        session.run("pytest", *words, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.run("ruff", "check", ".", external=True)
    session.run("ruff", "format", "--check", ".", external=True)


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types, strictly."""
    session.run("mypy", external=True)


@nox.session
def mutants(session: nox.Session) -> None:
    """Damage copies of the latest image and see that certification notices each damage."""
    session.run("python", "-m", "certification.mutants", *session.posargs, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the stages on this machine, side by side, and print the ratios."""
    session.run("python", "-m", "tests.bench", *session.posargs, external=True)


@nox.session
def faults(session: nox.Session) -> None:
    """Break uploads at 200 points and prove that nothing wrong is left (--points N, --seed N, --only N)."""
    session.run("python", "-m", "tests.faults", *session.posargs, external=True)


@nox.session(name="docs-check")
def docs_check(session: nox.Session) -> None:
    """Run the commands and check the links of the documents."""
    session.run("pytest", "-q", "tests/test_docs.py", *session.posargs, external=True)


@nox.session(name="bare-machine")
def bare_machine(session: nox.Session) -> None:
    """Prove the package lists: bootstrap in a fresh Debian root and run a session there (default: unit)."""
    session.run("python", "-m", "tests.bare_machine", *session.posargs, external=True)


@nox.session
def pictures(session: nox.Session) -> None:
    """Take the README's pictures of the newest release with a real browser."""
    session.run("python", "-m", "tests.pictures", *session.posargs, external=True)
