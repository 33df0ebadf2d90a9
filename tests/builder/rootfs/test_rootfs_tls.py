"""Repositories that know their clients by TLS certificate: real dnf, a real server, no trace afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_plan

from builder.errors import HallmarkError
from builder.recipe.model import Origin, PackageRequest, Packages
from builder.rootfs import build_rootfs
from builder.secrets import ClientTls, SecretReference
from tests.tls_mirror import Authority, Pair, serve

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Mirror authority")


def tls(tmp_path: Path, authority: Authority, pair: Pair | None) -> ClientTls:
    """References to files outside of everything that a build touches."""
    vault = tmp_path / "vault"
    vault.mkdir()

    def put(name: str, text: str) -> SecretReference:
        (vault / name).write_text(text)
        return SecretReference(f"file:{vault / name}", "tiny.yaml:5")

    if pair is None:
        return ClientTls(authority=put("ca.pem", authority.pem))
    return ClientTls(
        put("client.pem", pair.certificate), put("client.key", pair.key), put("ca.pem", authority.pem)
    )


def build(repository: Any, tmp_path: Path) -> HallmarkError:
    """Build a system of one package, which always fails: at the repository, or for what it lacks."""
    wanted = (PackageRequest(name="tiny", where=Origin(path="tiny.yaml", line=9)),)
    with pytest.raises(HallmarkError) as caught:
        build_rootfs(
            tiny_plan(packages=Packages(install=wanted)),
            (repository,),
            destination=tmp_path / "destination",
            work=tmp_path / "work",
            logs=tmp_path / "log",
            cache=tmp_path / "cache",
        )
    return caught.value


def traces(tmp_path: Path, needles: list[bytes]) -> list[str]:
    """The files in which anything of a secret is."""
    found = []
    for name in ("destination", "work", "log", "cache"):
        for path in (tmp_path / name).rglob("*"):
            if path.is_file() and any(needle in path.read_bytes() for needle in needles):
                found.append(str(path))
    return found


def test_packages_come_with_the_certificate_and_nothing_of_it_stays(
    make_repository: Callable[..., Any], authority: Authority, tmp_path: Path
) -> None:
    repository, pair = make_repository(), authority.issue("builder")
    with serve(repository.path, authority, tmp_path) as (url, clients):
        given = tls(tmp_path, authority, pair)
        build(repository.resolved(baseurl=url, tls=given), tmp_path)
    assert "Installing       : tiny" in (tmp_path / "log/rootfs.log").read_text()
    assert set(clients) == {"builder"}
    assert traces(tmp_path, pair.needles()) == []
    assert list((tmp_path / "work").iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_without_a_certificate_the_error_says_what_is_missing(
    make_repository: Callable[..., Any], authority: Authority, tmp_path: Path
) -> None:
    repository = make_repository()
    with serve(repository.path, authority, tmp_path) as (url, clients):
        error = build(repository.resolved(baseurl=url, tls=tls(tmp_path, authority, None)), tmp_path)
    assert error.what == "the repository 'tiny' refuses a client without a certificate"
    assert error.where == "tiny.yaml:3"
    assert "client_certificate" in str(error.hint)
    assert clients == []


def test_a_certificate_of_somebody_else_is_refused(
    make_repository: Callable[..., Any], authority: Authority, tmp_path: Path
) -> None:
    repository, pair = make_repository(), Authority("Somebody else").issue("stranger")
    with serve(repository.path, authority, tmp_path) as (url, clients):
        error = build(repository.resolved(baseurl=url, tls=tls(tmp_path, authority, pair)), tmp_path)
    assert error.what == "the repository 'tiny' refuses this client certificate"
    assert clients == []
    assert traces(tmp_path, pair.needles()) == []


def test_a_server_of_an_unknown_authority_is_not_believed(
    make_repository: Callable[..., Any], authority: Authority, tmp_path: Path
) -> None:
    repository = make_repository()
    with serve(repository.path, authority, tmp_path) as (url, _):
        error = build(repository.resolved(baseurl=url), tmp_path)
    assert error.what == "the server of repository 'tiny' has a certificate of an unknown authority"


def test_a_missing_secret_stops_the_build_before_it_begins(
    make_repository: Callable[..., Any], tmp_path: Path
) -> None:
    reference = SecretReference("env:HALLMARK_NO_SUCH_SECRET", "tiny.yaml:6")
    error = build(make_repository().resolved(tls=ClientTls(reference, reference)), tmp_path)
    assert "HALLMARK_NO_SUCH_SECRET is not set" in error.what
    assert error.where == "tiny.yaml:6"
    assert not (tmp_path / "log/rootfs.log").exists()
