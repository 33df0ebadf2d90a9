"""Connecting to a blob service: credentials, retries, the API version, and its errors in our words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import BlobServiceClient, ContainerClient

from builder import log
from builder.errors import HallmarkError
from builder.publish.azurite import ACCOUNT, KEY, Azurite
from builder.publish.destination import AzureDestination
from builder.publish.ranges import PUT_LIMIT
from builder.publish.retry import Retry
from builder.run import redact, register_secret

__all__ = ["API_VERSION", "connect_azure", "connect_azurite", "explained", "open_container"]

#: The one place that names the service version. The SDK's own default is newer than any Azurite knows, which
#: answers such requests with 400 InvalidHeaderValue; this one is known to Azure, to Azurite >= 3.35 and to
#: SDK >= 12.27.
API_VERSION = "2025-11-05"

_IDENTITY = ("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT", "AZURE_USERNAME")
_SAS = "AZURE_STORAGE_SAS_TOKEN"
_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
_QUERY = re.compile(r"\?[^\s'\"<>]*")


def connect_azurite(server: Azurite) -> BlobServiceClient:
    """A client of a local Azurite. A dead server is reported after about a second, not after minutes."""
    return BlobServiceClient(
        server.endpoint,
        credential={"account_name": ACCOUNT, "account_key": KEY},
        api_version=API_VERSION,
        max_single_put_size=PUT_LIMIT,
        retry_policy=Retry(tries=2, pause=0.3),
        connection_timeout=5,
        read_timeout=60,
    )


def connect_azure(destination: AzureDestination) -> BlobServiceClient:
    """A client of an Azure storage account.

    The first of these that is configured authenticates: an identity (DefaultAzureCredential), a SAS token
    (AZURE_STORAGE_SAS_TOKEN), a connection string (AZURE_STORAGE_CONNECTION_STRING). Without any, the
    identity of the machine or of the Azure command line is tried.

    :raises HallmarkError: the connection string is broken, or is of another account.
    """
    environ = os.environ
    sas, connection = environ.get(_SAS, ""), environ.get(_CONNECTION, "")
    for secret in (sas, sas.lstrip("?"), connection, environ.get("AZURE_CLIENT_SECRET", "")):
        register_secret(secret)
    retry = Retry()  # about a minute per request; longer only where the service asks for it
    url = f"https://{destination.host}"
    identity = any(environ.get(name) for name in _IDENTITY)
    credential: TokenCredential | str
    if connection and not sas and not identity:
        return _from_connection_string(connection, destination, retry)
    if sas and not identity:
        _register_parts(sas.lstrip("?"), "&", "sig")
        credential = sas.lstrip("?")
    else:
        from azure.identity import DefaultAzureCredential

        credential = DefaultAzureCredential()
    return BlobServiceClient(
        url,
        credential=credential,
        api_version=API_VERSION,
        max_single_put_size=PUT_LIMIT,
        retry_policy=retry,
        connection_timeout=20,
        read_timeout=120,
    )


def _from_connection_string(text: str, destination: AzureDestination, retry: Retry) -> BlobServiceClient:
    _register_parts(text, ";", "AccountKey", "SharedAccessSignature")
    try:
        client = BlobServiceClient.from_connection_string(
            text,
            api_version=API_VERSION,
            max_single_put_size=PUT_LIMIT,
            retry_policy=retry,
            connection_timeout=20,
            read_timeout=120,
        )
    except ValueError:
        client = None
    if client is None or not client.account_name:
        raise HallmarkError(
            f"{_CONNECTION} is not a connection string",
            hint="copy it from the storage account's access keys: AccountName=…;AccountKey=…",
        )
    if client.account_name != destination.account:
        raise HallmarkError(
            f"{_CONNECTION} is of the account {client.account_name!r}, not {destination.account!r}",
            where=str(destination),
            why="the release would go to another account than the one that was asked for",
            hint="unset it, or correct the destination",
        )
    return client


def _register_parts(text: str, separator: str, *names: str) -> None:
    """Keep the secret parts out of every message, each in the spelling that a URL or an error may show."""
    for part in text.split(separator):
        name, _, value = part.partition("=")
        if name.strip() in names:
            register_secret(value)


def open_container(service: BlobServiceClient, name: str, *, public: bool) -> ContainerClient:
    """The container, made (private) if it isn't there.

    :param public: whether anybody may read what goes into it.
    :raises HallmarkError: the service is not reachable or refuses; or the container is open to the public and
        the release must not be.
    """
    container = service.get_container_client(name)
    where = _without_query(str(container.url))
    with explained("open the container", where):
        try:
            found = container.get_container_properties()
        except ResourceNotFoundError:
            try:
                container.create_container()
            except ResourceExistsError:
                log.debug("somebody else, or a request whose answer was lost, made the container meanwhile")
            return container
    if found.public_access and not public:
        raise HallmarkError(
            "anybody on the internet may read this container",
            where=where,
            why="the recipe's visibility is not community: its content must not be public",
            hint="take the container's anonymous access away, or publish to a private one",
        )
    return container


@contextmanager
def explained(doing: str, where: str) -> Iterator[None]:
    """Turn the SDK's errors inside the block into ours: what was asked, what the service said, what to do.

    The SDK's own text holds the whole URL, which may end with a SAS token: queries are cut off.
    """
    try:
        yield
    except ClientAuthenticationError as error:
        raise _error(
            doing, where, error, "the service doesn't accept the credentials", _AUTHENTICATE
        ) from None
    except (ServiceRequestError, ServiceResponseError) as error:
        host = urlsplit(where).netloc or where
        raise _error(
            doing,
            where,
            error,
            f"{host} is not reachable",
            "check the network and the destination, then run the same command again: "
            "what has arrived is not sent again",
        ) from None
    except HttpResponseError as error:
        hint = _AUTHENTICATE if error.status_code in (401, 403) else None
        if error.status_code == 412 or isinstance(error, ResourceExistsError):
            hint = "somebody else changed the blob at the same time: run the same command again"
        code = getattr(error, "error_code", None) or error.reason or "no reason given"
        code = getattr(code, "value", code)  # the SDK's enumeration, or a plain string
        raise _error(
            doing, where, error, f"the service answered {error.status_code} ({code})", hint
        ) from None
    except AzureError as error:
        raise _error(doing, where, error, type(error).__name__, None) from None


_AUTHENTICATE = (
    "log in (`az login`), or set AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING; "
    "the identity needs the role Storage Blob Data Contributor on the container"
)


def _error(doing: str, where: str, error: AzureError, what: str, hint: str | None) -> HallmarkError:
    said = [line.strip() for line in _without_query(str(error.message)).splitlines() if line.strip()]
    return HallmarkError(
        f"cannot {doing}: {what}",
        where=_without_query(where),
        details=[redact(line) for line in said[:4]],
        hint=hint,
    )


def _without_query(text: str) -> str:
    return redact(_QUERY.sub("", text))
