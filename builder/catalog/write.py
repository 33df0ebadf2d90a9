"""Writing the catalog: one JSON index, one page for people, and beside each release the files that prove it.

The page needs no script and no network: it can be read from a file share, a web server or a mail attachment.
"""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import TypeAdapter, ValidationError

from builder.catalog.model import Catalog, Entry, Package
from builder.errors import HallmarkError
from builder.publish.records import records
from builder.publish.release import Release
from builder.recipe.support import SupportEnd, ends_of
from builder.rootfs.manifest import Package as InstalledPackage
from builder.workspace import Artefacts, Workspace, atomic_directory

__all__ = ["write"]

_TEMPLATES = Path(__file__).with_name("templates")
#: What people choose an image by, in this order; each may be missing.
_HIGHLIGHTS = (
    "kernel",
    "kernel-core",
    "systemd",
    "glibc",
    "openssl-libs",
    "cloud-init",
    "WALinuxAgent",
    "hyperv-daemons",
    "dotnet-runtime-",
    "aspnetcore-runtime-",
    "dotnet-sdk-",
    "podman",
    "selinux-policy-targeted",
)
#: What the formats are called.
_FORMATS = {"vhd": "fixed VHD", "vhdx": "VHDX", "qcow2": "qcow2", "oci": "OCI container disk"}
_DOTNET = re.compile(r"(?:dotnet-runtime|aspnetcore-runtime|dotnet-sdk)-([0-9]+\.[0-9]+)\Z")
_PACKAGES = TypeAdapter(tuple[InstalledPackage, ...])


def write(workspace: Workspace, *, now: datetime | None = None) -> Path:
    """Write ``catalog/`` from every release record in the workspace; the path of its page.

    The directory is replaced as a whole, so readers see the old catalog or the new one.

    :param now: the day for which validity is told; the present by default.
    :raises HallmarkError: a release record, or a file that belongs to one, can't be read.
    """
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    found = records(workspace)
    environment = _environment(now)
    with atomic_directory(workspace.catalog) as directory:
        entries = []
        for artefacts, release in found:
            packages = _packages(artefacts)
            entry = _entry(artefacts, release, packages, directory)
            entries.append(entry)
            page = directory / release.recipe / release.version / "index.html"
            text = environment.get_template("release.html.j2").render(entry=entry, packages=packages)
            page.write_text(text, encoding="utf-8")
        catalog = Catalog.of(tuple(entries))
        data = catalog.model_dump(mode="json")
        (directory / "catalog.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        page = directory / "index.html"
        page.write_text(environment.get_template("index.html.j2").render(catalog=catalog), encoding="utf-8")
    return workspace.catalog / "index.html"


def _entry(
    artefacts: Artefacts, release: Release, packages: tuple[InstalledPackage, ...], directory: Path
) -> Entry:
    home = Path(release.recipe) / release.version
    (directory / home).mkdir(parents=True)
    files = {}
    for kind, source in (
        ("certificate", artefacts.certificate),
        ("report", artefacts.report_html),
        ("sbom", artefacts.sbom),
        ("packages", artefacts.packages),
        ("release", artefacts.release),
    ):
        if source.exists():
            shutil.copyfile(source, directory / home / source.name)
            files[kind] = str(home / source.name)
    return Entry(
        release=release,
        files=files,
        package_count=len(packages),
        highlights=_highlights(packages),
        support=_support(release, packages),
    )


def _support(release: Release, packages: tuple[InstalledPackage, ...]) -> tuple[SupportEnd, ...]:
    """Until when what is in the image is maintained; the .NET channels are those of its packages."""
    found = [match[1] for item in packages if (match := _DOTNET.match(item.name))]
    return ends_of(
        distribution=release.distribution_id,
        name=release.distribution,
        release=release.release,
        channels=tuple(dict.fromkeys(found)),
    )


def _packages(artefacts: Artefacts) -> tuple[InstalledPackage, ...]:
    if not artefacts.packages.exists():
        return ()
    try:
        return _PACKAGES.validate_json(artefacts.packages.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise HallmarkError(
            f"this is no list of packages: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=artefacts.packages,
            hint="build the recipe again",
        ) from None


def _highlights(packages: tuple[InstalledPackage, ...]) -> tuple[Package, ...]:
    def rank(name: str) -> int | None:
        for index, wanted in enumerate(_HIGHLIGHTS):
            if name == wanted or (wanted.endswith("-") and name.startswith(wanted)):
                return index
        return None

    ranked = [(rank(item.name), item) for item in packages]
    chosen = sorted((r, item.name, item) for r, item in ranked if r is not None)
    return tuple(Package(name=item.name, evr=evr(item), arch=item.arch) for _, _, item in chosen)


def evr(package: InstalledPackage) -> str:
    """``[epoch:]version-release``, as rpm prints it."""
    epoch = f"{package.epoch}:" if package.epoch else ""
    return f"{epoch}{package.version}-{package.release}"


def size(count: int) -> str:
    """A number of bytes for people: ``4.0 GiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"


def _environment(now: datetime) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = size
    environment.filters["evr"] = evr
    environment.filters["format_name"] = _FORMATS.__getitem__
    environment.filters["base_name"] = lambda url: url.rpartition("/")[2]
    environment.filters["day"] = lambda when: f"{when.day} {when:%B %Y}"
    environment.globals["now"] = now
    environment.globals["today"] = now.date()
    return environment
