"""Commits from somebody's repository, as a user of the command line meets them: real ostree, real servers."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from vendor_repository import END, FINGERPRINT, KEYS, REF, REMOTE, WHOLE, Site, Vendor, serve

from builder.cli import main
from builder.ostree import repository
from builder.run import run
from tests.tls_mirror import Authority

pytestmark = pytest.mark.system

Hallmark = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A repository with two commits of the ref, the second unsigned one of another, and both checksums."""
    vendor = Vendor(tmp_path_factory.mktemp("vendor") / "repo")
    return vendor.path, vendor.publish("7.1"), vendor.publish("7.2")


@pytest.fixture
def vendor(published: tuple[Path, str, str], tmp_path: Path) -> Vendor:
    """A copy of it to change."""
    copy = Vendor.__new__(Vendor)
    copy.path = tmp_path / "vendor"
    shutil.copytree(published[0], copy.path)
    return copy


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def hallmark(site: Site, capfd: pytest.CaptureFixture[str]) -> Hallmark:
    """Run the command line on the recipe; returns the status and all that it printed."""

    def call(verb: str, *words: str) -> tuple[int, str]:
        capfd.readouterr()
        mirrors = ("--repositories", str(site.mirrors)) if site.mirrors.exists() else ()
        status = main([verb, str(site.recipe), "--build-dir", str(site.build), *mirrors, *words])
        said = capfd.readouterr()
        # The console breaks long lines.
        return status, " ".join((said.out + said.err).split())

    return call


def test_a_stand_in_for_the_vendor_that_is_gone_becomes_an_image(
    published: tuple[Path, str, str], site: Site, hallmark: Hallmark
) -> None:
    repo, _, newest = published
    with serve(repo) as server:
        site.mirror(server.url, disk=WHOLE)
        status, said = hallmark("plan")
        assert status == 0 and f"commits of {REMOTE}" in said and server.url in said
        assert server.asked == [], "planning needs no network"
        status, said = hallmark("build")
    assert status == 0, said
    assert f"key of remote {REMOTE}: 64E3E7558572B59A319452AAF17E745691BA8335 → {FINGERPRINT}" in said
    assert yaml.safe_load(site.artefact("commit.json").read_text())["checksum"] == newest
    [package] = yaml.safe_load(site.artefact("packages.json").read_text())
    assert (package["name"], package["version"], package["signature_key"]) == (
        "tool",
        "7.2",
        "aa81a34a9a583dee",
    )
    listed = run(("tar", "-tf", site.artefact("sysroot.tar"))).stdout
    assert "boot/loader.1/entries/ostree-1-centos.conf" in listed and "boot/loader.1/grub.cfg" in listed
    config = run(("tar", "-xOf", site.artefact("sysroot.tar"), "./ostree/repo/config")).stdout
    assert "gpg-verify=true" in config
    assert "url=http://mirror.centos.org/centos/7/atomic/x86_64/repo" in config, "machines keep the vendor's"
    assert site.artefact("image.vhd").stat().st_size == (2048 << 20) + 512


def test_an_offline_archive_is_as_good(
    published: tuple[Path, str, str], site: Site, hallmark: Hallmark, tmp_path: Path
) -> None:
    repo, older, _ = published
    archive = tmp_path / "kept copy.tar.gz"
    run(("tar", "-C", repo.parent, "-czf", archive, repo.name))
    site.mirror(archive.as_uri(), system=f"commit: {older}")
    status, said = hallmark("lock")
    assert status == 0, said
    assert yaml.safe_load(site.lock.read_text())["ostree"] == older, "what the recipe pins is what is locked"
    status, said = hallmark("build")
    assert status == 1 and END in said
    assert f"commit {older[:12]} of {REF}, version 7.1" in said


def test_a_server_of_a_private_authority_that_knows_its_clients(
    published: tuple[Path, str, str], site: Site, hallmark: Hallmark, tmp_path: Path
) -> None:
    authority, stranger = Authority("Site authority"), Authority("Another")
    own, client = authority.issue("mirror"), authority.issue("builder")
    for name, text in (
        ("server.pem", own.certificate + own.key),
        ("ca.pem", authority.pem),
        ("other.pem", stranger.pem),
        ("client.pem", client.certificate),
        ("client.key", client.key),
    ):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def secret(key: str, file: str) -> str:
        return f'{key}: {{ secret: "file:{tmp_path / file}" }}'

    pair = (secret("client_certificate", "client.pem"), secret("client_key", "client.key"))
    with serve(published[0], tls=context) as server:
        for more in (pair, (*pair, secret("ca", "other.pem")), (secret("ca", "ca.pem"),)):
            site.mirror(server.url, *more)
            status, said = hallmark("lock")
            assert status == 1 and "TLS failed" in said and "ostree.ca" in said
        assert server.asked == []
        site.mirror(server.url, *pair, secret("ca", "ca.pem"))
        status, said = hallmark("build")
        assert status == 1 and END in said
        assert server.asked
        site.mirror(server.url, pair[0], secret("ca", "ca.pem"))
        status, said = hallmark("plan")
        assert status == 1 and "ostree has no client_key" in said
    needles = client.needles()
    kept = [
        path for path in site.build.rglob("*") if path.is_file() and path.suffix in (".json", ".log", ".tar")
    ]
    assert kept
    assert not [path for path in kept if any(needle in path.read_bytes() for needle in needles)]
    config = run(("tar", "-xOf", site.artefact("ostree.tar"), "./config")).stdout
    assert "tls" not in config


def _unsigned(vendor: Vendor) -> str:
    vendor.publish("7.3", sign=False)
    return "no good signature of the pinned key"


def _of_another_key(vendor: Vendor) -> str:
    newest = repository.ostree("rev-parse", REF, repo=vendor.path).strip()
    meta = vendor.path / f"objects/{newest[:2]}/{newest[2:]}.commitmeta"
    older = repository.ostree("rev-parse", f"{REF}^", repo=vendor.path)
    shutil.copyfile(vendor.path / f"objects/{older[:2]}/{older[2:].strip()}.commitmeta", meta)
    return "no good signature of the pinned key"


def _incomplete(vendor: Vendor) -> str:
    vendor.an_object().unlink()
    return "and not all of it"


def _altered(vendor: Vendor) -> str:
    path = vendor.an_object()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return "and not all of it"


def _renamed(vendor: Vendor) -> str:
    repository.ostree("refs", "--delete", REF, repo=vendor.path)
    repository.ostree("summary", "--update", repo=vendor.path)
    return f"has no commit of {REF}"


def _no_repository(vendor: Vendor) -> str:
    shutil.rmtree(vendor.path)
    vendor.path.mkdir()
    return f"has no commit of {REF}"


@pytest.mark.parametrize(
    "damage",
    [_unsigned, _of_another_key, _incomplete, _altered, _renamed, _no_repository],
    ids=lambda f: f.__name__,
)
def test_what_is_wrong_with_a_repository_is_told_and_nothing_is_left(
    damage: Callable[[Vendor], str], vendor: Vendor, site: Site, hallmark: Hallmark
) -> None:
    complaint = damage(vendor)
    with serve(vendor.path) as server:
        site.mirror(server.url)
        status, said = hallmark("build")
    assert status == 1
    assert complaint in said and "fix:" in said and "Traceback" not in said
    assert "atomic-host-7.yaml:" in said, "the place in the recipe"
    assert site.left() == []


def test_a_repository_that_is_down_or_refuses(site: Site, hallmark: Hallmark, tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        gone = server.url
    site.mirror(gone)
    for verb in ("lock", "build"):
        status, said = hallmark(verb)
        assert status == 1 and f"the repository at {gone} does not answer" in said
    with serve(tmp_path, status=403) as server:
        site.mirror(server.url)
        status, said = hallmark("lock")
    assert status == 1 and "refuses: HTTP 403" in said and "client_certificate" in said
    site.mirror("file:///nowhere/repo.tar")
    status, said = hallmark("build")
    assert status == 1 and "neither an ostree repository nor an archive of one at /nowhere/repo.tar" in said
    assert site.left() == [] and not site.lock.exists()


def test_a_locked_build_takes_the_lock_s_commit(
    published: tuple[Path, str, str], vendor: Vendor, site: Site, hallmark: Hallmark
) -> None:
    _, _, locked = published
    with serve(vendor.path) as server:
        site.mirror(server.url)
        assert hallmark("lock")[0] == 0
        before = site.lock.read_bytes()
        moved = vendor.publish("7.3")
        status, said = hallmark("lock", "--check")
        assert status == 1 and moved[:12] in said
        status, said = hallmark("build")
        assert END in said and f"commit {locked[:12]} of {REF}, version 7.2" in said
        assert site.lock.read_bytes() == before

        vendor.prune(locked)
        shutil.rmtree(site.build)
        site.workspace = type(site.workspace).default(build=site.build)
        status, said = hallmark("build")
        assert status == 1 and f"has no longer the commit {locked[:12]} of the lock" in said
        assert "--update" in said and site.left() == []
        assert hallmark("lock", "--update")[0] == 0
        assert yaml.safe_load(site.lock.read_text())["ostree"] == moved
        assert hallmark("lock", "--check")[0] == 0


def test_a_pinned_commit_must_be_there_and_be_of_the_ref(
    vendor: Vendor, site: Site, hallmark: Hallmark
) -> None:
    other = vendor.publish("7.9", ref="centos-atomic-host/7/x86_64/devel")
    with serve(vendor.path) as server:
        for commit, complaint in (("0" * 64, f"has no commit {'0' * 64}"), (other, f"is none of {REF}")):
            site.mirror(server.url, system=f"commit: {commit}")
            status, said = hallmark("build")
            assert status == 1 and complaint in said and site.left() == []


def test_where_nobody_signs_exactly_the_pinned_commit_is_taken(
    vendor: Vendor, site: Site, hallmark: Hallmark
) -> None:
    unsigned = vendor.publish("7.3", sign=False)
    vendor.publish("7.4", sign=False)
    without = "key: null, fingerprint: null"
    with serve(vendor.path) as server:
        site.mirror(server.url, key=False, system=without)
        status, said = hallmark("build")
        assert status == 1 and "ostree has no key" in said and "commit" in said
        site.mirror(server.url, key=False, system=f"{without}, commit: {unsigned}", disk=WHOLE)
        status, said = hallmark("build")
    assert status == 0, said
    assert f"commit {unsigned[:12]} of {REF}, version 7.3" in said
    config = run(("tar", "-xOf", site.artefact("sysroot.tar"), "./ostree/repo/config")).stdout
    assert "gpg-verify=false" in config


def test_a_missing_key_is_told_before_anything_is_fetched(
    published: tuple[Path, str, str], site: Site, hallmark: Hallmark
) -> None:
    with serve(published[0]) as server:
        site.mirror(server.url, key=False)
        status, said = hallmark("build")
        assert status == 1 and "the key file does not exist" in said
        other = f"key: {KEYS}/RPM-GPG-KEY-hallmark-sample\n    fingerprint: {'0' * 40}"
        site.mirror(server.url, other, key=False)
        status, said = hallmark("build")
        assert status == 1 and "is not the pinned one" in said
        assert server.asked == [] and site.left() == []


def test_a_password_in_an_address_is_refused_and_never_shown(site: Site, hallmark: Hallmark) -> None:
    for source in ("https://me:hunter22@example.invalid/repo", "HTTPS://me:hunter22@example.invalid/repo"):
        site.mirror(source)
        for verb in ("plan", "build", "lock"):
            status, said = hallmark(verb)
            assert status == 1 and "mirrors.yaml:3" in said and "hunter22" not in said
    site.mirror("https://example.invalid/repo?token=hunter22")
    status, said = hallmark("build")
    assert status == 1 and "a query" in said and "mirrors.yaml:3" in said and "hunter22" not in said


def test_a_host_without_ostree_is_told_so(
    site: Site, hallmark: Hallmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("rpm", "unshare", "gpg", "tar"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    site.mirror("https://example.invalid/repo")
    for verb in ("build", "lock"):
        status, said = hallmark(verb)
        assert status == 1 and "the program 'ostree' is not installed" in said and "./ci/nox" in said
