"""Facts per release: windows, unknown distributions, ends of support; and the managed test program."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import date
from pathlib import Path

import dotnetcore2
import pytest

from builder.errors import HallmarkError
from certification import testkit
from certification.expectations import FACTS, Facts


@pytest.mark.parametrize(
    ("os_id", "version", "line"),
    [
        ("hallmark-sample", "9", "6.1."),
        ("rhel", "9.6", "5.14.0-"),
        ("rhel", "10.1", "6.12.0-"),
        ("centos", "7", "3.10.0-"),
    ],
)
def test_kernel_lines(os_id: str, version: str, line: str) -> None:
    assert [row["version"] for row in Facts(os_id=os_id, version=version).kernels] == [line]


@pytest.mark.parametrize(
    ("version", "nvme", "forbidden_names"),
    [("9.5", [], []), ("9.6", ["x"], []), ("9.8", [], []), ("10.1", ["x"], ["x"])],
)
def test_windows(version: str, nvme: list[str], forbidden_names: list[str]) -> None:
    facts = Facts(os_id="rhel", version=version)
    assert bool(facts.arguments("required", "azure.cmdline-nvme-timeout")) is bool(nvme)
    assert bool(facts.arguments("forbidden", "azure.cmdline-net-ifnames")) is bool(forbidden_names)


def test_arguments_of_another_machine() -> None:
    assert "rootdelay=300" in Facts(os_id="rhel", version="9.4").required_arguments
    assert "rootdelay=300" not in Facts(os_id="rhel", version="9.4", machine="aarch64").required_arguments
    assert Facts(os_id="rhel", version="9.4", machine="aarch64").console == "ttyAMA0"


def test_keys_and_vendors() -> None:
    assert Facts(os_id="rhel", version="9").key_ids == ["199e2f91fd431d51"]
    assert Facts(os_id="centos", version="9").key_ids == ["05b555b38483c65d"]
    assert Facts(os_id="hallmark-sample", version="9").vendors == ["Hallmark sample distribution"]


def test_the_last_day_still_counts() -> None:
    support = Facts(os_id="centos", version="9").os_support
    assert support is not None
    assert not support.over(date(2027, 5, 31))
    assert support.over(date(2027, 6, 1))
    runtime = Facts(os_id="rhel", version="9").dotnet_support("3.1")
    assert runtime is not None
    assert runtime.over(date(2022, 12, 14))
    assert Facts(os_id="rhel", version="9").dotnet_support("99.0") is None


def test_an_unknown_distribution_is_an_error() -> None:
    with pytest.raises(HallmarkError, match="nothing is known about the distribution 'arch'"):
        Facts(os_id="arch", version="1")
    with pytest.raises(HallmarkError, match="is no version"):
        Facts(os_id="rhel", version="nine").kernels  # noqa: B018 - the property is what is tested


def test_reasons_for_differences() -> None:
    facts = Facts(os_id="rhel", version="9")
    assert facts.may_differ("/etc/fstab")
    assert facts.may_differ("/etc/yum.repos.d/x.repo")
    assert facts.may_differ("/usr/bin/bash") is None
    assert facts.may_differ("/etc/fstab.d") is None


def test_the_managed_program_runs_and_computes(tmp_path: Path) -> None:
    kit = testkit.build(tmp_path)
    assert testkit.build(tmp_path) == kit
    runtime = Path(dotnetcore2.__file__).parent / "bin"
    version = next((runtime / "shared/Microsoft.NETCore.App").iterdir()).name
    (kit.assembly.parent / "Probe.runtimeconfig.json").write_text(testkit.runtime_config(version=version))
    arguments = [3, 14, -15, 92]
    done = subprocess.run(
        [runtime / "dotnet", kit.assembly, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    printed = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert done.returncode == 0, done.stderr
    assert {key: printed[key] for key in testkit.expected_output(arguments)} == testkit.expected_output(
        arguments
    )
    assert testkit.expected_output([3, 14, -15, 91]) != testkit.expected_output(arguments)


def _features(tmp_path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the second program on this machine's .NET Core 3.1."""
    kit = testkit.build(tmp_path, source=testkit.FEATURES)
    runtime = Path(dotnetcore2.__file__).parent / "bin"
    version = next((runtime / "shared/Microsoft.NETCore.App").iterdir()).name
    config = kit.assembly.with_name("Features.runtimeconfig.json")
    config.write_text(testkit.runtime_config(version=version, cultures=words[0] == "cultures"))
    return subprocess.run(
        [runtime / "dotnet", kit.assembly, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
    )


def test_the_program_knows_time_zones(tmp_path: Path) -> None:
    done = _features(tmp_path, "zones")
    assert dict(line.split("=", 1) for line in done.stdout.splitlines()) == testkit.FEATURES_EXPECTED["zones"]
    assert _features(tmp_path, "zones", TZDIR=str(tmp_path)).returncode != 0


def test_the_program_knows_cultures(tmp_path: Path) -> None:
    """.NET Core 3.1 takes an ICU that it doesn't know when it is told the version."""
    libraries = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"libicuuc\.so\.(\d+)", libraries)
    assert found is not None
    done = _features(tmp_path, "cultures", CLR_ICU_VERSION_OVERRIDE=f"{found[1]}.1")
    printed = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert printed == testkit.FEATURES_EXPECTED["cultures"]
    assert _features(tmp_path, "cultures", CLR_ICU_VERSION_OVERRIDE="1.1").returncode != 0


def test_the_program_hashes_signs_and_speaks_tls(tmp_path: Path) -> None:
    """On Mono, which brings its own cryptography: .NET Core 3.1 doesn't know this machine's OpenSSL."""
    kit = testkit.build(tmp_path, source=testkit.FEATURES)
    (tmp_path / "server.pfx").write_bytes(testkit.key_file(old=True))
    done = subprocess.run(
        ["mono", kit.assembly, "crypto", "hello"], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    printed = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert printed == testkit.secrets_expected("hello") != testkit.secrets_expected("other")


def test_the_package_is_one(tmp_path: Path) -> None:
    path = testkit.package(tmp_path)
    listed = subprocess.run(["rpm", "-qpl", path], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [testkit.PACKAGED]


@pytest.mark.parametrize(
    ("path", "link", "allowed"),
    [
        ("/etc/systemd/system/multi-user.target.wants/sshd.service", True, True),
        ("/etc/systemd/system/evil.service", False, False),
        ("/usr/lib/modules/6.1/modules.dep", False, True),
        ("/usr/lib/modules/6.1/extra/modules.dep", False, False),
        ("/usr/share/a/b/__pycache__/c.pyc", False, True),
        ("/usr/bin/dropped", False, False),
        ("/etc/sysconfig/a/b", False, False),
    ],
)
def test_files_that_nobody_owns(path: str, link: bool, allowed: bool) -> None:
    reason = Facts(os_id="rhel", version="9").allowed_unowned(path, link=link)
    assert (reason is not None) is allowed


def test_hosts_and_excuses(tmp_path: Path) -> None:
    assert "2016" in Facts(os_id="rhel", version="8.4").hyperv_hosts
    assert "2016" not in Facts(os_id="rhel", version="8.6").hyperv_hosts
    assert (
        Facts(os_id="hallmark-sample", version="9").hyperv_hosts
        == Facts(os_id="rhel", version="9").hyperv_hosts
    )
    assert Facts(os_id="rhel", version="6").hyperv_hosts == []
    facts = Facts(os_id="rhel", version="9")
    assert "2016" in facts.current_hosts(date(2027, 1, 12)) and "2016" not in facts.current_hosts(
        date(2027, 1, 13)
    )
    for path in FACTS.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    row = "{pattern: 'known', os: rhel, until: 2027-01-01, reason: r}"
    (tmp_path / "journal.yaml").write_text(f"errors: [{row}]\ndenials: []\n")
    facts = Facts(os_id="rhel", version="9", directory=tmp_path)
    assert [p.pattern for p in facts.excused("errors", date(2027, 1, 1))] == ["known"]
    assert facts.excused("errors", date(2027, 1, 2)) == []
    assert Facts(os_id="centos", version="9", directory=tmp_path).excused("errors", date(2027, 1, 1)) == []


def test_globalization_is_left_out_for_3_1_only() -> None:
    def options(version: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(testkit.runtime_config(version=version))["runtimeOptions"][
            "configProperties"
        ]
        return found

    assert options("3.1.23") == {"System.Globalization.Invariant": True}
    assert options("8.0.1") == {}


@pytest.mark.parametrize(
    ("os_id", "version", "claim", "measure"),
    [
        ("rhel", "9.8", None, ("rhel", "9.8")),
        (
            "rhel",
            "9.9",
            "rhel:9.8",
            ("rhel", "9.9"),
        ),  # a newer minor release came
        ("rhel", "8.10", "rhel:9.8", ("rhel", "9.8")),
        ("hallmark-sample", "9", "rhel:9.8", ("rhel", "9.8")),
        ("rhel", "9.8", "centos:9", ("centos", "9")),
    ],
)
def test_an_image_is_measured_by_what_it_is_called(
    os_id: str, version: str, claim: str | None, measure: tuple[str, str]
) -> None:
    facts = Facts.of({"ID": os_id, "VERSION_ID": version}, claim=claim)
    assert (facts.os_id, facts.version) == measure


def test_a_release_without_a_minor_number_is_the_newest() -> None:
    argument = "nvme_core.io_timeout=240"
    assert argument in Facts(os_id="rhel", version="10.1").required_arguments
    assert argument not in Facts(os_id="rhel", version="10.2").required_arguments
    assert argument not in Facts(os_id="centos", version="10").required_arguments
