"""The storage account that a gallery takes its blobs from, as far as these tests need one: in memory.

What a real service does with these requests is seen with Azurite (``test_gallery_source``, ``test_states``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobProperties

__all__ = ["ETAG", "Account", "Blob"]

#: Of a blob that nobody has touched since it was published.
ETAG = '"0x8DE2A1B2C3D4E5F"'


@dataclass
class Blob:
    """A blob's metadata and etag; every write of the one changes the other."""

    url: str
    metadata: dict[str, str]
    etag: str = ETAG
    writes: int = 0

    def get_blob_properties(self) -> BlobProperties:
        if not self.metadata:
            raise ResourceNotFoundError("BlobNotFound")
        return BlobProperties(metadata=dict(self.metadata), ETag=self.etag)

    def set_blob_metadata(
        self, metadata: dict[str, str], *, etag: str, match_condition: object
    ) -> dict[str, str]:
        if etag != self.etag:
            raise ResourceModifiedError("ConditionNotMet")
        self.writes += 1
        self.metadata, self.etag = dict(metadata), f'"0x{self.writes}"'
        return {"etag": self.etag}


@dataclass
class Account:
    """A service client, and the client of its one container. ``blobs`` are known by their names."""

    blobs: dict[str, Blob] = field(default_factory=dict)

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was opened."""

    def add(self, name: str, sha256: str) -> Blob:
        """A finished upload."""
        url = f"https://acmeimages.blob.core.windows.net/images/{name}"
        self.blobs[name] = Blob(url, {"hallmark_state": "complete", "hallmark_sha256": sha256})
        return self.blobs[name]

    def get_container_client(self, container: str) -> Account:
        return self

    def get_blob_client(self, *names: str) -> Blob:
        return self.blobs.get(names[-1]) or Blob(names[-1], {})
