"""What a guest is told at its first boot, and the Azure endpoints that tell it."""

from __future__ import annotations

import base64
import io
import json
import stat
import subprocess
import sys
import uuid
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from builder import run
from builder.vm import azure, fabric, iso, seed

INSTANCE = azure.Instance(
    uuid.UUID("0b4d7c52-7b0a-4b3c-9f0e-000000000001"),
    "host-1",
    "cloud-user",
    "ssh-ed25519 AAAA test&key",
    "#cloud-config\n{}\n",
    "02:aa:bb:cc:dd:ee",
)
WA = "{http://schemas.microsoft.com/windowsazure}"


def test_every_guest_has_its_own_key(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    one, two = seed.new_identity(first), seed.new_identity(second)
    assert one.public != two.public
    assert stat.S_IMODE(one.private.stat().st_mode) == 0o600
    # ssh-keygen derives the same public key from the private one, so ssh can use it.
    derived = run.run(["ssh-keygen", "-y", "-f", one.private]).stdout.split()
    assert derived[:2] == one.public.split()[:2]


def test_the_user_may_become_root_without_password_and_only_log_in_by_key() -> None:
    text = seed.cloud_config(user="me", public_key="ssh-ed25519 KEY", hostname="h", emulated=False)
    assert text.startswith("#cloud-config\n")
    config = yaml.safe_load(text)
    (user,) = config["users"]
    assert user["name"] == "me" and user["ssh_authorized_keys"] == ["ssh-ed25519 KEY"]
    assert user["sudo"] == "ALL=(ALL) NOPASSWD:ALL" and user["lock_passwd"] is True
    assert config["ssh_pwauth"] is False
    assert "ssh_genkeytypes" not in config and "bootcmd" not in config
    slow = seed.cloud_config(user="me", public_key="k", hostname="h", emulated=True)
    config = yaml.safe_load(slow)
    assert config["ssh_genkeytypes"] == ["ed25519"] and "watchdog_thresh" in config["bootcmd"][0]


def test_the_nocloud_disk_has_its_label_and_files(tmp_path: Path) -> None:
    disk = tmp_path / "cidata.img"
    seed.write_nocloud(disk, user_data="#cloud-config\n{}\n", instance_id="i-1", hostname="host-1")
    data = disk.read_bytes()
    assert data[0x2B : 0x2B + 11] == b"CIDATA     " and data[510:512] == b"\x55\xaa"
    user_data = run.run(["mcopy", "-i", disk, "::user-data", "-"]).stdout
    meta_data = yaml.safe_load(run.run(["mcopy", "-i", disk, "::meta-data", "-"]).stdout)
    assert user_data == "#cloud-config\n{}\n"
    assert meta_data == {"instance-id": "i-1", "local-hostname": "host-1"}


def test_another_reader_finds_the_files_of_the_disc(tmp_path: Path) -> None:
    disc = tmp_path / "disc.iso"
    files = {"ovf-env.xml": b"<a/>" * 1000, "empty": b"", "exactly-one-sector": b"x" * iso.SECTOR}
    disc.write_bytes(iso.build(files, label="LABEL"))
    assert disc.stat().st_size % iso.SECTOR == 0
    run.run(["7z", "x", "-tiso", f"-o{tmp_path / 'out'}", disc])
    found = {path.name.removesuffix(";1").lower(): path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == files


@pytest.mark.parametrize("name", ["", "a/b", "x" * 31, "ümlaut"])
def test_names_that_the_disc_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a file name"):
        iso.build({name: b""}, label="L")


def test_the_provisioning_document_says_who_may_log_in() -> None:
    root = ElementTree.fromstring(azure.ovf_environment(INSTANCE))
    section = root.find(f"{WA}ProvisioningSection/{WA}LinuxProvisioningConfigurationSet")
    assert section is not None
    assert section.findtext(f"{WA}UserName") == "cloud-user"
    assert section.findtext(f"{WA}HostName") == "host-1"
    assert section.findtext(f"{WA}SSH/{WA}PublicKeys/{WA}PublicKey/{WA}Value") == "ssh-ed25519 AAAA test&key"
    custom = section.findtext(f"{WA}CustomData")
    assert custom is not None and base64.b64decode(custom).decode() == INSTANCE.user_data
    assert root.find(f"{WA}PlatformSettingsSection/{WA}PlatformSettings") is not None


def _request(target: str, *, method: str = "GET", **headers: str) -> fabric.Request:
    return fabric.Request(method, target, headers, b"")


def test_the_metadata_service_answers_like_azure() -> None:
    metadata = azure.metadata(INSTANCE)
    target = "/metadata/instance?api-version=2021-08-01"
    status, _, body = fabric.answer("imds", _request(target, metadata="true"), metadata)
    assert status == 200
    compute = json.loads(body)["compute"]
    assert compute["publicKeys"][0]["keyData"] == INSTANCE.public_key
    assert compute["vmId"] == str(INSTANCE.vm_id)
    target = "/metadata/instance/network/?api-version=2021-08-01"
    status, _, body = fabric.answer("imds", _request(target, metadata="true"), metadata)
    assert status == 200 and json.loads(body)["interface"][0]["macAddress"] == "02AABBCCDDEE"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("interface/", "0/"),
        ("interface/0", "ipv4/\nipv6/\nmacAddress"),
        ("interface/0/macAddress", "02AABBCCDDEE"),
        ("interface/0/ipv4/subnet/0/prefix", "7"),
    ],
)
def test_the_metadata_service_answers_in_text_as_networkmanager_asks(path: str, text: str) -> None:
    target = f"/metadata/instance/network/{path}?format=text&api-version=2017-04-02"
    status, kind, body = fabric.answer("imds", _request(target, metadata="true"), azure.metadata(INSTANCE))
    assert (status, body.decode()) == (200, text) and kind.startswith("text/plain")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (_request("/metadata/instance?api-version=2021-08-01"), 400),
        (_request("/metadata/instance", metadata="true"), 400),
        (_request("/metadata/instance/network/interface/1?api-version=1", metadata="true"), 404),
        (_request("/metadata/instance/nothing?api-version=1", metadata="true"), 404),
        (_request("/metadata/attested/document?api-version=1", metadata="true"), 404),
    ],
)
def test_the_metadata_service_refuses_what_azure_refuses(request_: fabric.Request, expected: int) -> None:
    assert fabric.answer("imds", request_, azure.metadata(INSTANCE))[0] == expected


def test_the_wire_server_gives_the_goal_state_and_keeps_the_report(tmp_path: Path) -> None:
    description, requests = tmp_path / "metadata.json", tmp_path / "requests.jsonl"
    azure.write(INSTANCE, disc=tmp_path / "disc.iso", description=description)
    goal = io.BytesIO()
    fabric.serve(
        "wire", description, requests, io.BytesIO(b"GET /machine/?comp=goalstate HTTP/1.1\r\n\r\n"), goal
    )
    head, _, body = goal.getvalue().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and f"Content-Length: {len(body)}".encode() in head
    state = ElementTree.fromstring(body)
    assert state.findtext("Incarnation") == "1"
    assert state.findtext("Container/ContainerId") == str(INSTANCE.vm_id)
    report = b"<Health><State>Ready</State></Health>"
    post = b"POST /machine?comp=health HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(report), report)
    # As QEMU starts it: a program of its own whose stdin and stdout are the connection.
    words = [sys.executable, "-I", fabric.__file__, "wire", description, requests]
    answer = subprocess.run(words, input=post, capture_output=True, check=True, timeout=20).stdout
    assert answer.startswith(b"HTTP/1.1 200")
    first, second = (json.loads(line) for line in requests.read_text().splitlines())
    assert (first["target"], first["status"]) == ("/machine/?comp=goalstate", 200)
    assert second["method"] == "POST" and "Ready" in second["body"]


def test_a_connection_that_says_nothing_is_no_error(tmp_path: Path) -> None:
    description = tmp_path / "metadata.json"
    azure.write(INSTANCE, disc=tmp_path / "disc.iso", description=description)
    sink = io.BytesIO()
    fabric.serve("imds", description, tmp_path / "requests", io.BytesIO(b""), sink)
    assert sink.getvalue() == b"" and not (tmp_path / "requests").exists()
