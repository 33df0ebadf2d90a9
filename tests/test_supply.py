"""Where content comes from: a mirror that asks for a certificate; the sample in a vendor's place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.sampledistro import SampleRepository
from builder.workspace import PROJECT, Workspace
from tests import stand_in
from tests.tls_mirror import Authority, serve

pytestmark = pytest.mark.system


@pytest.fixture
def space(workspace: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """A build directory of the test's own, gone afterwards."""
    place = Workspace.default(build=tmp_path / "build", cache=workspace.cache)
    yield place
    shutil.rmtree(place.build)


def test_an_entitled_build_leaves_no_trace_of_its_certificate(
    space: Workspace, sample_repository: SampleRepository, tmp_path: Path
) -> None:
    authority = Authority("Mirror authority")
    pair = authority.issue("builder-42")
    (tmp_path / "ca.pem").write_text(authority.pem)
    mirrors = tmp_path / "mirrors.yaml"
    with serve(sample_repository.path, authority, tmp_path) as (url, clients):
        mirrors.write_text(
            f"repositories:\n  sample:\n    baseurl: {url}\n"
            "    client_certificate: { secret: env:MIRROR_CERTIFICATE }\n"
            "    client_key: { secret: env:MIRROR_KEY }\n"
            f"    ca: {{ secret: 'file:{tmp_path}/ca.pem' }}\n"
        )
        argv = [sys.executable, "-m", "builder.cli", "build", "sample-9", "--json", "--verbose"]
        argv += ["--build-dir", str(space.build), "--cache-dir", str(space.cache)]
        done = subprocess.run(
            [*argv, "--repositories", str(mirrors)],
            env={**os.environ, "MIRROR_CERTIFICATE": pair.certificate, "MIRROR_KEY": pair.key},
            capture_output=True,
            check=False,
            cwd=PROJECT,
        )
    assert done.returncode == 0, done.stderr.decode()
    assert set(clients) == {"builder-42"}
    place = next(path for path in (space.build / "sample-9").iterdir() if path.is_dir())
    plan = json.loads((place / "plan.json").read_text())
    assert plan["repositories"][0]["client_key"]["secret"] == "env:MIRROR_KEY"
    assert plan["substitutions"][0]["now"] == url
    assert "Installed:" in (place / "log/rootfs.log").read_text(), "the search below must see dnf's own words"
    needles = pair.needles()
    assert [needle for needle in needles if needle in done.stdout + done.stderr] == []
    patterns = tmp_path / "patterns"
    patterns.write_bytes(b"\n".join(needles) + b"\n")
    # grep reads an image of 12 GiB quickly where it is sparse; -a because it is no text.
    search = ["grep", "-r", "-l", "-a", "-F", "-f", str(patterns)]
    places = [str(space.build), str(space.cache / "dnf")]
    found = subprocess.run([*search, *places], capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("", 1)
    (space.work / "seen").write_text(pair.key)
    found = subprocess.run([*search, str(space.work)], capture_output=True, text=True, check=False)
    assert found.stdout == f"{space.work}/seen\n", "the search itself must be able to find it"


def test_a_vendors_recipe_from_the_samples_content_fails_its_identity_and_nothing_else(
    space: Workspace, sample_repository: SampleRepository
) -> None:
    artefacts = stand_in.build(space, "centos-stream-9")
    plan = json.loads(artefacts.plan.read_text())
    told = {item["what"]: item["now"] for item in plan["substitutions"]}
    assert told["package centos-stream-release"] == "hallmark-sample-release"
    assert told["bootloader.vendor"] == "debian"
    found = stand_in.refused(space, artefacts)
    assert set(found) == stand_in.IDENTITY, found
    argv = [
        sys.executable,
        "-m",
        "builder.cli",
        "publish",
        "centos-stream-9",
        "--build-dir",
        str(space.build),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 1
    assert "has no certificate" in done.stderr
