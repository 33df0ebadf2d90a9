"""What a recipe may say about ostree, and what its plan makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from builder.recipe import find, load, plan
from builder.recipe.lock import inputs_digest
from builder.recipe.model import Plan
from builder.recipe.violations import RecipeError
from builder.rootfs import bootfiles
from builder.workspace import PROJECT

_RECIPE = (PROJECT / "images/sample-atomic-9.yaml").read_text()
_SIGNING = "  signing_key: { embedded: sample-distribution }"


def _plan(tmp_path: Path, *changes: tuple[str, str]) -> Plan:
    text = _RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    images = tmp_path / "images"
    images.mkdir()
    for name in ("layers", "waivers", "sample-distribution/keys"):
        shutil.copytree(PROJECT / "images" / name, images / name)
    (images / "sample-atomic-9.yaml").write_text(text)
    return plan(load(find(str(images / "sample-atomic-9.yaml"))), version="9.20261122.0", source_date_epoch=0)


def test_a_commit_knows_no_disk(tmp_path: Path) -> None:
    made = _plan(tmp_path)
    assert made.composed
    files = bootfiles.configuration(made)
    assert not {"/etc/fstab", "/etc/kernel/cmdline", "/boot/grub2/grubenv"} & set(files)
    ids = made.identifiers
    assert not [path for path, text in files.items() if str(ids.root_fs) in text or str(ids.boot_fs) in text]
    whole = bootfiles.configuration(made.model_copy(update={"ostree": None}))
    assert str(ids.root_fs) in whole["/etc/fstab"]


def test_the_addresses_are_those_of_the_release(tmp_path: Path) -> None:
    system = _plan(tmp_path).ostree
    assert system is not None
    assert system.ref == "hallmark-sample/9/x86_64/atomic"
    assert system.stateroot == "hallmark-sample"
    assert system.signing_key is not None
    assert system.signing_key.embedded == "sample-distribution"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (_SIGNING, "  #", "compose and ostree.signing_key don't go together"),
        ("  compose: true", "  #", "compose and ostree.signing_key don't go together"),
        ("embedded: sample-distribution }", "embedded: another }", "is not right"),
        ("signing_key: { embedded: sample-distribution }", "signing_key: {}", "don't go together"),
        ("  ref: ", "  # ", "ostree has no ref"),
        (
            "  fingerprint: 4289A0585D393B761423296BAA81A34A9A583DEE\n  signing",
            "  signing",
            "has no fingerprint",
        ),
        ("  url: https://", "  url: https://user:password@", "is not right"),
        ("  url: https://", "  url: HTTPS://user:password@", "a password in an address"),
        ("/repo #", "/repo?sig=password #", "it has a query"),
        ("  url: https://", "  url: ftp://", "the scheme ftp:"),
        ("  url: https://", "  url: file://", "its path must be absolute"),
        ("  url: https://ostree.hallmark.invalid", "  url: /srv", "it has no scheme"),
        (
            "  compose: true",
            "  compose: true\n  client_key: { secret: env:PASSWORD }",
            "no client_certificate",
        ),
        (
            "  key: sample-distribution/keys/RPM-GPG-KEY-hallmark-sample\n"
            "  fingerprint: 4289A0585D393B761423296BAA81A34A9A583DEE\n  signing",
            f"  commit: {'0' * 64}\n  signing",
            "ostree has no key",
        ),
        ("  stateroot: hallmark-sample", "  stateroot: ../x", "is not right"),
    ],
)
def test_what_a_recipe_may_not_say(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        _plan(tmp_path, (old, new))
    assert complaint in str(caught.value)
    assert "password" not in str(caught.value).replace("a password in an address", "")


def test_a_signing_key_that_stands_in_the_recipe_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        _plan(tmp_path, ("{ embedded: sample-distribution }", "{ secret: my-very-secret-key }"))
    assert "my-very-secret-key" not in str(caught.value)


def test_a_lock_is_stale_when_another_commit_is_meant() -> None:
    made = plan(load(find("atomic-host-7")), version="7.20261122.0", source_date_epoch=0)
    assert made.ostree is not None
    other = made.model_copy(update={"ostree": made.ostree.model_copy(update={"ref": "another"})})
    assert inputs_digest(made) != inputs_digest(other)
