"""The package manifest and the bill of materials."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.recipe.lock import Lock, LockedPackage
from builder.recipe.model import Plan
from builder.rootfs import manifest, sbom
from builder.rootfs.repositories import TrustedRepository

SIGNED = "RSA/SHA256, Sun 22 Nov 2026 12:00:00 PM UTC, Key ID aa81a34a9a583dee"
DIGEST = "ab" * 32


def line(
    name: str, *, epoch: str = "0", vendor: str = "Tiny", licence: str = "MIT", signature: str = SIGNED
) -> str:
    return "\t".join(
        (
            name,
            epoch,
            "1.0",
            "2",
            "x86_64",
            "4096",
            DIGEST,
            vendor,
            licence,
            f"{name}-1.0-2.src.rpm",
            signature,
        )
    )


LISTING = "\n".join(
    (
        line("zlib", licence="Zlib AND (MIT OR GPL-2.0-only)"),
        line("bash", epoch="2", licence="GPLv3+ and bits of other things"),
        line("gpg-pubkey", signature="(none)"),
        line("odd+name", vendor="(none)", licence="(none)"),
    )
)


def test_parse() -> None:
    packages = manifest.parse(LISTING, repositories={("bash", "2", "1.0", "2", "x86_64"): "baseos"})
    assert [item.nevra for item in packages] == [
        "bash-2:1.0-2.x86_64",
        "odd+name-1.0-2.x86_64",
        "zlib-1.0-2.x86_64",
    ]
    bash, odd, _ = packages
    assert bash.repository == "baseos"
    assert bash.signature_key == "aa81a34a9a583dee"
    assert bash.size == 4096
    assert bash.source == "bash-1.0-2.src.rpm"
    assert (odd.vendor, odd.licence, odd.repository) == (None, None, None)


def test_write_and_load(tmp_path: Path) -> None:
    packages = manifest.parse(LISTING)
    manifest.write(packages, tmp_path / "packages.json")
    assert manifest.load(tmp_path / "packages.json") == packages


def test_the_transaction_says_where_packages_came_from(tmp_path: Path) -> None:
    transaction = tmp_path / "transaction.json"
    item = {"name": "bash", "epoch": 2, "version": "1.0", "release": "2", "arch": "x86_64"}
    transaction.write_text(json.dumps([{**item, "repository": "baseos", "path": "/bash.rpm"}]))
    origins = manifest.origins(transaction)
    assert {item.name: item.repository for item in manifest.parse(LISTING, repositories=origins)} == {
        "bash": "baseos",
        "odd+name": None,
        "zlib": None,
    }


def test_installed_packages_are_those_of_the_lock() -> None:
    where = {
        (name, epoch, "1.0", "2", "x86_64"): "baseos"
        for name, epoch in (("bash", "2"), ("odd+name", "0"), ("zlib", "0"))
    }
    packages = manifest.parse(LISTING, repositories=where)
    locked = tuple(
        LockedPackage(
            **item.model_dump(include={"name", "epoch", "version", "release", "arch", "repository"}),
            sha256="a" * 64,
            key=item.signature_key or "",
        )
        for item in packages
    )
    lock = Lock(recipe="tiny-9", when=datetime(2026, 11, 22, tzinfo=UTC), inputs="b" * 64, packages=locked)
    manifest.check_lock(packages, lock)
    for wrong, detail in (
        (packages[1:], "missing: bash-2:1.0-2.x86_64 from baseos, key aa81a34a9a583dee"),
        (
            (packages[0].model_copy(update={"version": "1.1"}), *packages[1:]),
            "not in the lock: bash-2:1.1-2.x86_64 from baseos, key aa81a34a9a583dee",
        ),
        (
            (packages[0].model_copy(update={"signature_key": "0" * 16}), *packages[1:]),
            f"not in the lock: bash-2:1.0-2.x86_64 from baseos, key {'0' * 16}",
        ),
    ):
        with pytest.raises(HallmarkError, match="not those of the lock") as caught:
            manifest.check_lock(wrong, lock)
        assert detail in caught.value.details


@pytest.mark.parametrize("signature", ["(none)", "", SIGNED.replace("aa81", "bb81")])
def test_every_package_is_signed_by_a_pinned_key(signature: str, trusted: TrustedRepository) -> None:
    manifest.check_signatures(manifest.parse(LISTING), (trusted,))
    with pytest.raises(HallmarkError, match="1 installed packages are not signed by a pinned key") as caught:
        manifest.check_signatures(
            manifest.parse(LISTING + "\n" + line("evil", signature=signature)), (trusted,)
        )
    assert caught.value.details[0].startswith("evil-1.0-2.x86_64: ")


def test_sbom(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "sbom.cdx.json"
    sbom.write(plan, manifest.parse(LISTING), path)
    bom = json.loads(path.read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert bom["metadata"]["component"]["type"] == "operating-system"
    assert bom["metadata"]["timestamp"] == "2026-11-22T00:00:00+00:00"
    by_name = {component["name"]: component for component in bom["components"]}
    bash = by_name["bash"]
    assert bash["purl"] == (
        "pkg:rpm/tiny/bash@1.0-2?arch=x86_64&distro=tiny-9.1&epoch=2&upstream=bash-1.0-2.src.rpm"
    )
    assert bash["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert bash["licenses"] == [{"license": {"name": "GPLv3+ and bits of other things"}}]
    assert by_name["zlib"]["licenses"] == [{"expression": "Zlib AND (MIT OR GPL-2.0-only)"}]
    assert "licenses" not in by_name["odd+name"]
    assert by_name["odd+name"]["purl"].startswith("pkg:rpm/tiny/odd%2Bname@1.0-2?")
    # Every package hangs on the system.
    (root,) = [item for item in bom["dependencies"] if item["ref"] == "tiny-9@9.20261122.0"]
    assert len(root["dependsOn"]) == 3


def test_sbom_is_reproducible(plan: Plan) -> None:
    packages = manifest.parse(LISTING)
    assert sbom.render(plan, packages) == sbom.render(plan, tuple(reversed(packages)))


def test_a_bad_bill_of_materials_is_refused(plan: Plan) -> None:
    good = sbom.render(plan, manifest.parse(LISTING))
    sbom.validate(good)
    for old, new in (('"SHA-256"', '"SHA-257"'), (DIGEST, "xyz"), ('"bomFormat"', '"bomform"')):
        with pytest.raises(HallmarkError, match="does not satisfy CycloneDX"):
            sbom.validate(good.replace(old, new))
