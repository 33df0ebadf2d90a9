"""The main job, end to end: RPMs become a certified, booted, published VHD; and it survives kill -9."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder import versions
from builder.image import vhd
from builder.workspace import Artefacts, Workspace, digest_file
from certification import certificate
from tests.command import hallmark, kill_in, left_behind
from tests.pictures import take

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def released(workspace: Workspace, sample_image: Artefacts) -> Artefacts:
    """The sample, released by the same command that a person would use."""
    hallmark(workspace, "release", "sample-9")
    latest = workspace.latest("sample-9")
    assert latest is not None
    return latest


def test_a_release_leaves_every_artefact(released: Artefacts, workspace: Workspace) -> None:
    for path in (
        released.image,
        released.plan,
        released.packages,
        released.sbom,
        released.certificate,
        released.report_html,
        released.report_xml,
        released.evidence,
        released.release,
    ):
        assert path.stat().st_size > 0, path
    assert versions.VERSION.match(released.root.name)
    catalog = json.loads((workspace.catalog / "catalog.json").read_text())
    assert digest_file(released.image) in json.dumps(catalog)
    assert released.root.name in (workspace.catalog / "index.html").read_text()


def test_the_image_has_a_size_that_azure_takes(released: Artefacts) -> None:
    assert vhd.deviations(released.image) == []
    status = released.image.stat()
    assert (status.st_size - 512) % (1 << 20) == 0
    assert status.st_blocks * 512 < status.st_size / 2, "the image is not sparse"


def test_the_waiver_is_visible_and_the_runtime_is_red(released: Artefacts) -> None:
    results = released.results.read_text()
    assert re.search(r'"dotnet\.channel-supported"', results)
    assert "waived" in released.report_html.read_text().lower()


def test_nothing_changed_means_nothing_to_do(released: Artefacts, workspace: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in released.root.rglob("*") if path.is_file()}
    done = hallmark(workspace, "release", "sample-9", "--json")
    stages = [json.loads(line) for line in done.stdout.splitlines() if '"stages"' in line][-1]["stages"]
    worked = [stage["name"] for stage in stages if stage["state"] == "done"]
    assert worked == ["catalog"]
    after = {path: path.stat().st_mtime_ns for path in released.root.rglob("*") if path.is_file()}
    changed = {path.name for path in before if before[path] != after.get(path)}
    assert changed <= {"plan.json"}


def test_verify_needs_the_public_key_alone(released: Artefacts, workspace: Workspace, tmp_path: Path) -> None:
    public = next(Path(os.environ["HALLMARK_KEY_DIR"]).glob("*.pub*"))
    key = shutil.copy(public, tmp_path / "hallmark.pub")
    hallmark(workspace, "verify", str(released.image), str(released.certificate), "--key", str(key))


@pytest.fixture
def altered(released: Artefacts, tmp_path: Path, workspace: Workspace) -> Iterator[Artefacts]:
    """A copy of the released image that a test may spoil, in a build directory of its own."""
    place = Artefacts(tmp_path / "build" / "sample-9" / released.root.name)
    subprocess.run(
        ["cp", "--archive", "--sparse=always", str(released.root), str(place.root)],
        check=True,
        preexec_fn=lambda: place.root.parent.mkdir(parents=True),
    )
    yield place
    shutil.rmtree(tmp_path / "build")


@pytest.mark.parametrize("damage", ["truncated", "edited"])
@pytest.mark.parametrize("verb", ["certify", "publish", "verify"])
def test_a_damaged_image_is_refused(altered: Artefacts, workspace: Workspace, verb: str, damage: str) -> None:
    space = Workspace(altered.root.parent.parent, workspace.cache)
    with altered.image.open("r+b") as stream:
        if damage == "truncated":
            stream.truncate(altered.image.stat().st_size - 1024)
        else:
            stream.seek(3 << 20)
            stream.write(b"one edit")
    words = {
        "certify": ["certify", "sample-9"],
        "publish": ["publish", "sample-9", "--destination", f"file://{space.build}/share"],
        "verify": ["verify", str(altered.image), str(altered.certificate)],
    }[verb]
    done = hallmark(space, *words, status=1)
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert str(altered.image) in done.stderr.replace("\n", "")
    assert not (space.build / "share").exists() or not list((space.build / "share").rglob("*.vhd"))


def test_an_uncertified_image_is_not_published(altered: Artefacts, workspace: Workspace) -> None:
    space = Workspace(altered.root.parent.parent, workspace.cache)
    altered.certificate.unlink()
    done = hallmark(space, "publish", "sample-9", status=1)
    assert "no certificate" in done.stderr


def test_a_killed_look_leaves_nothing_behind_and_is_taken_again(
    altered: Artefacts, workspace: Workspace
) -> None:
    space = Workspace(altered.root.parent.parent, workspace.cache)
    booted, disk = (altered.stages / f"observe-{name}.json" for name in ("booted-bios", "disk"))
    looked = booted.read_bytes()
    certificate = altered.certificate.read_bytes()
    booted.unlink()
    disk.unlink()
    kill_in(space, "certify", step="look at the booted view, bios", after=8)
    assert left_behind(space) == []
    booted.write_bytes(looked)
    kill_in(space, "certify", step="look at the disk view", after=15)
    assert left_behind(space) == []
    assert not disk.exists()
    assert altered.certificate.read_bytes() == certificate
    done = hallmark(space, "certify", "sample-9", "--json")
    stages = [json.loads(line) for line in done.stdout.splitlines() if '"stages"' in line][-1]["stages"]
    states = {item["name"]: item["state"] for item in stages}
    assert states["observe-disk"] == "done"
    assert {states[f"observe-{name}"] for name in ("booted-uefi", "booted-bios", "format")} == {"up to date"}


def test_the_recording_gives_the_same_verdicts_without_the_image(
    released: Artefacts, workspace: Workspace, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (released.evidence, released.plan, released.certificate):
        shutil.copy(path, copy)
    for look in (released.root / "observations").iterdir():
        shutil.copytree(look / "recorded", copy / "observations" / look.name / "recorded")

    def replay(*words: str, status: int) -> dict[str, str]:
        out = tmp_path / "out"
        hallmark(
            workspace,
            "certify",
            "--replay",
            str(copy / "evidence.jsonl"),
            "--out",
            str(out),
            *words,
            status=status,
        )
        document = json.loads((out / "results.json").read_text())
        return {item["requirement"]: item["verdict"] for item in document["results"]}

    before = json.loads(released.results.read_text())
    assert replay(status=0) == {item["requirement"]: item["verdict"] for item in before["results"]}
    # Another policy judges fewer; nobody waives what fails there.
    fewer = replay("--policy", "hyperv-on-premises", status=1)
    assert fewer and set(fewer) < {item["requirement"] for item in before["results"]}
    assert {name for name, verdict in fewer.items() if verdict == "fail"} == {"security.crypto-policy"}
    # One character of what the guest said: the seal and the certificate both say so.
    text = (copy / "evidence.jsonl").read_text()
    (copy / "evidence.jsonl").write_text(text.replace("SELinux status:", "SELinux stands:", 1))
    changed = replay(status=1)
    assert changed["ccsp.selinux-enforcing"] == "error"
    problems = json.loads((tmp_path / "out" / "results.json").read_text())["problems"]
    assert any("isn't the one that the certificate beside it was issued on" in text for text in problems)


def test_the_certificate_says_how_the_image_was_built(released: Artefacts, tmp_path: Path) -> None:
    """On another machine: with the public key, without this machine's keys, build directory or project."""
    key = tmp_path / "hallmark.pub"
    shutil.copy(Path(os.environ["HALLMARK_KEY_DIR"]) / "certificate-key.pub.pem", key)
    found = certificate.verify(released.image, released.certificate, key, now=datetime.now(UTC))
    assert found.provenance is not None
    build = found.provenance.build_definition
    installed = json.loads(released.packages.read_text())
    named = {item.name: item.digest.get("rpmHeaderSha256") for item in build.resolved_dependencies}
    assert {item["name"]: item["sha256"] for item in installed}.items() <= named.items()
    outputs = {item.name: item.digest["sha256"] for item in found.provenance.run_details.byproducts}
    assert outputs["sbom.cdx.json"] == digest_file(released.sbom)
    assert found.predicate.evidence_digest == digest_file(released.evidence)


def test_a_browser_shows_report_and_catalog(
    released: Artefacts, workspace: Workspace, tmp_path: Path
) -> None:
    for page in (released.report_html, workspace.catalog / "index.html"):
        picture = tmp_path / f"{page.stem}.png"
        take(page, picture)
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 20_000, "the page is nearly empty"
        for outside in re.findall(r'(?:src="|<link[^>]+href=")(https?://[^"]+)"', page.read_text()):
            pytest.fail(f"{page.name} needs the network: {outside}")
