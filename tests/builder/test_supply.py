"""A vendor's recipe, built from the sample's content on a mirror that wants a certificate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.sampledistro import SampleRepository
from builder.workspace import PROJECT, Artefacts, Workspace
from tests import stand_in
from tests.tls_mirror import Authority, Pair, serve

pytestmark = pytest.mark.system

RECIPE = "centos-stream-9"


@dataclass(frozen=True)
class Entitled:
    """A build that had to show a certificate: its artefacts, what it printed, who the server saw."""

    space: Workspace
    artefacts: Artefacts
    pair: Pair
    printed: bytes
    clients: frozenset[str]


@pytest.fixture(scope="module")
def entitled(
    workspace: Workspace, sample_repository: SampleRepository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Entitled]:
    outside = tmp_path_factory.mktemp("outside")
    space = Workspace.default(build=tmp_path_factory.mktemp("entitled") / "build", cache=workspace.cache)
    authority = Authority("Mirror authority")
    pair = authority.issue("builder-42")
    (outside / "ca.pem").write_text(authority.pem)
    mirrors = outside / "mirrors.yaml"
    with serve(sample_repository.path, authority, outside) as (url, clients):
        address = (
            f"baseurl: {url}\n    client_certificate: {{ secret: env:MIRROR_CERTIFICATE }}\n"
            f"    client_key: {{ secret: env:MIRROR_KEY }}\n    ca: {{ secret: 'file:{outside}/ca.pem' }}"
        )
        text = stand_in.MIRROR.read_text().replace("embedded: sample-distribution", address)
        mirrors.write_text(text.replace("key: keys/", f"key: {stand_in.MIRROR.parent}/keys/"))
        argv = [sys.executable, "-m", "builder.cli", "build", RECIPE, "--json", "--verbose"]
        argv += ["--build-dir", str(space.build), "--cache-dir", str(space.cache)]
        done = subprocess.run(
            [*argv, "--repositories", str(mirrors)],
            env={**os.environ, "MIRROR_CERTIFICATE": pair.certificate, "MIRROR_KEY": pair.key},
            capture_output=True,
            check=False,
            cwd=PROJECT,
        )
    assert done.returncode == 0, done.stderr.decode()
    place = next(path for path in (space.build / RECIPE).iterdir() if path.is_dir())
    yield Entitled(space, Artefacts(place), pair, done.stdout + done.stderr, frozenset(clients))
    shutil.rmtree(space.build)


def test_an_entitled_build_leaves_no_trace_of_its_certificate(entitled: Entitled, tmp_path: Path) -> None:
    assert entitled.clients == {"builder-42"}
    log = (entitled.artefacts.log / "rootfs.log").read_text()
    assert "Installed:" in log, "the search below must see dnf's own words"
    repository = json.loads(entitled.artefacts.plan.read_text())["repositories"][0]
    assert repository["client_key"]["secret"] == "env:MIRROR_KEY"
    assert [needle for needle in entitled.pair.needles() if needle in entitled.printed] == []
    patterns = tmp_path / "patterns"
    patterns.write_bytes(b"\n".join(entitled.pair.needles()) + b"\n")

    def lines_with_secrets(*places: Path) -> int:
        # Through tar, which leaves out the holes of a 32 GiB image.
        packed = ("tar", "--create", "--sparse", "--file", "-", *map(str, places))
        wanted = ("grep", "--count", "--text", "--fixed-strings", "--file", str(patterns))
        with subprocess.Popen(packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar:
            found = subprocess.run(wanted, stdin=tar.stdout, capture_output=True, text=True, check=False)
        assert tar.returncode == 0
        return int(found.stdout)

    assert lines_with_secrets(entitled.space.build, entitled.space.cache / "dnf") == 0
    seen = entitled.space.work / "seen"
    seen.write_text(entitled.pair.key)
    assert lines_with_secrets(entitled.space.work) > 0, "the search itself must be able to find it"
    seen.unlink()


def test_a_vendors_recipe_from_the_samples_content_fails_its_identity_and_nothing_else(
    entitled: Entitled,
) -> None:
    plan = json.loads(entitled.artefacts.plan.read_text())
    told = {item["what"]: item["now"] for item in plan["substitutions"]}
    assert told["package centos-stream-release"] == "hallmark-sample-release"
    assert told["bootloader.vendor"] == "debian"
    assert told["repository baseos"].startswith("https://127.0.0.1:")
    found = stand_in.refused(entitled.space, entitled.artefacts)
    assert set(found) == stand_in.IDENTITY, found
    argv = [sys.executable, "-m", "builder.cli", "publish", RECIPE, "--build-dir", str(entitled.space.build)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 1
    assert "has no certificate" in done.stderr
