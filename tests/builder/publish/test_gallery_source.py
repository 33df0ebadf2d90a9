"""The blob that a gallery takes, in a real Azurite: only as it was verified."""

from __future__ import annotations

import re

import pytest
from azure.mgmt.compute import ComputeManagementClient
from azure.storage.blob import ContainerClient
from fake_arm import FakeArm, Json
from gallery_support import Go, Make, publishing

from builder.errors import HallmarkError
from builder.publish import blob as blobs
from builder.publish import mark
from builder.publish.azurite import Azurite
from builder.publish.parcel import Parcel
from builder.publish.release import Release
from builder.publish.storage import connect_azurite
from builder.workspace import digest_file

pytestmark = pytest.mark.system


def test_a_gallery_takes_only_what_was_verified(
    fake: FakeArm,
    client: ComputeManagementClient,
    make: Make,
    go: Go,
    server: Azurite,
    container: ContainerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artefacts = make()
    record = Release.read(artefacts.release)
    blob = container.get_blob_client(record.image.name)
    done = blobs.deliver(
        blob,
        Parcel(
            image=artefacts.image,
            sha256=digest_file(artefacts.image),
            recipe=record.recipe,
            version=record.version,
            tags={},
            sender="here",
            must_be_unchanged=lambda: None,
        ),
    )
    name = str(container.container_name)
    place = record.locations[0].model_copy(
        update={"destination": f"azure://acmeimages/{name}", "container": name, "etag": done.etag}
    )
    record.model_copy(update={"locations": (place,)}).write(artefacts.release)
    monkeypatch.setattr(publishing, "connect_azure", lambda _: connect_azurite(server))
    marks = dict(blob.get_blob_properties().metadata)

    def refused(said: str) -> None:
        before = artefacts.release.read_bytes()
        with pytest.raises(HallmarkError, match=said):
            go(artefacts, managed_images=True)
        assert fake.writes() == [] and artefacts.release.read_bytes() == before

    blob.upload_page(b"x" * 512, offset=20 << 20, length=512)
    refused("the blob is not the image any more")
    blob.clear_page(offset=20 << 20, length=512)
    for change, said in (
        ({"hallmark_sha256": "0" * 64}, "the blob is not the release"),
        ({"hallmark_state": "incomplete"}, "the blob is not the release"),
        ({"hallmark_channel": "withdrawn"}, "was withdrawn: the blob says so"),
    ):
        blob.set_blob_metadata({**marks, **change})
        refused(said)
    # Touched, but right in every byte: read back once, then known.
    blob.set_blob_metadata({**marks, "colour": "red"})
    release = go(artefacts, managed_images=True)
    assert release.locations[0].etag == blob.get_blob_properties().etag and len(release.galleries) == 2
    with monkeypatch.context() as patch:
        patch.setattr(mark, "_compare", None)
        assert go(artefacts, managed_images=True) == release
    # Overwritten while the gallery copies it: what was made of it is gone, and made again of the right bytes.
    copies = re.compile(r"/versions/|compute/images/")
    fake.resources = {key: value for key, value in fake.resources.items() if not copies.search(key)}
    put = fake._put

    def overwritten(path: str, kind: tuple[str, ...], body: Json) -> tuple[int, Json, Json]:
        if kind[-1] == "versions":
            blob.upload_page(b"x" * 512, offset=20 << 20, length=512)
        return put(path, kind, body)

    unoffered = release.model_copy(update={"galleries": ()})
    unoffered.write(artefacts.release)
    fake._put = overwritten  # type: ignore[method-assign]
    with pytest.raises(HallmarkError, match="the blob is not the image any more"):
        go(artefacts, managed_images=True)
    assert not [key for key in fake.resources if copies.search(key)]
    assert Release.read(artefacts.release) == unoffered
    fake._put = put  # type: ignore[method-assign]
    blob.clear_page(offset=20 << 20, length=512)
    assert len(go(artefacts, managed_images=True).galleries) == 2
    blob.delete_blob()
    fake.requests.clear()
    refused("the release's blob is gone")
