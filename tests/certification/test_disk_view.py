"""The disk view on a real image through a real appliance: one launch for the whole module."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import HallmarkError
from certification.evidence import EvidenceLog
from certification.judge import load_run
from certification.observe import observe
from certification.views import open_view, rpmdb
from certification.views.base import OpenView, identity

pytestmark = pytest.mark.system

FORCE_TCG = True  # a small image gains nothing from KVM, and TCG works everywhere


@pytest.fixture(scope="module")
def opened(small_image: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenView]:
    work = tmp_path_factory.mktemp("view")
    with EvidenceLog(work / "evidence.jsonl", view="disk") as evidence:
        view = open_view("disk", image=small_image.image, work=work, evidence=evidence, force_tcg=FORCE_TCG)
        yield view
        view.close()
        view.close()


def test_the_subject_and_its_filesystems(opened: OpenView) -> None:
    subject = opened.subject()
    assert subject is not None and (subject.id, subject.version) == ("hallmark-sample", "9") and subject.like
    # fstab also names a partition that isn't there (nofail): it is left out, the ESP is mounted.
    assert opened.host.file("/boot/efi/EFI/BOOT/BOOTX64.EFI").size > 70_000
    assert opened.image.esp is not None


def test_files_are_answered_from_the_inventory(opened: OpenView) -> None:
    host = opened.host
    shadow = host.file("/etc/shadow")
    assert (
        shadow.exists
        and shadow.is_file
        and shadow.mode == 0
        and (shadow.user, shadow.group) == ("root", "root")
    )
    assert host.file("/etc/absolute").linked_to == "/etc/passwd"
    assert (
        host.file("/etc/os-release").is_symlink
        and "VERSION_ID" in host.file("/etc/os-release").content_string
    )
    assert not host.file("/etc/circle").exists and not host.file("/nothing").exists
    assert host.file("/etc/a name with\nnewline").content == b"odd" and host.file("/etc/empty").content == b""
    assert host.file("/etc").is_directory and "passwd" in host.file("/etc").listdir()
    assert host.file("/etc/passwd").contains("^guest:") and not host.file("/etc/passwd").contains("nobody")
    passwd = opened.host.backend.inventory().get("/etc/passwd")
    assert passwd.label == "system_u:object_r:passwd_file_t:s0"
    assert passwd.sha256 == hashlib.sha256(host.file("/etc/passwd").content).hexdigest()
    assert opened.host.backend.inventory().get("/bin/cat").capability.startswith("01000002")
    assert opened.host.backend.glob("/usr/share/thing/*") == ["/usr/share/thing/a", "/usr/share/thing/b"]
    fetched = host.backend.fetch("/usr/bin/cat")
    assert hashlib.sha256(fetched.read_bytes()).hexdigest() == host.file("/usr/bin/cat").sha256sum


def test_users_groups_and_packages(opened: OpenView) -> None:
    host = opened.host
    assert host.user("guest").exists and host.user("guest").groups == ["guest", "wheel"]
    assert host.user("root").password == "!locked" and not host.user("nobody").exists
    assert host.group("wheel").members == ["guest"] and not host.group("nogroup").exists
    thing = host.package("thing")
    assert thing.is_installed and (thing.version, thing.release) == ("1.2", "3.el9")
    assert not host.package("other").is_installed


def test_verification_of_packages_finds_what_was_changed(opened: OpenView) -> None:
    found = {item.path: item for item in rpmdb.verify(opened.host.backend)}
    assert set(found) == {"/usr/share/thing/b", "/usr/share/thing/c", "/etc/thing.conf"}
    assert "5" in found["/usr/share/thing/b"].flags and "S" in found["/usr/share/thing/b"].flags
    assert found["/usr/share/thing/c"].flags == "missing"
    assert found["/etc/thing.conf"].config and "M" in found["/etc/thing.conf"].flags


def test_commands_run_in_the_guests_root(opened: OpenView) -> None:
    host = opened.host
    done = host.run("echo %s; echo bad >&2; exit 3", "a 'quoted' word")
    assert (done.rc, done.stdout, done.stderr) == (3, "a 'quoted' word\n", "bad\n")
    assert "self" in host.run("ls /proc").stdout
    refused = host.run("echo x >/etc/new")
    assert refused.rc != 0 and "Read-only" in refused.stderr
    with pytest.raises(HallmarkError, match="printed more than"):
        host.run("seq 1 10000000")
    assert host.run("echo %s", "still here").stdout == "still here\n"


def test_a_look_of_the_suites_leaves_the_image_alone(small_image: Any, tmp_path: Path) -> None:
    image: Path = small_image.image
    before = (identity(image), image.stat())
    suites, catalogue = tmp_path / "suites", tmp_path / "catalogue"
    suites.mkdir()
    catalogue.mkdir()
    entry = {
        "severity": "must",
        "area": "azure",
        "views": ["disk"],
        "rationale": "r",
        "remedy": "m",
        "source": ["s"],
        "title": "t",
    }
    names = {"good": {}, "hang": {}, "only-rhel": {"applies_to": {"families": ["rhel"]}}}
    (catalogue / "azure.yaml").write_text(
        json.dumps(
            {"requirements": [{"id": f"azure.{name}", **entry, **more} for name, more in names.items()]}
        )
    )
    (suites / "test_toy.py").write_text(
        "from certification.checks import requirement\n"
        "@requirement('azure.good')\ndef test_good(host, check):\n"
        "    check.equal('shell', expected='ok', observed=host.check_output('echo ok'))\n"
        "@requirement('azure.hang')\ndef test_hang(host, check):\n    host.run('sleep 600', timeout=2)\n"
        "@requirement('azure.only-rhel')\ndef test_rhel(host, check):\n    raise RuntimeError('not here')\n"
    )
    out = tmp_path / "out"
    observe(
        "disk",
        image,
        out=out,
        logs=tmp_path / "log",
        suites=suites,
        catalogue=catalogue,
        force_tcg=FORCE_TCG,
        test_seconds=5,
    )
    run = load_run(out)
    assert run.record is not None and run.record.problems == () and run.record.before == run.record.after
    outcomes = {item.requirement: item.outcome for item in run.observations}
    assert outcomes == {"azure.good": "pass", "azure.hang": "error", "azure.only-rhel": "not-applicable"}
    records = [json.loads(line) for line in run.evidence.read_text().splitlines()]
    assert any(
        r["requirement"] == "azure.good" and r["kind"] == "command" and r["stdout"]["text"] == "ok\n"
        for r in records
    )
    again = tmp_path / "again"
    observe("disk", None, out=again, logs=tmp_path / "log", suites=suites, catalogue=catalogue, replay=out)
    repeated = {item.requirement: (item.outcome, item.message) for item in load_run(again).observations}
    assert repeated == {item.requirement: (item.outcome, item.message) for item in run.observations}
    after = image.stat()
    assert (identity(image), after.st_mtime_ns, after.st_ctime_ns) == (
        before[0],
        before[1].st_mtime_ns,
        before[1].st_ctime_ns,
    )


def test_an_image_without_a_system_is_an_error(plain_image: Path, tmp_path: Path) -> None:
    with (
        EvidenceLog(tmp_path / "evidence.jsonl", view="disk") as evidence,
        pytest.raises(HallmarkError, match="no filesystem of the image holds an operating system"),
    ):
        open_view("disk", image=plain_image, work=tmp_path, evidence=evidence, force_tcg=FORCE_TCG)
