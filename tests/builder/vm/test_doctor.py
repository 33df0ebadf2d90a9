"""The examination of the host: each check can fail, and says what to do then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder import log
from builder.doctor import Finding
from builder.doctor import host as doctor
from builder.vm.acceleration import Acceleration
from builder.workspace import Workspace

TCG = Acceleration("tcg", "the test's choice")


def test_a_missing_program_names_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = doctor._Tool("no-such-program", ("--version",), "does things", "debian-name", "fedora-name")
    finding = doctor._tool(tool)
    assert finding.ok is False and "does things" in finding.detail
    assert "debian-name" in finding.remedy and "fedora-name" in finding.remedy
    optional = doctor._Tool("no-such-program", ("--version",), "x", "y", "z", required=False)
    assert doctor._tool(optional).ok is None


def test_a_program_that_does_not_run_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "broken-tool"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    finding = doctor._tool(doctor._Tool("broken-tool", (), "x", "package", "package"))
    assert finding.ok is False and "does not run" in finding.detail
    program.write_text("#!/bin/sh\necho tool version 4.5.6 >&2\n")
    finding = doctor._tool(doctor._Tool("broken-tool", (), "x", "package", "package"))
    assert finding == Finding("broken-tool", True, f"4.5.6 ({program})")


def test_an_interpreter_without_the_binding_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "python3.99"
    other.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'guestfs'\" >&2\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(other))
    (finding,) = doctor._guestfs(TCG)
    assert finding.ok is False
    assert "No module named 'guestfs'" in finding.detail or "no binding is installed" in finding.detail
    assert "./ci/nox" in finding.remedy


def test_the_estimate_is_added_up_per_filesystem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    monkeypatch.setattr(
        doctor, "_SPACE", (("build directory", 0.001), ("package cache", 0.001), ("/var/tmp", 0.0))
    )
    assert all(finding.ok for finding in doctor._space(space))
    monkeypatch.setattr(
        doctor, "_SPACE", (("build directory", 6e5), ("package cache", 7e5), ("/var/tmp", 0.0))
    )
    first = doctor._space(space)[0]
    assert first.ok is False and "1300000.0 GiB estimated" in first.detail
    assert "build directory, package cache" in first.detail and "HALLMARK_BUILD_DIR" in first.remedy


def test_memory_is_measured_against_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_MEMORY_GIB", 0.01)
    assert doctor._memory().ok is True
    monkeypatch.setattr(doctor, "_MEMORY_GIB", 1e6)
    assert doctor._memory().ok is False


def test_no_root_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    finding = doctor._privileges()
    assert finding.ok is False and "1000" in finding.detail and "sudo" in finding.remedy


def test_emulation_is_a_note_and_working_kvm_is_none() -> None:
    assert doctor._acceleration(TCG).ok is None
    assert doctor._acceleration(Acceleration("kvm", "it ran")).ok is True


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ([Finding("a", True, "")], 0),
        ([Finding("a", True, ""), Finding("b", None, "", "do this")], 0),
        ([Finding("a", None, ""), Finding("b", False, "", "do that")], 1),
    ],
)
def test_only_a_miss_makes_the_command_fail(findings: list[Finding], status: int) -> None:
    assert doctor.report(findings) == status


def test_programs_get_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(mode="json")
    try:
        doctor.report([Finding("a", False, "measured", "remedy")])
    finally:
        log.configure()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = [event for event in events if event["event"] == "finding"]
    assert (found["name"], found["ok"], found["detail"], found["remedy"]) == (
        "a",
        False,
        "measured",
        "remedy",
    )


@pytest.mark.system
def test_a_registry_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client is pointed at a closed loopback port by its own configuration."""
    nowhere = "http://127.0.0.1:9"
    sources = tmp_path / "sources.list"
    sources.write_text(f"deb [trusted=yes] {nowhere}/debian bookworm main\n")
    config = tmp_path / "apt.conf"
    config.write_text(f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{nowhere}/simple")
    for variable in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("npm_config_registry", nowhere)
    apt, pypi, npm = doctor.registries()
    assert apt.ok is False and apt.detail and "sources.list" in apt.remedy
    assert pypi.ok is False and "pip config" in pypi.remedy
    assert npm.ok is None and "npm config" in npm.remedy


@pytest.mark.system
def test_this_host_is_examined(workspace: Workspace) -> None:
    findings = {finding.name: finding for finding in doctor.examine(workspace=workspace)}
    launch = findings["libguestfs launch"]
    assert launch.ok is True, launch
    assert findings["qemu-system-x86_64"].ok is True and findings["dnf"].ok is True
    assert findings["namespaces"].ok is True and findings["firmware uefi"].ok is True
    assert findings["registry: apt"].ok is True and findings["registry: PyPI"].ok is True
    assert "acceleration" in findings
    assert all(finding.remedy for finding in findings.values() if finding.ok is False)


@pytest.mark.system
def test_a_launch_that_fails_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBGUESTFS_HV", "/bin/false")
    binding, launch = doctor._guestfs(TCG)
    assert binding.ok is True
    assert launch.ok is False and launch.detail and "libguestfs-test-tool" in launch.remedy
