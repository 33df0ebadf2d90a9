"""The package manifest and the bill of materials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.errors import HallmarkError
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
