"""Credentials and refusals of a blob service; nothing secret in any message."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import AccountSasPermissions, ContainerClient, ResourceTypes, generate_account_sas

from builder.errors import HallmarkError
from builder.publish.azurite import ACCOUNT, KEY, Azurite
from builder.publish.destination import AzureDestination
from builder.publish.storage import connect_azure, connect_azurite, open_container
from builder.run import redact

DESTINATION = AzureDestination(ACCOUNT, "images", f"{ACCOUNT}.blob.core.windows.net")
OTHER_KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA=="


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_")):
            monkeypatch.delenv(name)


def connection(endpoint: str, key: str = KEY) -> str:
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"


@pytest.mark.parametrize("text", ["nonsense", "AccountName=", "AccountKey=SECRETSECRET;a"])
def test_a_broken_connection_string(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    with pytest.raises(HallmarkError, match="is not a connection string") as error:
        connect_azure(DESTINATION)
    assert "SECRETSECRET" not in str(error.value)


def test_a_connection_string_of_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=https;AccountName=other;AccountKey={KEY}",
    )
    with pytest.raises(HallmarkError, match="of the account 'other', not 'devstoreaccount1'"):
        connect_azure(DESTINATION)


def test_secrets_of_the_environment_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    sas = "sv=2025-11-05&ss=b&sig=c2lnbmF0dXJlc2lnbmF0dXJl%3D"
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"?{sas}")
    client = connect_azure(DESTINATION)
    assert client.url.startswith("https://devstoreaccount1.blob.core.windows.net")
    assert redact(f"GET https://x/y?{sas}") == "GET https://x/y***"
    assert "c2lnbmF0dXJl" not in redact("sig=c2lnbmF0dXJlc2lnbmF0dXJl%3D and c2lnbmF0dXJlc2lnbmF0dXJl%3D")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection("http://127.0.0.1:9/x", OTHER_KEY))
    monkeypatch.delenv("AZURE_STORAGE_SAS_TOKEN")
    connect_azure(DESTINATION)
    assert OTHER_KEY not in redact(f"key {OTHER_KEY}")


@pytest.mark.system
def test_a_wrong_key_is_explained_without_repeating_it(
    server: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection(server.endpoint, OTHER_KEY))
    with connect_azure(DESTINATION) as service, pytest.raises(HallmarkError) as error:
        open_container(service, "images", public=False)
    assert "the service answered 403 (AuthorizationFailure)" in str(error.value)
    assert "az login" in str(error.value)
    assert OTHER_KEY not in str(error.value) and "?" not in str(error.value)


@pytest.mark.system
@pytest.mark.parametrize(("hours", "accepted"), [(1, True), (-1, False)])
def test_a_sas_token(server: Azurite, monkeypatch: pytest.MonkeyPatch, hours: int, accepted: bool) -> None:
    sas = generate_account_sas(
        ACCOUNT,
        KEY,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, write=True, create=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=hours),
        start=datetime.now(UTC) - timedelta(hours=2),
    )
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING", f"BlobEndpoint={server.endpoint};SharedAccessSignature={sas}"
    )
    with connect_azure(DESTINATION) as service:
        if accepted:
            open_container(service, "with-sas", public=False).get_container_properties()
            return
        with pytest.raises(HallmarkError) as error:
            open_container(service, "with-sas", public=False)
    assert "403" in str(error.value) or "credentials" in str(error.value)
    assert "sig=" not in str(error.value) and sas not in str(error.value)


@pytest.mark.system
def test_a_public_container_takes_no_private_image(server: Azurite, container: ContainerClient) -> None:
    container.set_container_access_policy({}, public_access="blob")
    with connect_azurite(server) as service:
        with pytest.raises(HallmarkError, match="anybody on the internet may read"):
            open_container(service, container.container_name, public=False)
        open_container(service, container.container_name, public=True)


def test_a_dead_service_is_reported_soon() -> None:
    began = time.monotonic()
    with (
        connect_azurite(Azurite("http://127.0.0.1:9/devstoreaccount1", None)) as service,
        pytest.raises(HallmarkError, match=r"127\.0\.0\.1:9 is not reachable"),
    ):
        open_container(service, "images", public=False)
    assert time.monotonic() - began < 10
