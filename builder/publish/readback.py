"""Reading exact ranges of a blob back.

The SDK's own ``download_blob`` lists all page ranges again after every read of a page blob; with a few
thousand ranges that costs more than the data (six times the processor time at 500). This is one GET a range,
and what comes is handed on block by block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError, ServiceResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, HeadersPolicy, RetryPolicy
from azure.core.rest import HttpRequest, HttpResponse
from azure.storage.blob import BlobClient, BlobSasPermissions, generate_blob_sas

from builder.publish.piece import BLOCK
from builder.run import register_secret

__all__ = ["RangeReader", "Readable", "readable"]

_SCOPE = "https://storage.azure.com/.default"
_LIFETIME = timedelta(hours=12)
#: How often an answer may break off before it is given up.
_TRIES = 4
# The library warns about each on its own, on the standard error output if nobody listens.
logging.getLogger("azure.core").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Readable:
    """How to read a blob without the SDK's signing: an address (with a SAS, or without), and who asks."""

    url: str
    credential: TokenCredential | None

    def authorization(self) -> str | None:
        """What a service needs that reads the blob for us (Put Page From URL)."""
        if self.credential is None:
            return None
        return f"Bearer {self.credential.get_token(_SCOPE).token}"


def readable(blob: BlobClient) -> Readable:
    """The address that the blob can be read at.

    An account key signs requests in a way that only the SDK's inside knows; a SAS that may read this blob
    alone does the same.
    """
    url = str(blob.url)
    credential = blob.credential
    key = getattr(credential, "account_key", None)
    if key is not None:
        sas = generate_blob_sas(
            str(blob.account_name),
            blob.container_name,
            blob.blob_name,
            account_key=key,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + _LIFETIME,
        )
        register_secret(sas)
        register_secret(sas.rpartition("sig=")[2])
        return Readable(f"{url.partition('?')[0]}?{sas}", None)
    return Readable(url, credential if hasattr(credential, "get_token") else None)


class RangeReader:
    """Reads ranges of one blob, with the credentials of its client; may be used by several threads.

    :param api_version: the service version to ask for.
    """

    def __init__(self, blob: BlobClient, *, api_version: str) -> None:
        source = readable(blob)
        self._url = source.url
        policies: list[object] = [
            HeadersPolicy({"x-ms-version": api_version}),
            RetryPolicy(retry_total=3, retry_backoff_factor=0.4),
        ]
        if source.credential is not None:
            policies.append(BearerTokenCredentialPolicy(source.credential, _SCOPE))
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            self._url, policies=policies, connection_data_block_size=BLOCK
        )

    def blocks(self, offset: int, length: int, *, etag: str) -> Iterator[bytes]:
        """``length`` bytes at ``offset`` of the blob as it was at ``etag``, as they come.

        An answer that breaks off is asked for again from there.

        :raises HttpResponseError: the service refused; 412: the blob was changed since.
        :raises azure.core.exceptions.AzureError: it did not answer, or not with these bytes.
        """
        position, end, tries = offset, offset + length, 0
        while position < end:
            tries += 1
            with closing(self._ask(position, end, etag)) as answer:
                try:
                    for block in answer.iter_raw():
                        if len(block) > end - position:
                            raise HttpResponseError("more bytes came than were asked for", response=answer)
                        yield block
                        position += len(block)
                except ServiceResponseError:
                    if tries == _TRIES:
                        raise
                    continue
            if position < end:
                raise ServiceResponseError(f"{end - position} bytes of {length} never came")

    def _ask(self, start: int, end: int, etag: str) -> HttpResponse:
        headers = {"x-ms-range": f"bytes={start}-{end - 1}", "If-Match": etag}
        request = HttpRequest("GET", self._url, headers=headers)
        answer = self._client.send_request(request, stream=True, connection_timeout=20, read_timeout=120)
        if answer.status_code not in (200, 206):
            with closing(answer):
                answer.read()  # the reason
                raise HttpResponseError(f"reading bytes {start} to {end - 1}", response=answer)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> RangeReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
