"""The blob service behind a destination, connected for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from azure.storage.blob import BlobServiceClient

from builder.publish import azurite
from builder.publish.destination import AzureDestination, AzuriteDestination
from builder.publish.storage import connect_azure, connect_azurite
from builder.workspace import Workspace

__all__ = ["public_url", "service_of"]


@contextmanager
def service_of(
    place: AzureDestination | AzuriteDestination, workspace: Workspace
) -> Iterator[BlobServiceClient]:
    """A client of the destination's blob service; the local one runs as long as the block."""
    if isinstance(place, AzureDestination):
        with connect_azure(place) as service:
            yield service
        return
    directory = workspace.build / "azurite"
    with (
        azurite.serve(location=directory, cache=workspace.cache, log_file=directory / "server.log") as server,
        connect_azurite(server) as service,
    ):
        yield service


def public_url(place: AzureDestination | AzuriteDestination, name: str) -> str:
    """The address to write down. Azurite's port differs from run to run: the one that a person starts has
    this.
    """
    if isinstance(place, AzuriteDestination):
        return f"http://127.0.0.1:{azurite.STANDARD_PORT}/{azurite.ACCOUNT}/{place.container}/{name}"
    return f"https://{place.host}/{place.container}/{name}"
