"""Fixtures that many tests share: each expensive thing is made once in a session.

The build directory of the session is kept when ``HALLMARK_TEST_BUILD_DIR`` names one: a second run then finds
its images up to date.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import log
from builder.workspace import PROJECT, Artefacts, Workspace, one_at_a_time

if TYPE_CHECKING:
    from builder.sampledistro import SampleRepository


@pytest.fixture(scope="session", autouse=True)
def _own_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sign with a key of the session's own, never with the user's."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HALLMARK_KEY_DIR", str(tmp_path_factory.mktemp("keys")))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _plain_log() -> Iterator[None]:
    """A verb that ran in this process with ``--json`` leaves nothing for the next test."""
    yield
    log.configure()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The session's build directory and the machine's package cache."""
    named = os.environ.get("HALLMARK_TEST_BUILD_DIR")
    # Not below /tmp where that is a small memory filesystem: an image is about a gigabyte.
    build = Path(named) if named else Path(tmp_path_factory.mktemp("build"))
    return Workspace.default(build=build)


@pytest.fixture(scope="session")
def sample_repository(workspace: Workspace) -> SampleRepository:
    """The sample distribution, made if it is not in the cache."""
    from builder import sampledistro

    return sampledistro.ensure(cache=workspace.cache)


@pytest.fixture(scope="session")
def sample_image(workspace: Workspace, sample_repository: SampleRepository) -> Artefacts:
    """The sample recipe, built with its default filesystem (ext4); one worker builds, the others wait."""
    from builder.pipeline import Pipeline

    with one_at_a_time(workspace.work / "tests.lock", "build the tests' image"):
        return Pipeline(workspace, "sample-9").build()


@pytest.fixture(scope="session")
def library_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample for a Hyper-V library: on XFS, in every format, and changed here and there."""
    images = tmp_path_factory.mktemp("recipes") / "images"
    shutil.copytree(PROJECT / "images", images)
    recipe = images / "sample-9-library.yaml"
    text = (PROJECT / "images" / "sample-9.yaml").read_text()
    for old, new in (
        ("recipe: sample-9\n", "recipe: sample-9-library\n"),
        ("ostree, podman]", "podman]"),
        ("arguments: [security=selinux]", "arguments: [security=selinux, panic=30]"),
        ("disk:\n", "outputs: [vhdx, qcow2, oci]\n\ndisk:\n"),
        ("filesystem: ext4", "filesystem: xfs"),
        ("services:\n", "services:\n  mask: [ctrl-alt-del.target]\n"),
        ("files:\n", "files:\n  /etc/motd.d/library: { content: welcome }\n"),
    ):
        assert old in text
        text = text.replace(old, new)
    text += '\nscripts:\n  90-worker: { content: "#!/bin/sh\\nuseradd --system --uid 700 worker\\n" }\n'
    recipe.write_text(text)
    return recipe


@pytest.fixture(scope="session")
def library_image(
    workspace: Workspace, sample_repository: SampleRepository, library_recipe: Path
) -> Artefacts:
    """The recipe for a library, built; its filesystems go through libguestfs.

    Of the tests that run side by side, one file alone may use it: a build that runs already is an error for
    a second process.
    """
    from builder.pipeline import Pipeline

    return Pipeline(workspace, str(library_recipe)).build()
