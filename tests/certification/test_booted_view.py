"""The booted view against guests that misbehave.

``ssh`` and ``sudo`` are small programs here that run the command on this machine: what is tested is what the
view makes of a guest's answers. Real guests are booted by the end-to-end tests.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.run import run
from certification.evidence import EvidenceLog
from certification.testkit import object_store, support_report
from certification.views import open_view
from certification.views.ssh import BootedView

SSH = """#!/bin/sh
# The last argument is the command; a file named broken makes the connection fail.
for last in "$@"; do :; done
[ -e "$FAKE/broken" ] && { echo 'Connection reset by peer' >&2; exit 255; }
[ "$last" = subject ] && exit 0
cat "$FAKE/motd" 2>/dev/null
exec sh -c "$last"
"""


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BootedView]:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("ssh", SSH), ("sudo", '#!/bin/sh\nexec "$@"\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    with EvidenceLog(tmp_path / "evidence.jsonl", view="booted", variant="uefi") as evidence:
        view = BootedView(
            image=tmp_path / "none.vhd", work=tmp_path, evidence=evidence, ssh_config=tmp_path / "ssh_config"
        )
        yield view
        view.close()


def test_commands_keep_their_words_status_and_both_outputs(guest: BootedView, tmp_path: Path) -> None:
    done = guest.host.run("printf %s %s; echo bad >&2; exit 3", "%s\\n", 'it\'s "one" $word')
    assert (done.rc, done.stdout, done.stderr) == (3, 'it\'s "one" $word\n', "bad\n")
    assert guest.host.run("printf '\\377\\376'").stdout == "\ufffd\ufffd"
    record = json.loads((tmp_path / "evidence.jsonl").read_text().splitlines()[0])
    assert (record["status"], record["variant"], record["stderr"]["text"]) == (3, "uefi", "bad\n")
    assert not list((tmp_path / "booted").iterdir())


def test_what_does_not_change_is_asked_once_and_recorded_for_each_who_asks(
    guest: BootedView, tmp_path: Path
) -> None:
    count = f"echo x >>{tmp_path}/asked; wc -l <{tmp_path}/asked"
    with guest.host.backend._evidence.about("azure.one"):
        assert guest.host.run(count, once=True).stdout.strip() == "1"
    with guest.host.backend._evidence.about("azure.two"):
        assert guest.host.run(count, once=True).stdout.strip() == "1"
    assert guest.host.run(count).stdout.strip() == "2"
    records = [json.loads(line) for line in (tmp_path / "evidence.jsonl").read_text().splitlines()]
    said = [(record["requirement"], record["stdout"]["text"].strip()) for record in records]
    assert said == [("azure.one", "1"), ("azure.two", "1"), ("(session)", "2")]


def test_commands_share_a_shell_and_nothing_else(guest: BootedView, tmp_path: Path) -> None:
    run = guest.host.run
    (shell,) = {run("echo $PPID").stdout for _ in range(3)}
    run("cd /tmp; x=1; exit 3")
    assert run("pwd; echo ${x-unset}").stdout == f"{Path.cwd()}\nunset\n"
    assert run("cat").stdout == "", "a command got the next one as its input"
    assert run("echo it's").rc != 0
    assert run("true; } ; echo").rc != 0
    assert run("kill -9 $$").rc == 137
    assert run("printf 'no newline'; exit 7").stdout == "no newline"
    assert run("echo $PPID").stdout == shell


def test_a_login_is_a_session_of_its_own(guest: BootedView, tmp_path: Path) -> None:
    shell = guest.host.run("echo $PPID").stdout
    done = guest.host.run("echo $PPID; echo bad >&2; exit 3", login=True)
    assert (done.rc, done.stderr) == (3, "bad\n") and done.stdout not in ("", shell)
    with pytest.raises(HallmarkError, match="did not finish a command within"):
        guest.host.run("sleep 30", login=True, timeout=0.5)
    assert not list((tmp_path / "booted").glob("out-1"))


def test_a_shell_that_was_lost_is_replaced(guest: BootedView) -> None:
    first = guest.host.run("echo $PPID").stdout
    with pytest.raises(HallmarkError, match="doesn't answer what it is asked"):
        guest.host.run("echo last words >&2; kill -9 $PPID")
    second = guest.host.run("echo $PPID").stdout
    assert second.strip().isdigit() and second != first


def test_what_a_login_prints_is_nobodys_answer(guest: BootedView, tmp_path: Path) -> None:
    (tmp_path / "motd").write_text("Welcome!\n")
    assert guest.host.run("echo on").stdout == "on\n"


def test_a_hanging_command_is_an_error(guest: BootedView) -> None:
    with pytest.raises(HallmarkError, match="did not finish a command within"):
        guest.host.run("sleep 30", timeout=0.5)
    assert guest.host.run("echo on").stdout == "on\n"


def test_a_flood_is_an_error_and_not_a_full_disk(guest: BootedView, tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="printed more than"):
        guest.host.run("exec head -c 20000000 /dev/zero")
    assert sum(path.stat().st_size for path in (tmp_path / "booted").iterdir()) < 10 << 20


def test_a_broken_connection_is_an_error(guest: BootedView, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(HallmarkError, match="connection to the guest broke") as caught:
        guest.host.run("true")
    assert "Connection reset by peer" in caught.value.details
    (tmp_path / "broken").unlink()


def test_files_globs_and_listings(guest: BootedView, tmp_path: Path) -> None:
    backend = guest.host.backend
    odd = tmp_path / "a file's name"
    odd.write_bytes(b"\0text")
    assert backend.read_bytes(str(odd)) == b"\0text"
    odd.write_bytes(b"changed")
    assert backend.read_bytes(str(odd)) == b"\0text"  # cached: all tests see one state
    assert backend.read_bytes(str(tmp_path / "nothing")) is None and backend.read_bytes(str(tmp_path)) is None
    assert backend.fetch(str(odd)) == backend.fetch(str(odd))
    assert backend.glob(f"{tmp_path}/b*") == [str(tmp_path / "bin"), str(tmp_path / "booted")]
    assert backend.glob(f"{tmp_path}/none*") == []


SOS = """#!/bin/sh
[ "$1 $2 $4 $6 $8 ${10}" = "report --batch $PWD 1 gzip date,memory" ] || { echo "unknown: $*"; exit 2; }
sleep "$NEEDS"; mkdir -p s/sos_commands/date s/sos_commands/memory
touch s/sos_commands/date/a s/sos_commands/memory/b
tar -czf sosreport-x.tar.gz s; touch sosreport-x.tar.gz.sha256
"""


@pytest.mark.parametrize("needs", ["0", "1"])
def test_a_support_report_is_begun_and_collected_later(
    guest: BootedView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: str
) -> None:
    monkeypatch.setenv("NEEDS", needs)
    (tmp_path / "bin/sos").write_text(SOS)
    (tmp_path / "bin/sos").chmod(0o755)
    began = time.monotonic()
    assert guest.host.run(support_report.begin(guest.host.backend)).rc == 0
    assert needs == "0" or time.monotonic() - began < 1, "it was waited for"
    answer = guest.host.run(support_report.collect(guest.host.backend)).stdout
    assert answer.splitlines() == ["status: 0", "sos_commands/date", "sos_commands/memory", "removed"]
    nonce = guest.host.backend.made("report", bytes).decode()
    assert not Path(f"/var/tmp/certification-{nonce}").exists()
    assert guest.host.run(support_report.collect(guest.host.backend)).rc == 1


OSTREE = """#!/bin/sh
[ "$*" = "fsck --quiet --repo=/sysroot/ostree/repo" ] || { echo "unknown: $*"; exit 2; }
exec /usr/bin/ostree fsck --quiet --repo="$FAKE/repo"
"""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (None, ["status: 0", "fsck of 1 commits completed successfully"]),
        ("echo more >>", ["status: 1", "Corrupted file object"]),
        ("rm", ["status: 1", "Object missing"]),
    ],
)
def test_an_object_store_is_checked_by_ostree_itself(
    guest: BootedView, tmp_path: Path, damage: str | None, said: list[str]
) -> None:
    (tmp_path / "bin/ostree").write_text(OSTREE)
    (tmp_path / "bin/ostree").chmod(0o755)
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("one", "two"):
        (tree / name).write_text(name)
    run(("/usr/bin/ostree", "init", f"--repo={tmp_path}/repo", "--mode=bare-user-only"))
    words = ("--branch=a", f"--tree=dir={tree}", "--canonical-permissions")
    run(("/usr/bin/ostree", "commit", f"--repo={tmp_path}/repo", *words))
    if damage is not None:
        found = sorted(tmp_path.glob("repo/objects/*/*.file"))[0]
        found.chmod(0o644)
        run(("sh", "-c", f"{damage} {found}"))
    assert guest.host.run(object_store.begin(guest.host.backend)).rc == 0
    answer = guest.host.run(object_store.collect(guest.host.backend)).stdout
    assert all(words in answer for words in said) and answer.endswith("removed\n"), answer


def test_the_view_needs_a_guest(tmp_path: Path) -> None:
    with (
        EvidenceLog(tmp_path / "evidence.jsonl", view="booted") as evidence,
        pytest.raises(HallmarkError, match="needs the ssh_config"),
    ):
        open_view("booted", image=tmp_path, work=tmp_path, evidence=evidence)
