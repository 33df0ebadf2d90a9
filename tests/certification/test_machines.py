"""Machines that are already running, over a real ssh server: sound ones, and ones that break in every way."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from loopback_sshd import serve

from builder import cli
from builder.errors import HallmarkError
from builder.target import SshTarget
from certification.judge import load_run
from certification.observe import observe

pytestmark = pytest.mark.system


def machine(session: str) -> str:
    """This machine, but for what it says it is (of a stranger no requirement would be judged) and its log."""
    return f"""\
[ "$INSIDE" ] || exec env INSIDE=1 unshare --mount "$0"
printf 'ID="hallmark-sample"\\nID_LIKE="rhel centos"\\nVERSION_ID="9"\\n' >"${{0%/*}}/os-release"
mount --bind "${{0%/*}}/os-release" "$(readlink -f /etc/os-release)"
mount --bind /bin/false /usr/bin/logger
{session}"""


ANSWER = machine('exec sh -c "$SSH_ORIGINAL_COMMAND"')


def later(action: str) -> str:
    """A machine that is sound until it was greeted and said what it is."""
    return machine(
        f"""\
while IFS= read -r line; do case $line in
  "/bin/sh -c : "*|*"printf '"*"<%s>"*|*os-release*) eval "$line" ;;
  *) {action} ;;
esac; done"""
    )


SUITE = """
from certification.checks import requirement
@requirement("azure.three")
def test_three(host, check): check.equal("answer", expected="yes\\n", observed=host.run("echo yes").stdout)
@requirement("azure.four")
def test_four(host, check): check.equal("status", expected=0, observed=host.run("echo again").rc)
"""
BROKEN = {
    # id: (what the machine does, part of the verdicts' message)
    "hangs": ("exec sleep 600", "did not finish a command"),
    "hangs later": (later("exec sleep 600"), "did not finish a command"),
    "garbage": ("exec head -c 100000 /dev/urandom", "doesn't answer what it is asked"),
    "says yes to everything": ("exit 0", "doesn't answer what it is asked"),
    "a gigabyte": ("exec head -c 1073741824 /dev/zero", "printed more than"),
    "a gigabyte later": (later("exec head -c 1073741824 /dev/zero"), "printed more than"),
    "repeats what it hears": ("exec cat", "did not finish a command"),
    "goes away": ("kill -9 $PPID", "connection to the guest broke"),
}


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    directory = tmp_path / "suites"
    directory.mkdir()
    (directory / "test_toy.py").write_text(SUITE)
    return directory


def look(directory: Path, program: str, *, suites: Path, catalogue: Path) -> Path:
    """Look at a machine whose every session is ``program``; the records' directory."""
    with serve(directory / "sshd", program=program) as server:
        config = directory / "ssh_config"
        config.write_text(SshTarget.parse(server.url).config(directory / "sshd"))
        observe(
            "booted",
            None,
            out=directory / "out",
            logs=directory / "log",
            ssh_config=config,
            suites=suites,
            catalogue=catalogue,
            test_seconds=5,
        )
    return directory / "out"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_machine_ends_in_errors(
    tmp_path: Path, suites: Path, toy_catalogue: Path, name: str
) -> None:
    program, message = BROKEN[name]
    began = time.monotonic()
    out = look(tmp_path, program, suites=suites, catalogue=toy_catalogue)
    assert time.monotonic() - began < 60
    run = load_run(out)
    assert {item.requirement: item.outcome for item in run.observations} == {
        "azure.three": "error",
        "azure.four": "error",
    }
    assert run.record is not None
    assert message in " ".join([*(item.message for item in run.observations), *run.record.problems])
    assert sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) < 12 << 20


def test_a_sound_machine_is_judged_and_gets_no_certificate(tmp_path: Path) -> None:
    """This machine itself: it is no Enterprise Linux, so the verdict is bad and everything is reported."""
    build = tmp_path / "build"
    words = ["--build-dir", str(build), "--policy", "ccsp", "--out", str(tmp_path / "out")]
    with serve(tmp_path / "sshd", program=ANSWER) as server:
        assert cli.main(["certify", "--hosts", server.url, *words]) == 1
    (place,) = (tmp_path / "out").iterdir()
    results = json.loads((place / "results.json").read_text())
    verdicts = {item["requirement"]: item for item in results["results"]}
    assert results["source"] == "machine"
    assert {"pass", "fail", "not-provable-here"} <= {item["verdict"] for item in verdicts.values()}
    unseen = [item for item in verdicts.values() if item["verdict"] == "not-provable-here"]
    assert "ccsp.rpmdb-healthy" in {item["requirement"] for item in unseen}
    assert any("disk view" in item["message"] for item in unseen)
    assert list(tmp_path.rglob("certificate.json")) == []
    # Judged again from its recording alone, now that the machine is gone.
    again = tmp_path / "again"
    words[-1] = str(again)
    assert cli.main(["certify", "--replay", str(place / "evidence.jsonl"), *words]) == 1
    repeated = json.loads((again / "results.json").read_text())
    assert {item["requirement"]: (item["verdict"], item["message"]) for item in repeated["results"]} == {
        name: (item["verdict"], item["message"]) for name, item in verdicts.items()
    }


def test_a_machine_that_nobody_knows_is_not_asked(tmp_path: Path, suites: Path, toy_catalogue: Path) -> None:
    with serve(tmp_path / "sshd", program=ANSWER) as server:
        server.known_hosts.write_text("")
        config = tmp_path / "ssh_config"
        config.write_text(SshTarget.parse(server.url).config(tmp_path / "sshd"))
        observe(
            "booted",
            None,
            out=tmp_path / "out",
            logs=tmp_path / "log",
            ssh_config=config,
            suites=suites,
            catalogue=toy_catalogue,
        )
    run = load_run(tmp_path / "out")
    assert {item.outcome for item in run.observations} == {"error"}
    assert run.record is not None and "Host key verification failed" in " ".join(run.record.problems)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://root@machine", "no address of a machine"),
        ("ssh://machine", "no address of a machine"),
        ("ssh://root:secret@machine", "no address of a machine"),
        ("ssh://root@-oProxyCommand=evil", "no address of a machine"),
        ("ssh://root@machine:port", "this is no address"),
        ("ssh://root@machine?key=/x", "no address of a machine"),
        ("ssh://root@machine?identity=/no/such/file", "no such file for identity"),
        ("ssh://ro%0Aot@machine", "no address of a machine"),
    ],
)
def test_an_address_that_is_wrong_is_refused(url: str, said: str) -> None:
    with pytest.raises(HallmarkError, match=said) as caught:
        SshTarget.parse(url)
    assert "secret" not in str(caught.value)
