"""Secret references: read late, checked, hidden, and never part of an error."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from builder import redaction
from builder.errors import HallmarkError
from builder.run import redact, run
from builder.secrets import ClientTls, SecretReference, resolve, resolve_tls
from builder.workspace import PROJECT
from tests.tls_mirror import Authority, Pair

WHERE = "rhel-9.yaml:21"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("An authority")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("client")


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_secrets", set())


def test_a_secret_is_hidden_as_soon_as_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_SECRET", "from the environment")
    (tmp_path / "secret").write_text("from a file\n")
    assert resolve(SecretReference("env:A_SECRET"), "it") == "from the environment"
    assert resolve(SecretReference(f"file:{tmp_path}/secret"), "it") == "from a file\n"
    assert redact("<from the environment|from a file>") == "<***|***>"


def test_a_path_below_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pw").write_text("at home")
    assert resolve(SecretReference("file:~/pw"), "it") == "at home"


@pytest.mark.parametrize("text", ["hunter2", "env:", "env:A B", "file:relative", "vault:x", "file:/a\nb"])
def test_only_references_are_taken(text: str) -> None:
    with pytest.raises(ValueError, match="env:NAME or file:"):
        SecretReference(text)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:HALLMARK_NO_SUCH", "the environment variable HALLMARK_NO_SUCH is not set"),
        ("env:HALLMARK_EMPTY", "the environment variable HALLMARK_EMPTY is empty"),
        ("file:/nowhere/at/all", "/nowhere/at/all: No such file or directory"),
        ("file:/tmp", "/tmp: Is a directory"),
        ("file:/dev/null", "/dev/null is empty"),
        ("file:/bin/true", "/bin/true is not text"),
    ],
)
def test_what_cannot_be_read_is_explained(
    reference: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALLMARK_EMPTY", " ")
    with pytest.raises(HallmarkError) as caught:
        resolve(SecretReference(reference, WHERE), "the client key of repository 'x'")
    assert caught.value.what == f"the client key of repository 'x' cannot be read: {words}"
    assert caught.value.where == WHERE
    assert caught.value.hint


def tls(monkeypatch: pytest.MonkeyPatch, certificate: str, key: str) -> ClientTls:
    monkeypatch.setenv("CERT", certificate)
    monkeypatch.setenv("KEY", key)
    return ClientTls(SecretReference("env:CERT", WHERE), SecretReference("env:KEY", WHERE))


def test_a_good_pair_is_read(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    found = resolve_tls(tls(monkeypatch, pair.certificate, pair.key), "repository 'x'")
    assert (found.certificate, found.key) == (pair.certificate, pair.key)
    assert pair.key.splitlines()[3] not in repr(found)


def test_an_entitlement_file_with_its_key_serves_as_both(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    both = pair.certificate + "-----BEGIN ENTITLEMENT DATA-----\nAAAA\n-----END ENTITLEMENT DATA-----\n"
    found = resolve_tls(tls(monkeypatch, both + pair.key, pair.key), "repository 'x'")
    assert found.certificate == both + pair.key


def test_pairs_that_cannot_work(monkeypatch: pytest.MonkeyPatch, authority: Authority, pair: Pair) -> None:
    old, other = authority.issue("client", days=(-20, -10)), authority.issue("client")
    cases = {
        "is not valid now: from": (old.certificate, old.key),
        "does not belong to its certificate": (pair.certificate, other.key),
        "the client certificate of repository 'x' is not a certificate": ("a path/to.pem", pair.key),
        "the client key of repository 'x' is not a private key": (pair.certificate, pair.certificate),
    }
    for words, (certificate, key) in cases.items():
        with pytest.raises(HallmarkError, match=words) as caught:
            resolve_tls(tls(monkeypatch, certificate, key), "repository 'x'")
        told = str(caught.value)
        assert caught.value.where == WHERE
        for line in (certificate + key).splitlines():
            assert len(line) < 20 or line.startswith("-----") or line not in told


def test_what_a_build_makes_does_not_depend_on_the_mask_of_its_user(tmp_path: Path) -> None:
    # The shim's own words, without its mount: only root may mount.
    shim = (PROJECT / "builder/rootfs/shims/with-secrets").read_text().replace("mount -t tmpfs", "true")
    program = tmp_path / "with-secrets"
    program.write_text(shim)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        entry = tarfile.TarInfo("key")
        entry.mode = 0o600
        packed.addfile(entry)
    (tmp_path / "secrets").mkdir()
    script = 'umask 077; exec bash "$0" "$1" bash -c umask'
    argv = ("bash", "-c", script, str(program), str(tmp_path / "secrets"))
    assert run(argv, stdin=archive.getvalue()).stdout == "0022\n"
    assert (tmp_path / "secrets/key").stat().st_mode & 0o777 == 0o600
