"""Throttling, progress, samples, and answers that get lost at the last moment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from azure.core.exceptions import ResourceModifiedError
from azure.storage.blob import BlobClient, ContainerClient

from builder import log
from builder.errors import HallmarkError
from builder.image.sparse import extents
from builder.publish import upload
from builder.publish.blob import deliver
from builder.publish.meter import Meter
from builder.publish.parcel import Parcel
from builder.publish.ranges import puts
from builder.publish.retry import PATIENCE, Retry
from builder.publish.upload import verify
from builder.run import run
from builder.workspace import digest_file


@pytest.mark.parametrize(
    ("asked", "count", "least", "most"),
    [
        (None, 1, 0.75, 1.25),
        (None, 4, 6, 10),
        ("7", 1, 7, 7),
        ("1", 4, 6, 10),  # our own pause is longer
        ("9999", 1, PATIENCE, PATIENCE),
        ("Fri, 31 Dec 2027 23:59:59 GMT", 1, 0.75, 1.25),  # Azure sends seconds
    ],
)
def test_a_request_waits_as_long_as_it_is_asked_to(
    asked: str | None, count: int, least: float, most: float
) -> None:
    answer = SimpleNamespace(headers={"Retry-After": asked} if asked else {})
    settings = {"count": count, "history": [SimpleNamespace(http_response=answer)]}
    assert least <= Retry(pause=1).get_backoff_time(settings) <= most


def test_an_upload_needs_no_models() -> None:
    """What recipes and certificates are checked with takes more memory than an upload."""
    program = "import sys, builder.publish.blob; print(*{'pydantic', 'yaml'} & {*sys.modules})"
    assert run([sys.executable, "-c", program], timeout=60).stdout.split() == []


def test_progress_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(mode="json")
    try:
        meter = Meter("sent", 8 << 20, present=2 << 20, skipped=90 << 20)
        meter.add(2 << 20)
        meter.add(6 << 20)
    finally:
        log.configure(mode="plain")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    last = events[-1]
    assert (last["what"], last["done"], last["total"], last["unit"]) == ("sent", 8, 8, "MiB")
    assert (last["remaining"], last["present"], last["skipped"]) == (0, 2, 90) and last["rate"] > 0


def parcel(image: Path) -> Parcel:
    return Parcel(image, digest_file(image), "sample-9", "9.20261122.0", {}, "here", lambda: None)


@pytest.mark.system
def test_a_sample_reads_the_ends_and_all_ranges(
    container: ContainerClient, vhd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boot code, tables and footer are always compared; so is what is missing or too much."""
    monkeypatch.setattr(upload, "SAMPLE", 2)
    blob = container.get_blob_client("image.vhd")
    etag = deliver(blob, parcel(vhd), sampled=True).etag
    data = list(extents(vhd))
    first, *middle, last = puts(data)
    assert len(middle) > 1
    assert verify(blob, vhd, data, etag=etag, sampled=True) == []

    def spoil(offset: int) -> str:
        return str(blob.upload_page(b"?" * 512, offset=offset, length=512)["etag"])

    etag = spoil(middle[0][0])
    assert verify(blob, vhd, data, etag=etag, sampled=True) == []  # that is what a sample may miss
    assert len(verify(blob, vhd, data, etag=etag)) == 1
    for offset in (first[0], last[0] + last[1] - 512):
        etag = spoil(offset)
        assert verify(blob, vhd, data, etag=etag, sampled=True)
    etag = spoil(20 << 20)
    assert any(wrong.at == 20 << 20 for wrong in verify(blob, vhd, data, etag=etag, sampled=True))


@pytest.mark.system
@pytest.mark.parametrize("arrived", [True, False])
def test_the_last_answer_is_lost(
    container: ContainerClient, vhd: Path, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    """The library asks again and is told that the blob was changed: by the first try, or by somebody else."""
    original = BlobClient.set_blob_metadata

    def twice(self: BlobClient, metadata: dict[str, str], **options: object) -> object:
        if not arrived:
            metadata = {**metadata, "hallmark_sha256": "0" * 64}
        original(self, metadata, **options)  # type: ignore[arg-type]  # passed through
        raise ResourceModifiedError("the condition was not met")

    monkeypatch.setattr(BlobClient, "set_blob_metadata", twice)
    blob = container.get_blob_client("image.vhd")
    if arrived:
        done = deliver(blob, parcel(vhd))
        assert done.etag == blob.get_blob_properties().etag
        assert blob.download_blob().readall() == vhd.read_bytes()
    else:
        with pytest.raises(HallmarkError, match="cannot publish the image"):
            deliver(blob, parcel(vhd))
