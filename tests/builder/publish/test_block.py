"""Further outputs in a real Azurite: what arrives, what is refused, what broken runs leave."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobBlock, BlobClient, ContainerClient

from builder.errors import HallmarkError
from builder.publish.block import deliver
from builder.publish.meter import Meter
from builder.publish.parcel import COMPLETE, INCOMPLETE, Contents, metadata
from builder.workspace import digest_file

pytestmark = pytest.mark.system

NAME = "sample-9-9-20261122-0.qcow2"


@pytest.fixture
def blob(container: ContainerClient) -> BlobClient:
    return container.get_blob_client(NAME)


@pytest.fixture
def output(tmp_path: Path) -> Contents:
    """More than two requests' worth; the last block isn't whole."""
    path = tmp_path / "image.qcow2"
    path.write_bytes(random.Random(1).randbytes((9 << 20) + 77))
    return Contents(path, digest_file(path), "sample-9", "9.20261122.0", {"hallmark_licence": "free"})


def content(blob: BlobClient) -> bytes:
    return blob.download_blob().readall()


def marks(blob: BlobClient) -> dict[str, str]:
    return dict(blob.get_blob_properties().metadata)


def test_it_arrives_once(blob: BlobClient, output: Contents) -> None:
    etag = deliver(blob, output)
    assert content(blob) == output.image.read_bytes()
    found = blob.get_blob_properties()
    assert (found.etag, found.blob_type) == (etag, "BlockBlob")
    assert found.metadata == {
        "hallmark_state": "complete",
        "hallmark_sha256": output.sha256,
        "hallmark_recipe": "sample-9",
        "hallmark_version": "9.20261122.0",
        "hallmark_licence": "free",
    }
    assert len(blob.get_block_list()[0]) == 3
    for known in (etag, None):
        assert deliver(blob, output, known_etag=known) == etag


def test_what_was_withdrawn_is_not_delivered_again(blob: BlobClient, output: Contents) -> None:
    deliver(blob, output)
    for state in (COMPLETE, INCOMPLETE):
        etag = blob.set_blob_metadata(
            {**marks(blob), "hallmark_channel": "withdrawn", "hallmark_state": state}
        )
        with pytest.raises(HallmarkError, match="was withdrawn: the blob says so"):
            deliver(blob, output, known_etag=str(etag["etag"]))
        assert blob.get_blob_properties().etag == etag["etag"]


def test_a_file_that_was_changed_gets_no_name(
    container: ContainerClient, blob: BlobClient, output: Contents
) -> None:
    for data in (output.image.read_bytes()[:-1] + b"x", b"x" * 600):
        output.image.write_bytes(data)
        with pytest.raises(HallmarkError, match="not the one that was certified"):
            deliver(blob, output)
        assert not blob.exists() and list(container.list_blobs()) == []


def test_a_file_that_changes_meanwhile_gets_no_name(
    blob: BlobClient, output: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes shorter while it is sent."""
    monkeypatch.setattr(Meter, "add", lambda *_: os.truncate(output.image, 4 << 20))
    with pytest.raises(HallmarkError, match="not the one that was certified"):
        deliver(blob, output)
    assert not blob.exists()


def test_what_somebody_else_writes_meanwhile_stays(
    blob: BlobClient, output: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob.upload_blob(b"unfinished", metadata=metadata(output, INCOMPLETE))
    original = BlobClient.upload_blob

    def later(self: BlobClient, data: Any, **options: Any) -> Any:
        original(blob, b"theirs", overwrite=True)
        return original(self, data, **options)

    monkeypatch.setattr(BlobClient, "upload_blob", later)
    with pytest.raises(HallmarkError, match="cannot publish the output") as error:
        deliver(blob, output)
    assert "somebody else" in str(error.value.hint)
    assert content(blob) == b"theirs" and marks(blob) == {}


@pytest.mark.parametrize("left", ["nothing", "right", "wrong", "longer", "another"])
def test_a_run_that_was_killed_is_finished(blob: BlobClient, output: Contents, left: str) -> None:
    """Between staging and naming, after naming, with bytes that went wrong, and with an earlier image's."""
    whole = output.image.read_bytes()
    told = Contents(output.image, "0" * 64, "sample-9", "9", {}) if left == "another" else output
    data = {"right": whole, "longer": whole + b"x"}.get(left, b"x" + whole[1:])
    half, rest = (f"{number:048d}" for number in (1, 2))
    blob.stage_block(half, data[: 5 << 20])
    blob.stage_block(rest, data[5 << 20 :])
    if left != "nothing":
        blob.commit_block_list([BlobBlock(half), BlobBlock(rest)], metadata=metadata(told, INCOMPLETE))
    deliver(blob, output)
    assert content(blob) == whole and marks(blob)["hallmark_state"] == COMPLETE
    assert marks(blob)["hallmark_sha256"] == output.sha256
    assert len(blob.get_block_list()[0]) == (2 if left == "right" else 3), "what is right isn't sent again"


@pytest.mark.parametrize("kind", ["of another image", "of somebody else", "a page blob", "changed since"])
def test_what_is_there_stays(blob: BlobClient, output: Contents, kind: str) -> None:
    said, told = "another blob has this name", {"colour": "red"}
    data = b"x" * 512
    if kind == "of another image":
        said = "published already, with other bytes"
        told = metadata(Contents(output.image, "0" * 64, "sample-9", "9", {}), COMPLETE)
    elif kind == "changed since":
        said, told = "not the output that was certified", metadata(output, COMPLETE)
        data = b"x" + output.image.read_bytes()[1:]
    elif kind == "a page blob":
        told = metadata(output, INCOMPLETE)
    blob.upload_blob(data, metadata=told, blob_type="PageBlob" if kind == "a page blob" else "BlockBlob")
    with pytest.raises(HallmarkError, match=said):
        deliver(blob, output)
    assert content(blob) == data and marks(blob) == told


@pytest.mark.parametrize("call", ["upload_blob", "set_blob_metadata"])
def test_a_lost_answer_is_found_out(
    blob: BlobClient, output: Contents, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The service did it, the client never heard so, and asked again."""
    original = getattr(BlobClient, call)
    refused = []

    def twice(self: BlobClient, data: Any, **options: Any) -> Any:
        whole = b"".join(data) if call == "upload_blob" else data
        original(self, whole, **options)
        try:
            return original(self, whole, **options)
        except HttpResponseError:
            refused.append(call)
            raise

    monkeypatch.setattr(BlobClient, call, twice)
    deliver(blob, output)
    assert refused == [call]
    assert content(blob) == output.image.read_bytes() and marks(blob)["hallmark_state"] == COMPLETE


def test_what_the_service_stored_wrong_stays_incomplete(
    blob: BlobClient, output: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = BlobClient.upload_blob

    def wrong(self: BlobClient, data: Any, **options: Any) -> Any:
        return original(self, b"x" + b"".join(data)[1:], **options)

    with monkeypatch.context() as patch, pytest.raises(HallmarkError, match="stored wrong bytes"):
        patch.setattr(BlobClient, "upload_blob", wrong)
        deliver(blob, output)
    assert marks(blob)["hallmark_state"] == INCOMPLETE
    deliver(blob, output)
    assert content(blob) == output.image.read_bytes()
