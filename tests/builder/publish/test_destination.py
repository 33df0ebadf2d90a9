"""What a destination may look like, and what a blob may be called."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.publish.destination import (
    AzureDestination,
    AzuriteDestination,
    FileDestination,
    RegistryDestination,
    blob_name,
    parse,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("azurite", AzuriteDestination()),
        ("azure://acme/images", AzureDestination("acme", "images", "acme.blob.core.windows.net")),
        (
            "azure://acme.blob.core.chinacloudapi.cn/images",
            AzureDestination("acme", "images", "acme.blob.core.chinacloudapi.cn"),
        ),
        ("oci://quay.io/team/images", RegistryDestination("quay.io", "team/images")),
        ("oci://127.0.0.1:5000", RegistryDestination("127.0.0.1:5000")),
        ("file:///srv/library/a%20b", FileDestination(Path("/srv/library/a b"))),
    ],
)
def test_destinations(text: str, expected: object) -> None:
    found = parse(text)
    assert found == expected
    assert parse(str(found)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://bucket/key", "no such kind"),
        ("", "no such kind"),
        ("azure://acme", "can't be a container"),
        ("azure://Acme/images", "can't be a storage account"),
        ("azure://acme/im", "3 to 63"),
        ("azure://acme/images--x", "single dashes"),
        ("azure://acme/images/more", "can't be a container"),
        ("oci://team/images", "can't be a registry"),
        ("oci://Quay.io/team", "can't be a registry"),
        ("oci:///team", "can't be a registry"),
        ("oci://quay.io/team/app:9", "can't be a namespace"),
        ("oci://quay.io/Team", "can't be a namespace"),
        ("file://host/share", "three slashes"),
        ("file:///", "absolute directory"),
    ],
)
def test_refused_destinations(text: str, said: str) -> None:
    with pytest.raises(HallmarkError, match="is not a destination") as error:
        parse(text)
    assert said in str(error.value)
    assert "azure://ACCOUNT/CONTAINER" in str(error.value)


@pytest.mark.parametrize("text", ["azure://[::1", "oci://anna:secret@host\u2100/x"])
def test_what_is_no_address(text: str) -> None:
    """And isn't repeated: a secret may be in it."""
    with pytest.raises(HallmarkError, match="the destination is no address") as error:
        parse(text)
    assert "azure://ACCOUNT/CONTAINER" in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost:5000", True),
        ("127.0.0.2", True),
        ("quay.io", False),
        ("127.evil.example", False),
        ("10.0.0.1", False),
    ],
)
def test_plain_http_is_for_this_machine_alone(host: str, here: bool) -> None:
    assert RegistryDestination(host).loopback is here


@pytest.mark.parametrize(
    "text",
    [
        "oci://me:SECRETSECRET@quay.io/team",
        "azure://acme/images?sv=2025&sig=SECRETSECRET",
        "azure://acme:SECRETSECRET@x/images",
    ],
)
def test_a_credential_in_the_destination_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(HallmarkError) as error:
        parse(text)
    assert "SECRETSECRET" not in str(error.value)
    assert "AZURE_STORAGE_SAS_TOKEN" in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("sample-9", "sample-9-9-20261122-0.vhd"), ("rhel-9.6", "rhel-9-6-9-20261122-0.vhd")],
)
def test_blob_names_have_one_dot(recipe: str, expected: str) -> None:
    assert blob_name(recipe, "9.20261122.0") == expected


@pytest.mark.parametrize("recipe", ["Sample", "a_b", "a--b", "-a", "a/b", ""])
def test_refused_blob_names(recipe: str) -> None:
    with pytest.raises(HallmarkError, match="can't be the name of a blob"):
        blob_name(recipe, "9.20261122.0")
