"""A repository of a few packages that can change underneath, and a recipe that installs from it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from builder.run import run
from builder.sampledistro.rpm import Dependency, Entry, PackageSpec, write
from builder.workspace import PROJECT

KEYS = PROJECT / "images/sample-distribution/keys"
FINGERPRINT = "4289A0585D393B761423296BAA81A34A9A583DEE"
KEY_ID = "aa81a34a9a583dee"
DATE = 1795305600

RECIPE = """recipe: small-9
title: Small
summary: A recipe for tests.
extends: [boot]
distribution: {{id: small, name: Small Linux, release: "9"}}
repositories:
  small:
    baseurl: {url}
    key: KEY
    fingerprint: {fingerprint}
packages: {{install: [{packages}]}}
kernel: {{arguments: [console=ttyS0]}}
disk: {{size_mib: 4096}}
certification: {{policies: [ccsp], targets: []}}
"""
# No recipe is built whose image nothing could boot.
LOADER = "grub2-pc"
LAYER = f"""layer: boot
summary: What a recipe needs besides.
packages: {{install: [{LOADER}]}}
disk: {{generations: [1]}}
"""


class SmallRepository:
    """Packages below ``path``; every change writes the metadata anew, as a vendor would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.add(LOADER, "1.0")

    def add(
        self,
        name: str,
        version: str,
        *,
        epoch: int = 0,
        requires: tuple[str, ...] = (),
        files: Mapping[str, str] | None = None,
    ) -> Path:
        """A package; the value is its file. ``files``: text by absolute path."""
        spec = PackageSpec(
            name=name,
            version=version,
            release="1",
            epoch=epoch,
            arch="noarch",
            summary=name,
            entries=tuple(
                Entry(path, "file", content=text.encode())
                for path, text in (files or {f"/usr/share/{name}/{version}": "one\n"}).items()
            ),
            requires=tuple(Dependency.parse(item) for item in requires),
        )
        rpm = self.path / spec.filename
        write(spec, rpm, secret_key=(KEYS / "test-secret-key.asc").read_bytes(), source_date=DATE)
        self.index()
        return rpm

    def remove(self, *names: str) -> None:
        for name in names:
            (self.path / f"{name}-1.noarch.rpm").unlink()
        self.index()

    def index(self) -> None:
        run((str(Path(sys.executable).with_name("createrepo_c")), "--quiet", str(self.path)))


def write_recipe(images: Path, repository: SmallRepository, *packages: str) -> Path:
    """The recipe ``small-9`` in its tree; a second call changes what it asks for."""
    (images / "layers").mkdir(parents=True, exist_ok=True)
    (images / "layers/boot.yaml").write_text(LAYER)
    shutil.copy(KEYS / "RPM-GPG-KEY-hallmark-sample", images / "KEY")
    recipe = images / "small-9.yaml"
    recipe.write_text(
        RECIPE.format(url=repository.path.as_uri(), fingerprint=FINGERPRINT, packages=", ".join(packages))
    )
    return recipe
