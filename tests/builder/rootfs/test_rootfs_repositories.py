"""Keys are trusted by fingerprint alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.recipe.model import Origin
from builder.rootfs.repositories import ResolvedRepository, key_fingerprints, trust
from builder.run import run

KEY = Path(__file__).parents[3] / "images/sample-distribution/keys/RPM-GPG-KEY-hallmark-sample"
FINGERPRINT = "4289A0585D393B761423296BAA81A34A9A583DEE"


def repository(key: Path, fingerprint: str = FINGERPRINT) -> ResolvedRepository:
    return ResolvedRepository(
        id="sample",
        key=key,
        fingerprint=fingerprint,
        baseurl="file:///srv/sample",
        where=Origin(path="layers/el.yaml", line=4),
    )


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another public key."""
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    gpg = ("gpg", "--homedir", str(home), "--batch", "--passphrase", "", "--pinentry-mode", "loopback")
    run((*gpg, "--quick-generate-key", "stranger@example.invalid", "ed25519", "sign", "never"))
    path = home / "stranger.asc"
    run((*gpg, "--armor", "--output", str(path), "--export"))
    run(("gpgconf", "--homedir", str(home), "--kill", "all"))
    return path


def test_the_pinned_key_is_taken() -> None:
    (trusted,) = trust((repository(KEY),))
    assert trusted.key.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert trusted.key_ids == ("aa81a34a9a583dee",)
    assert trusted.address == "file:///srv/sample"


def test_the_same_key_gives_the_same_text() -> None:
    assert trust((repository(KEY),)) == trust((repository(KEY, FINGERPRINT.lower()),))


def test_another_key_stops_the_build_and_names_the_line(stranger: Path) -> None:
    with pytest.raises(HallmarkError, match="is not the pinned one") as caught:
        trust((repository(stranger),))
    assert caught.value.where == "layers/el.yaml:4"
    assert any(FINGERPRINT in line for line in caught.value.details)
    assert any(key_fingerprints(stranger)[0] in line for line in caught.value.details)


def test_a_key_slipped_into_the_file_is_left_out(stranger: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.asc"
    both.write_bytes(KEY.read_bytes() + b"\n" + stranger.read_bytes())
    assert len(key_fingerprints(both)) == 2
    (trusted,) = trust((repository(both),))
    alone = tmp_path / "alone.asc"
    alone.write_text(trusted.key)
    assert key_fingerprints(alone) == (FINGERPRINT,)


@pytest.mark.parametrize("content", [b"", b"no key\n", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n"])
def test_no_key_in_the_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.asc"
    path.write_bytes(content)
    with pytest.raises(HallmarkError, match="holds no OpenPGP public key"):
        trust((repository(path),))


def test_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match="does not exist"):
        trust((repository(tmp_path / "none.asc"),))


def test_no_repository() -> None:
    with pytest.raises(HallmarkError, match="names no package repository"):
        trust(())


def test_a_repository_without_an_address() -> None:
    with pytest.raises(HallmarkError, match="neither a base URL nor a metalink"):
        trust((ResolvedRepository(id="x", key=KEY, fingerprint=FINGERPRINT),))
