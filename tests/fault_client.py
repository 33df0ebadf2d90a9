"""The client whose uploads are broken; it also runs in a process of its own, to be killed."""

from __future__ import annotations

from pathlib import Path

from azure.storage.blob import BlobServiceClient

from builder import log
from builder.errors import HallmarkError
from builder.publish import azurite
from builder.publish.blob import Delivered, deliver
from builder.publish.parcel import Parcel
from builder.publish.retry import Retry
from builder.publish.storage import API_VERSION, open_container
from builder.workspace import digest_file

__all__ = ["NAME", "connect", "quietly", "upload"]

NAME = "image.vhd"


def connect(endpoint: str) -> BlobServiceClient:
    return BlobServiceClient(
        endpoint,
        credential={"account_name": azurite.ACCOUNT, "account_key": azurite.KEY},
        api_version=API_VERSION,
        retry_policy=Retry(tries=3, pause=0.05),
        connection_timeout=5,
        read_timeout=60,
    )


def upload(endpoint: str, container: str, image: Path) -> Delivered | str:
    """One run; what it delivered, or the text of its error."""
    parcel = Parcel(image, digest_file(image), "sample-9", "9.20261122.0", {}, "here", lambda: None)
    try:
        with connect(endpoint) as service:
            return deliver(open_container(service, container, public=False).get_blob_client(NAME), parcel)
    except HallmarkError as error:
        return str(error)


def quietly(endpoint: str, container: str, image: Path) -> None:
    """One run that says nothing."""
    log.console.quiet = True
    upload(endpoint, container, image)
