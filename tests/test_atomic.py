"""An ostree host as it lives: it boots closed, takes an update, goes back, and refuses what is broken.

Some minutes of emulation on top of the build: the session ``updates`` runs it, not the whole suite.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.ostree import Commit, repository
from builder.ostree.repository import ostree
from builder.run import run
from builder.sampledistro import SampleRepository
from builder.vm import ssh
from builder.vm.acceleration import probe
from builder.vm.machine import Machine, boot
from builder.workspace import PROJECT, Artefacts, Workspace

pytestmark = [pytest.mark.system, pytest.mark.slow]

_KEYS = PROJECT / "images/sample-distribution/keys"
_SIGNER = "4289A0585D393B761423296BAA81A34A9A583DEE"
_PORT = 8990
_NEVER = ("usr/lib/greenboot/check/required.d/90-never", "#!/bin/sh\necho no good\nexit 1\n")


@pytest.fixture(scope="module")
def atomic_image(workspace: Workspace, sample_repository: SampleRepository) -> Artefacts:
    """The ostree host, built."""
    from builder.pipeline import Pipeline

    return Pipeline(workspace, "sample-atomic-9").build()


def test_a_host_is_updated_and_goes_back(
    atomic_image: Artefacts, workspace: Workspace, tmp_path: Path
) -> None:
    first = Commit.load(atomic_image.commit)
    served = repository.unpack(atomic_image.ostree, tmp_path / "served")
    with (
        _serve(served) as port,
        boot(
            atomic_image.image,
            firmware="bios",
            work=tmp_path,
            logs=tmp_path,
            acceleration=probe(cache=workspace.cache),
        ) as machine,
    ):
        _closed_but_its_own(machine)
        _sh(machine, f"ostree config set 'remote \"hallmark-sample\".url' http://127.0.0.1:{_PORT}")
        _forward(machine, port)

        second = _publish(served, first, tmp_path, "second")
        _sh(machine, "echo mine > /etc/motd; echo data > /var/lib/mine")
        assert _deployed(machine) == [first.checksum]
        _sh(machine, "ostree admin upgrade", timeout=300)
        machine.reboot()
        assert _deployed(machine) == [second, first.checksum]
        assert _sh(machine, "cat /usr/share/update /etc/motd /var/lib/mine") == "second\nmine\ndata\n"

        _forward(machine, port)
        _publish(served, first, tmp_path, "unsigned", sign=False)
        _refused(machine, "signature")
        third = _publish(served, first, tmp_path, "third")
        _lose_an_object(served, second, third)
        _refused(machine, "404")
        assert _deployed(machine) == [second, first.checksum]

        _go_back(machine, first)
        machine.reboot()
        assert _deployed(machine) == [first.checksum, second]
        assert _sh(machine, "test ! -e /usr/share/update && cat /etc/motd /var/lib/mine") == "mine\ndata\n"

        # Good by all signatures, and still not fit for use: the host finds out by itself, and goes back.
        _forward(machine, port)
        unfit = _publish(served, first, tmp_path, "unfit", program=_NEVER)
        _sh(machine, "ostree admin upgrade", timeout=300)
        machine.reboot()
        assert _deployed(machine)[0] == unfit
        machine.reboot(ask=False)
        machine.settle()
        assert _deployed(machine) == [first.checksum, unfit]
        assert f"The update to {unfit} was taken back" in _sh(machine, "cat /run/motd.d/health-check")
        assert _sh(machine, "systemctl is-active health-check") == "active\n"
        assert _sh(machine, "cat /etc/motd /var/lib/mine") == "mine\ndata\n"


def _closed_but_its_own(machine: Machine) -> None:
    assert _sh(machine, "/usr/sbin/getenforce") == "Enforcing\n"
    assert machine.run("sudo touch /usr/x").returncode != 0
    _sh(machine, "touch /etc/x /var/x")
    assert _sh(machine, "systemctl --failed --plain --no-legend") == ""
    assert "overlay" in _sh(machine, "podman info --format '{{.Store.GraphDriverName}}'")


def _go_back(machine: Machine, commit: Commit) -> None:
    """Deploy the commit before once more, with its origin: ostree refuses to undeploy what runs."""
    origin = f"/ostree/deploy/hallmark-sample/deploy/{commit.checksum}.0.origin"
    _sh(machine, f"ostree admin deploy --origin-file={origin} {commit.checksum}", timeout=300)


def _refused(machine: Machine, word: str) -> None:
    """An upgrade fails with this word, and nothing of it is left to boot."""
    before = _deployed(machine)
    done = machine.run("sudo ostree admin upgrade", timeout=300)
    assert done.returncode != 0
    assert word in (done.stdout + done.stderr).lower()
    assert _deployed(machine) == before


def _deployed(machine: Machine) -> list[str]:
    """The commits of the deployments, the next to boot first; the running one must be whole."""
    lines = _sh(machine, "ostree admin status").splitlines()
    return [word.rpartition(".")[0] for line in lines for word in line.split() if len(word) == 66]


def _sh(machine: Machine, command: str, *, timeout: float = 120) -> str:
    return machine.run(f"sudo sh -c {_quoted(command)}", timeout=timeout, check=True).stdout


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


@contextmanager
def _serve(directory: Path) -> Iterator[int]:
    handler = functools.partial(_Silent, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """The guest's requests are nobody's news."""


def _forward(machine: Machine, port: int) -> None:
    """The repository of this host under the guest's own loopback: it reaches nothing else."""
    connection = machine.connection
    _sh(machine, "setsebool sshd_port_forwarding on")
    forward = f"127.0.0.1:{_PORT}:127.0.0.1:{port}"
    run(("ssh", "-F", connection.config, "-O", "forward", "-R", forward, ssh.ALIAS))


def _publish(
    repo: Path,
    parent: Commit,
    work: Path,
    word: str,
    *,
    sign: bool = True,
    program: tuple[str, str] | None = None,
) -> str:
    """One more commit of the same ref, with one more file, and a program if one is given; returns its
    checksum.
    """
    overlay = work / word
    (overlay / "usr/share").mkdir(parents=True)
    (overlay / "usr/share/update").write_text(f"{word}\n")
    if program is not None:
        path = overlay / program[0]
        path.parent.mkdir(parents=True)
        path.write_text(program[1])
        path.chmod(0o755)
    for path in (overlay, *overlay.rglob("*")):
        kind = "root_t" if path == overlay else "lib_t" if "lib" in path.parts else "usr_t"
        os.setxattr(path, "security.selinux", f"system_u:object_r:{kind}:s0\0".encode())
    checksum = ostree(
        "commit",
        f"--branch={parent.ref}",
        f"--tree=ref={parent.checksum}",
        f"--tree=dir={overlay}",
        f"--parent={parent.checksum}",
        f"--add-metadata-string=version={word}",
        "--bootable",
        repo=repo,
    ).strip()
    if sign:
        home = work / f"gpg-{word}"
        home.mkdir(mode=0o700)
        try:
            run(("gpg", "--homedir", home, "--batch", "--import", _KEYS / "test-secret-key.asc"))
            ostree("gpg-sign", f"--gpg-homedir={home}", checksum, _SIGNER, repo=repo)
        finally:
            run(("gpgconf", "--homedir", home, "--kill", "all"))
        ostree("static-delta", "generate", f"--from={parent.checksum}", f"--to={checksum}", repo=repo)
    ostree("summary", "--update", repo=repo)
    return checksum


def _lose_an_object(repo: Path, before: str, after: str) -> None:
    """What is new in a commit is not on the server: neither its file nor a delta that has it."""
    shutil.rmtree(repo / "deltas")
    ostree("summary", "--update", repo=repo)

    def objects(commit: str) -> set[str]:
        return set(ostree("ls", "-R", "-C", commit, "/usr/share/update", repo=repo).split())

    for checksum in objects(after) - objects(before):
        path = repo / f"objects/{checksum[:2]}/{checksum[2:]}.filez"
        path.unlink(missing_ok=True)
