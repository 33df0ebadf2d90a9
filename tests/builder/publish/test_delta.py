"""Copying from an earlier release: saved where the service can, harmless where it can't or lies.

Azurite knows no Put Page From URL. Where it has to be, a proxy before it does it by the rules of the REST
reference; the pages themselves are Azurite's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.storage.blob import BlobClient, BlobServiceClient, ContainerClient
from hypothesis import given, settings
from hypothesis import strategies as st
from publish_support import MIB, make_vhd

from builder.image.sparse import extents
from builder.publish.azurite import Azurite
from builder.publish.blob import deliver
from builder.publish.delta import CELL, Base, unchanged
from builder.publish.parcel import Parcel
from builder.publish.ranges import size_of, subtract
from builder.workspace import digest_file
from tests.fault_client import connect
from tests.fault_proxy import Proxy, proxy


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    """Two images of 24 MiB that differ in two bytes and one extent."""
    old = make_vhd(tmp_path / "old.vhd")
    new = make_vhd(tmp_path / "new.vhd")
    with new.open("r+b") as stream:
        for at in (4 * MIB + 77, 7 * MIB + 77):
            byte = os.pread(stream.fileno(), 1, at)
            os.pwrite(stream.fileno(), bytes([byte[0] ^ 1]), at)
        os.pwrite(stream.fileno(), os.urandom(MIB), 16 * MIB)
    return old, new


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 15), st.sampled_from([b"a", b"b", b"\0"])), max_size=12))
def test_only_equal_bytes_are_called_unchanged(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, bytes]]
) -> None:
    place = tmp_path_factory.mktemp("delta")
    old, new = place / "old", place / "new"
    old.write_bytes(b"a" * (8 * CELL))
    new.write_bytes(b"a" * (8 * CELL))
    with new.open("r+b") as stream:
        for at, byte in edits:
            os.pwrite(stream.fileno(), byte * 512, at * CELL // 2)
    data = list(extents(new))
    same = unchanged(old, new, data)
    assert subtract(same, data) == []
    left, right = old.read_bytes(), new.read_bytes()
    assert all(left[at : at + length] == right[at : at + length] for at, length in same)
    touched = {at // 2 for at, byte in edits if byte != b"a"}
    assert size_of(subtract(data, same)) <= len(touched) * CELL


@pytest.fixture
def copying(server: Azurite) -> Iterator[Proxy]:
    with proxy() as between:
        between.reset(backend=int(server.endpoint.split(":")[2].split("/")[0]), fault=None)
        between.copies = True
        yield between


@pytest.fixture
def service(copying: Proxy) -> Iterator[BlobServiceClient]:
    with connect(f"http://127.0.0.1:{copying.server_address[1]}/devstoreaccount1") as made:
        yield made


def parcel(image: Path, version: str) -> Parcel:
    return Parcel(image, digest_file(image), "sample-9", version, {}, "here", lambda: None)


def both(container: ContainerClient, service: BlobServiceClient) -> tuple[BlobClient, BlobClient]:
    client = service.get_container_client(container.container_name)
    return client.get_blob_client("old.vhd"), client.get_blob_client("new.vhd")


@pytest.mark.system
def test_the_service_copies_what_is_the_same(
    container: ContainerClient, service: BlobServiceClient, copying: Proxy, images: tuple[Path, Path]
) -> None:
    old, new = images
    first, second = both(container, service)
    base = Base(first, old, deliver(first, parcel(old, "9.1.0")).etag)
    moved = deliver(second, parcel(new, "9.1.1"), base=base).moved
    data = size_of(list(extents(new)))
    assert moved.copied == copying.copied > 4 * MIB
    assert moved.sent == data - moved.copied < 2 * MIB
    assert second.download_blob().readall() == new.read_bytes()
    assert second.get_blob_properties().metadata["hallmark_state"] == "complete"


@pytest.mark.system
@pytest.mark.parametrize("case", ["can't", "gone", "changed"])
def test_without_a_copy_everything_is_sent(
    container: ContainerClient,
    service: BlobServiceClient,
    copying: Proxy,
    images: tuple[Path, Path],
    case: str,
) -> None:
    """The service knows no such request; the base was deleted; it was touched since it was verified."""
    old, new = images
    first, second = both(container, service)
    base = Base(first, old, deliver(first, parcel(old, "9.1.0")).etag)
    if case == "can't":
        copying.copies = False
    elif case == "gone":
        first.delete_blob()
    else:
        first.set_blob_metadata({"touched": "yes"})
    moved = deliver(second, parcel(new, "9.1.1"), base=base).moved
    assert (moved.copied, moved.sent) == (0, size_of(list(extents(new))))
    assert second.download_blob().readall() == new.read_bytes()


@pytest.mark.system
def test_a_base_that_lies_is_found_out(
    container: ContainerClient, service: BlobServiceClient, images: tuple[Path, Path]
) -> None:
    """The blob isn't what the file beside its record says: copied, read back, found wrong, sent."""
    old, new = images
    first, second = both(container, service)
    deliver(first, parcel(old, "9.1.0"))
    page = first.upload_page(b"x" * 512, offset=6 * MIB, length=512)
    moved = deliver(second, parcel(new, "9.1.1"), base=Base(first, old, str(page["etag"]))).moved
    assert moved.copied
    assert second.download_blob().readall() == new.read_bytes()
