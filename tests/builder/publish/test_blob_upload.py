"""Uploads to a real Azurite: what arrives, what is found wrong, what a killed client leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient, BlobLeaseClient, ContainerClient

from builder.errors import HallmarkError
from builder.image.sparse import extents
from builder.publish import azurite
from builder.publish.azurite import Azurite
from builder.publish.blob import deliver
from builder.publish.parcel import Parcel, metadata
from builder.publish.storage import connect_azurite, open_container
from builder.publish.upload import Mismatch, covered, verify
from builder.workspace import Workspace, digest_file

pytestmark = pytest.mark.system

NAME = "sample-9-9-20261122-0.vhd"


def parcel(image: Path, *, sender: str = "here", **changes: object) -> Parcel:
    fields = {
        "image": image,
        "sha256": digest_file(image),
        "recipe": "sample-9",
        "version": "9.20261122.0",
        "tags": {"hallmark_visibility": "private"},
        "sender": sender,
        "must_be_unchanged": lambda: None,
    }
    return Parcel(**{**fields, **changes})  # type: ignore[arg-type]  # a table of overrides


def content(blob: BlobClient) -> bytes:
    return blob.download_blob().readall()


def test_upload_equals_the_file_and_holds_no_zero_range(container: ContainerClient, vhd: Path) -> None:
    blob = container.get_blob_client(NAME)
    done = deliver(blob, parcel(vhd))
    data = list(extents(vhd))
    assert content(blob) == vhd.read_bytes()
    assert covered(blob) == data
    assert done.moved.sent == sum(length for _, length in data) < 6 << 20
    assert done.moved.sent + done.moved.skipped == done.size == vhd.stat().st_size
    with vhd.open("rb") as stream:
        for offset, length in covered(blob):
            written = os.pread(stream.fileno(), length, offset)
            assert any(written[:512]) and any(written[-512:])
    found = blob.get_blob_properties()
    assert found.metadata == {
        "hallmark_state": "complete",
        "hallmark_sha256": digest_file(vhd),
        "hallmark_recipe": "sample-9",
        "hallmark_version": "9.20261122.0",
        "hallmark_visibility": "private",
        "MicrosoftAzureCompute_OSState": "Generalized",
        "MicrosoftAzureCompute_OSType": "Linux",
        "MicrosoftAzureCompute_ImageType": "OSDisk",
    }
    assert found.lease.state == "available"
    assert found.etag == done.etag


def test_doing_it_again_sends_nothing(container: ContainerClient, vhd: Path) -> None:
    blob = container.get_blob_client(NAME)
    first = deliver(blob, parcel(vhd))
    for known in (first.etag, None):
        again = deliver(blob, parcel(vhd), known_etag=known)
        assert (again.moved.sent, again.moved.requests, again.etag) == (0, 0, first.etag)


def test_what_was_withdrawn_is_not_delivered_again(container: ContainerClient, vhd: Path) -> None:
    """Whether all of it is there, or an upload is to be taken up."""
    blob = container.get_blob_client(NAME)
    deliver(blob, parcel(vhd))
    for state in ("complete", "incomplete"):
        marks = {**blob.get_blob_properties().metadata, "hallmark_channel": "withdrawn"}
        etag = blob.set_blob_metadata({**marks, "hallmark_state": state})["etag"]
        with pytest.raises(HallmarkError, match=r"9\.20261122\.0 was withdrawn: the blob says so"):
            deliver(blob, parcel(vhd), known_etag=etag)
        assert blob.get_blob_properties().etag == etag


def test_tags_are_not_renewed_over_somebody_elses_write(
    container: ContainerClient, vhd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the bytes and the new tags: the next run looks again."""
    blob = container.get_blob_client(NAME)
    tags = {"hallmark_channel": "staged", "hallmark_expires": "2027-01-01"}
    deliver(blob, parcel(vhd, tags=tags))
    renewed = parcel(vhd, tags={**tags, "hallmark_expires": "2027-04-01"})

    def seen_and_then_changed(*arguments: Any, **options: Any) -> list[Mismatch]:
        found = verify(*arguments, **options)
        blob.upload_page(b"x" * 512, offset=20 << 20, length=512)
        return found

    with monkeypatch.context() as patch, pytest.raises(HallmarkError, match="412") as error:
        patch.setattr("builder.publish.blob.verify", seen_and_then_changed)
        deliver(blob, renewed)
    assert "somebody else" in str(error.value.hint)
    assert blob.get_blob_properties().metadata["hallmark_expires"] == "2027-01-01"
    with pytest.raises(HallmarkError, match="not the image"):
        deliver(blob, renewed)
    blob.clear_page(offset=20 << 20, length=512)
    done = deliver(blob, renewed)
    assert blob.get_blob_properties().metadata["hallmark_expires"] == "2027-04-01"
    assert deliver(blob, renewed, known_etag=done.etag).etag == done.etag


def test_a_wrong_byte_is_found_and_named(container: ContainerClient, vhd: Path) -> None:
    blob = container.get_blob_client(NAME)
    etag = deliver(blob, parcel(vhd)).etag
    data = list(extents(vhd))
    assert verify(blob, vhd, data, etag=etag) == []
    at = 5 * (1 << 20) + 512
    page = bytearray(vhd.read_bytes()[at : at + 512])
    page[77] ^= 0xFF
    etag = str(blob.upload_page(bytes(page), offset=at, length=512)["etag"])
    (wrong,) = verify(blob, vhd, data, etag=etag)
    assert wrong.at == at + 77
    with pytest.raises(HallmarkError, match="not the image: 1 ranges differ") as error:
        deliver(blob, parcel(vhd))
    assert f"byte {at + 77}: expected" in str(error.value)
    # With the etag of the verified state at hand it is noticed just the same: a write changes the etag.
    with pytest.raises(HallmarkError, match="not the image"):
        deliver(blob, parcel(vhd), known_etag="0xOLD")


@pytest.mark.parametrize("change", ["missing", "surplus"])
def test_missing_and_surplus_ranges_are_found(container: ContainerClient, vhd: Path, change: str) -> None:
    blob = container.get_blob_client(NAME)
    deliver(blob, parcel(vhd))
    if change == "missing":
        etag = blob.clear_page(offset=0, length=512)["etag"]
    else:
        etag = blob.upload_page(b"x" * 512, offset=20 << 20, length=512)["etag"]
    (wrong,) = verify(blob, vhd, list(extents(vhd)), etag=str(etag))
    assert wrong.at == (0 if change == "missing" else 20 << 20)


def test_an_unfinished_blob_is_mended(container: ContainerClient, vhd: Path) -> None:
    """Pages that an earlier attempt left wrong, missing or too many: the blob is complete only when all are
    right.
    """
    blob = container.get_blob_client(NAME)
    item = parcel(vhd)
    blob.create_page_blob(vhd.stat().st_size, metadata=metadata(item, "incomplete"))
    offset, length = next(iter(extents(vhd)))
    blob.upload_page(b"w" * length, offset=offset, length=length)
    blob.upload_page(b"s" * 512, offset=20 << 20, length=512)
    done = deliver(blob, item)
    assert content(blob) == vhd.read_bytes()
    assert blob.get_blob_properties().metadata["hallmark_state"] == "complete"
    assert done.moved.present == length


def test_an_unfinished_blob_of_another_image_is_replaced(
    container: ContainerClient, vhd: Path, tmp_path: Path, make_vhd: Callable[..., Path]
) -> None:
    blob = container.get_blob_client(NAME)
    other = make_vhd(tmp_path / "other.vhd", mib=32, seed=2)
    blob.create_page_blob(other.stat().st_size, metadata=metadata(parcel(other), "incomplete"))
    blob.upload_page(b"s" * 512, offset=20 << 20, length=512)
    deliver(blob, parcel(vhd))
    assert content(blob) == vhd.read_bytes()


def test_a_published_version_with_other_bytes_is_refused(
    container: ContainerClient, vhd: Path, tmp_path: Path, make_vhd: Callable[..., Path]
) -> None:
    blob = container.get_blob_client(NAME)
    deliver(blob, parcel(vhd))
    other = make_vhd(tmp_path / "other.vhd", seed=2)
    with pytest.raises(HallmarkError, match="published already, with other bytes"):
        deliver(blob, parcel(other))
    assert content(blob) == vhd.read_bytes()


def test_a_blob_of_somebody_else_is_left_alone(container: ContainerClient, vhd: Path) -> None:
    blob = container.get_blob_client(NAME)
    blob.upload_blob(b"mine")
    with pytest.raises(HallmarkError, match="another blob has this name"):
        deliver(blob, parcel(vhd))
    assert content(blob) == b"mine"


def test_another_client_at_work_is_respected(container: ContainerClient, vhd: Path) -> None:
    blob = container.get_blob_client(NAME)
    blob.create_page_blob(vhd.stat().st_size, metadata=metadata(parcel(vhd), "incomplete"))
    BlobLeaseClient(blob).acquire(lease_duration=60)
    with pytest.raises(HallmarkError, match="another client is uploading"):
        deliver(blob, parcel(vhd))
    assert covered(blob) == []


def test_an_image_that_changes_meanwhile_is_never_completed(container: ContainerClient, vhd: Path) -> None:
    blob = container.get_blob_client(NAME)

    def changed() -> None:
        raise HallmarkError("the image was changed")

    with pytest.raises(HallmarkError, match="the image was changed"):
        deliver(blob, parcel(vhd, must_be_unchanged=changed))
    found = blob.get_blob_properties()
    assert found.metadata["hallmark_state"] == "incomplete"
    assert "MicrosoftAzureCompute_OSType" not in found.metadata
    assert found.lease.state == "available"


UPLOADER = """
import sys, time
from pathlib import Path
from azure.storage.blob import BlobClient
from builder.publish import parallel
from builder.publish import azurite
from builder.publish.azurite import Azurite
from builder.publish.storage import connect_azurite, open_container
from builder.workspace import Workspace
from builder.publish.blob import deliver
from builder.publish.parcel import Parcel
from builder.publish.storage import connect_azurite
from builder.workspace import digest_file
endpoint, container, name, image = sys.argv[1:]
parallel.CONCURRENCY = 2
class Slow(BlobClient):
    def upload_page(self, *args, **kwargs):
        done = super().upload_page(*args, **kwargs)
        print("put", flush=True)
        time.sleep(0.25)
        return done
service = connect_azurite(Azurite(endpoint, None))
blob = service.get_container_client(container).get_blob_client(name)
blob.__class__ = Slow
image = Path(image)
deliver(blob, Parcel(image, digest_file(image), "sample-9", "9.20261122.0", {}, "here", lambda: None))
"""


def killed_upload(server: Azurite, container: ContainerClient, image: Path, *, after: int) -> None:
    """Start an upload in another process and kill it after ``after`` requests."""
    command = [sys.executable, "-c", UPLOADER, server.endpoint, container.container_name, NAME, str(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(after):
            assert process.stdout.readline() == "put\n"
        process.send_signal(signal.SIGKILL)
    blob = container.get_blob_client(NAME)
    before = None
    while (now := covered(blob)) != before:  # what was under way at that moment may still arrive
        before = now
        time.sleep(0.4)


def test_a_killed_upload_is_resumed(
    server: Azurite, container: ContainerClient, tmp_path: Path, make_vhd: Callable[..., Path]
) -> None:
    image = make_vhd(tmp_path / "image.vhd", mib=64)
    blob = container.get_blob_client(NAME)
    killed_upload(server, container, image, after=3)
    left = blob.get_blob_properties()
    assert left.metadata["hallmark_state"] == "incomplete"
    assert "MicrosoftAzureCompute_OSType" not in left.metadata
    assert left.lease.state == "leased"
    arrived = sum(length for _, length in covered(blob))
    assert 0 < arrived < sum(length for _, length in extents(image))
    # A stranger has to wait for the dead client's lease; the same sender takes it up at once.
    with pytest.raises(HallmarkError, match="another client is uploading"):
        deliver(blob, parcel(image, sender="elsewhere"))
    done = deliver(blob, parcel(image, tags={}))
    assert done.moved.present == arrived
    assert done.moved.sent == sum(length for _, length in extents(image)) - arrived
    assert content(blob) == image.read_bytes()
    assert blob.get_blob_properties().metadata["hallmark_state"] == "complete"


def test_a_killed_server_is_no_loss(
    workspace: Workspace, tmp_path: Path, make_vhd: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have forgotten what it acknowledged: the next run asks it, and sends what is missing."""
    image = make_vhd(tmp_path / "image.vhd", mib=64)
    place, log_file = tmp_path / "data", tmp_path / "server.log"
    original = BlobClient.upload_page
    with azurite.serve(location=place, cache=workspace.cache, log_file=log_file) as server:
        pid = server.pid
        assert pid is not None
        puts = iter(range(100))

        def and_kill(self: BlobClient, *args: object, **kwargs: object) -> object:
            done = original(self, *args, **kwargs)  # type: ignore[arg-type]  # passed through
            if next(puts) == 4:
                os.kill(pid, signal.SIGKILL)
            return done

        with connect_azurite(server) as service, monkeypatch.context() as patch:
            patch.setattr(BlobClient, "upload_page", and_kill)
            blob = open_container(service, "images", public=False).get_blob_client(NAME)
            with pytest.raises(HallmarkError, match="not reachable"):
                deliver(blob, parcel(image))
    with (
        azurite.serve(location=place, cache=workspace.cache, log_file=log_file) as server,
        connect_azurite(server) as service,
    ):
        blob = open_container(service, "images", public=False).get_blob_client(NAME)
        deliver(blob, parcel(image))
        assert content(blob) == image.read_bytes()


def test_a_lost_lease_stops_the_upload(
    container: ContainerClient, vhd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = container.get_blob_client(NAME)
    original = BlobClient.upload_page

    def and_break(self: BlobClient, *args: object, **kwargs: object) -> object:
        done = original(self, *args, **kwargs)  # type: ignore[arg-type]  # passed through
        BlobLeaseClient(self).break_lease(lease_break_period=0)
        return done

    monkeypatch.setattr(BlobClient, "upload_page", and_break)
    with pytest.raises(HallmarkError, match="publish the image"):
        deliver(blob, parcel(vhd))
    assert blob.get_blob_properties().metadata["hallmark_state"] == "incomplete"


def test_a_change_while_reading_back_is_an_error(container: ContainerClient, vhd: Path) -> None:
    blob = container.get_blob_client(NAME)
    etag = deliver(blob, parcel(vhd)).etag
    blob.set_blob_metadata({"hallmark_state": "complete"})
    with pytest.raises(HttpResponseError, match=r"412|condition"):
        verify(blob, vhd, list(extents(vhd)), etag=etag)


def test_an_unreachable_service_is_reported_soon(vhd: Path) -> None:
    began = time.monotonic()
    with connect_azurite(Azurite("http://127.0.0.1:9/devstoreaccount1", None)) as service:
        with pytest.raises(HallmarkError, match=r"127\.0\.0\.1:9 is not reachable") as error:
            open_container(service, "images", public=False)
        with pytest.raises(HallmarkError, match="not reachable"):
            deliver(service.get_blob_client("images", NAME), parcel(vhd))
    assert time.monotonic() - began < 10
    assert "run the same command again" in str(error.value)
