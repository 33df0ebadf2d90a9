"""The catalog: complete, in order, safe to open, and replaced in one piece."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from builder import catalog
from builder.catalog import Catalog
from builder.errors import HallmarkError
from builder.publish.release import ImageFile, Release
from builder.workspace import Workspace

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Page(HTMLParser):
    """What a page links to and fetches, which elements it leaves open, and its text."""

    VOID = frozenset({"meta", "br", "img", "link", "path", "hr"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.scripts = 0
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.append(found.get("href") or "")
        self.fetched += [value or "" for name, value in attrs if name in ("src", "srcset", "data", "action")]
        self.fetched += [found.get("href") or ""] if tag == "link" else []
        self.scripts += tag == "script" or any(name.startswith("on") for name in found)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()} of {self.path}"

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(published: Workspace) -> Page:
    return Page(catalog.write(published, now=NOW))


def test_every_release_is_listed_newest_first(published: Workspace, page: Page) -> None:
    found = Catalog.model_validate_json((published.catalog / "catalog.json").read_text())
    assert [(e.release.recipe, e.release.version) for e in found.releases] == [
        ("centos-stream-9", "9.20261122.0"),
        ("sample-9", "9.20261122.10"),
        ("sample-9", "9.20261122.9"),
        ("sample-9", "9.20260801.0"),
    ]
    assert found.updated == datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    first = found.releases[1]
    assert first.release == Release.read(published.artefacts("sample-9", "9.20261122.10").release)
    assert first.package_count == 6
    assert [item.name for item in first.highlights] == [
        "kernel-core",
        "openssl-libs",
        "cloud-init",
        "WALinuxAgent",
        "dotnet-runtime-3.1",
    ]
    assert first.highlights[1].evr == "1:3.0.17-1.hs9"
    assert first.release.image.sha256 in page.text


def test_pages_are_whole_and_fetch_nothing(published: Workspace, page: Page) -> None:
    pages = [page, *(Page(path) for path in published.catalog.glob("*/*/index.html"))]
    assert len(pages) == 5
    for found in pages:
        assert found.open == [] and found.fetched == [] and found.scripts == 0
        assert "url(" not in found.path.read_text() and "@import" not in found.path.read_text()


def test_every_link_leads_somewhere(published: Workspace, page: Page) -> None:
    pages = [page, *(Page(path) for path in published.catalog.glob("*/*/index.html"))]
    links = [(found, link) for found in pages for link in found.links]
    assert len(links) > 20
    for found, link in links:
        target = (found.path.parent / link.partition("#")[0]).resolve()
        assert target.is_file() and target.is_relative_to(published.catalog), link


def test_what_a_reader_needs_is_on_the_page(page: Page) -> None:
    text = " ".join(page.text.split())
    for said in (
        "71 passed",
        "1 waived",
        "6 not applicable",
        "azure, hyperv",
        "BIOS, UEFI",
        "20 February 2027",
        "dotnet.channel-supported is waived until 1 February 2027",
        "never for use. — image-team@example.org",
        "All 6 packages",
        "az image create",
        "hallmark verify sample-9-9-20261122-10.vhd",
    ):
        assert said in text, said


def test_every_format_is_told_with_its_digest_and_where_it_is(
    published: Workspace, make_record: Callable[..., Release]
) -> None:
    artefacts = published.artefacts("sample-9", "9.20261122.10")
    release = Release.read(artefacts.release)
    name = release.image.name.removesuffix(".vhd")
    disk = release.image.virtual_size
    outputs = (
        ImageFile(name=f"{name}.vhdx", format="vhdx", size=700 << 20, virtual_size=disk, sha256="a" * 64),
        ImageFile(name=f"{name}.qcow2", format="qcow2", size=300 << 20, virtual_size=disk, sha256="b" * 64),
    )
    share = make_record(
        "sample-9", release.version, when=NOW, title="", destination="file:///mnt/library"
    ).locations[0]
    share = share.model_copy(update={"outputs": {"vhdx": f"file:///mnt/library/{name}.vhdx"}})
    locations = (*release.locations, share)
    release.model_copy(update={"outputs": outputs, "locations": locations}).write(artefacts.release)
    front = Page(catalog.write(published, now=NOW))
    assert "2.0 GiB fixed VHD, VHDX, qcow2" in " ".join(front.text.split())
    text = " ".join(Page(published.catalog / "sample-9" / release.version / "index.html").text.split())
    assert f"fixed VHD {name}.vhd {release.image.sha256} 2.0 GiB 2.0 GiB azurite, file:///mnt/library" in text
    assert f"file:///mnt/library/{name}.vhd file:///mnt/library/{name}.vhdx " in text
    assert f"VHDX {name}.vhdx {'a' * 64} 700 MiB 2.0 GiB file:///mnt/library" in text
    assert f"qcow2 {name}.qcow2 {'b' * 64} 300 MiB 2.0 GiB the build only" in text
    assert f"-Generation 2 -MemoryStartupBytes 2GB -VHDPath .\\{name}.vhdx" in text
    assert "Convert-VHD" not in text, "nobody converts what is there"
    found = json.loads((published.catalog / "catalog.json").read_text())["releases"][1]["release"]
    assert [item["sha256"] for item in found["outputs"]] == ["a" * 64, "b" * 64]


def test_an_expired_certificate_is_not_called_valid(published: Workspace, page: Page) -> None:
    assert "(expired)" in page.text  # the release of August
    assert "certificate expired" not in page.text
    later = Page(catalog.write(published, now=datetime(2027, 3, 1, tzinfo=UTC)))
    assert later.text.count("certificate expired") == 2
    soon = Page(catalog.write(published, now=datetime(2027, 2, 10, tzinfo=UTC)))
    assert "days left" in soon.text


def test_text_of_a_recipe_is_no_markup(page: Page) -> None:
    assert "CentOS <Stream> 9" in page.text
    assert "<Stream>" not in page.path.read_text()


def test_a_release_that_is_gone_leaves_the_catalog(published: Workspace, page: Page) -> None:
    published.artefacts("sample-9", "9.20261122.9").release.unlink()
    catalog.write(published, now=NOW)
    assert not (published.catalog / "sample-9" / "9.20261122.9").exists()
    assert "9.20261122.9" not in (published.catalog / "index.html").read_text()


def test_the_same_releases_give_the_same_catalog(published: Workspace, page: Page) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(published.catalog.rglob("*")) if path.is_file()}

    before = content()
    catalog.write(published, now=NOW)
    assert content() == before and len(before) > 20


def test_no_release_at_all(tmp_path: Path) -> None:
    space = Workspace.default(build=tmp_path / "build", cache=tmp_path / "cache")
    assert "Nothing is published yet" in Page(catalog.write(space, now=NOW)).text
    assert json.loads((space.catalog / "catalog.json").read_text())["releases"] == []


@pytest.mark.parametrize("damage", ["truncated", "unknown key", "copied", "packages"])
def test_a_damaged_record_is_named_and_the_old_catalog_stays(
    published: Workspace, page: Page, damage: str, make_record: Callable[..., Release]
) -> None:
    before = page.path.read_bytes()
    artefacts = published.artefacts("sample-9", "9.20261122.9")
    text = artefacts.release.read_text()
    bad = artefacts.release
    if damage == "truncated":
        bad.write_text(text[: len(text) // 2])
    elif damage == "unknown key":
        bad.write_text(text.replace('"title"', '"titel"'))
    elif damage == "copied":
        bad.write_text(text.replace("9.20261122.9", "9.20261122.8"))
    else:
        bad = artefacts.packages
        bad.write_text('[{"name": "bash"}]')
    with pytest.raises(HallmarkError) as error:
        catalog.write(published, now=NOW)
    assert str(bad) in str(error.value)
    assert page.path.read_bytes() == before


def test_the_end_of_support_is_told_for_the_release_and_the_runtime(published: Workspace, page: Page) -> None:
    found = Catalog.model_validate_json((published.catalog / "catalog.json").read_text())
    ends = {item.what: item for item in found.releases[1].support}
    assert list(ends) == [".NET 3.1", "Hallmark sample distribution 9"]
    assert str(ends[".NET 3.1"].ends) == "2022-12-13"
    assert "releases-index.json" in ends[".NET 3.1"].source
    assert "ended on 13 December 2022" in page.text
    assert "until 30 June 2028" in page.text
    detail = Page(published.catalog / "sample-9" / "9.20261122.10" / "index.html")
    assert "ended on 13 December 2022" in detail.text


@pytest.mark.parametrize(
    ("now", "look"),
    [(datetime(2028, 3, 1, tzinfo=UTC), "plain"), (datetime(2028, 6, 30, tzinfo=UTC), "warn")],
)
def test_an_end_that_is_near_stands_out(published: Workspace, now: datetime, look: str) -> None:
    text = catalog.write(published, now=now).read_text()
    marked = '<span class="badge warn">until 30 June 2028</span>' in text
    assert marked is (look == "warn")
