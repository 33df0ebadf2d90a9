"""A stand-in for Azure Resource Manager's compute service, at the level of HTTP.

It keeps state, refuses what the documented service refuses (REST reference: Galleries, Gallery Images,
Gallery Image Versions, Images, Disks; "Track asynchronous Azure operations"), and takes its time: a version
is replicated a little further each time somebody asks. That it behaves like the real service is our reading
of the documents; nothing here was compared with Azure. It speaks TLS, because the library gives its token
to nobody else.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from arm_shapes import DISK, IMAGE, IMAGE_VERSION, MANAGED_IMAGE, VERSION_PATCH, Refused, check

__all__ = ["TOKEN", "FakeArm", "serve"]

TOKEN = "not-a-real-token"
Json = dict[str, Any]
_PATH = re.compile(
    r"/subscriptions/(?P<subscription>[0-9a-f-]{36})/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.Compute/(?P<rest>.+)"
)
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_REGIONS = {"westeurope": "West Europe", "northeurope": "North Europe", "eastus": "East US"}
_IMMUTABLE = ("osType", "osState", "hyperVGeneration", "architecture", "identifier")
#: How much further a region is each time somebody asks, in percent.
_STEP = 40


@dataclass
class FakeArm:
    """What the service has and what shall go wrong.

    ``troubles`` are answers for the next requests, ``(status, headers)``; ``failing`` are regions that can't
    be replicated to; ``requests`` is what came: method, path, and body.
    """

    resources: dict[str, Json] = field(default_factory=dict)
    progress: dict[str, dict[str, int]] = field(default_factory=dict)
    operations: dict[str, tuple[str, int]] = field(default_factory=dict)
    troubles: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, Json]] = field(default_factory=list)
    url: str = ""
    certificate: Path = Path()
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add_gallery(self, path: str, *, location: str = "West Europe", shared: str = "Private") -> None:
        self.resources[path.lower()] = {
            "id": path,
            "name": path.rpartition("/")[2],
            "location": location,
            "properties": {"provisioningState": "Succeeded", "sharingProfile": {"permissions": shared}},
        }

    def writes(self) -> list[tuple[str, str]]:
        """The requests that changed something: method and the last part of the path."""
        return [(method, path.rpartition("/")[2]) for method, path, _ in self.requests if method != "GET"]

    def handle(
        self, method: str, url: str, headers: dict[str, str], body: Json | None
    ) -> tuple[int, Json, Json]:
        """Status, headers and body of the answer."""
        with self.lock:
            parts = urlsplit(url)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            if headers.get("authorization") != f"Bearer {TOKEN}":
                raise Refused(401, "AuthenticationFailed", "the bearer token is missing or wrong")
            if self.troubles:
                status, more = self.troubles.pop(0)
                return (
                    status,
                    more,
                    {"error": {"code": "TooManyRequests" if status == 429 else "Busy", "message": "…"}},
                )
            if not re.fullmatch(r"20\d\d-\d\d-\d\d(-preview)?", query.get("api-version", "")):
                raise Refused(400, "MissingApiVersionParameter", "the api-version is missing or no date")
            if query["api-version"] < "2022-03-03":
                raise Refused(400, "NoRegisteredProviderFound", "this api-version knows no blob as a source")
            if parts.path.startswith("/operations/"):
                return 200, {}, self._operation(parts.path.rpartition("/")[2])
            self.requests.append((method, parts.path, body or {}))
            return self._resource(method, parts.path, query, body)

    def _resource(self, method: str, path: str, query: Json, body: Json | None) -> tuple[int, Json, Json]:
        found = _PATH.fullmatch(path)
        if not found:
            raise Refused(404, "InvalidResourceType", f"no such resource type: {path}")
        parts = found["rest"].split("/")
        kind = tuple(parts[::2])
        key = path.lower()
        if kind not in (("images",), ("disks",)) and kind[0] != "galleries":
            raise Refused(404, "InvalidResourceType", f"no such resource type: {parts}")
        for depth in range(2, len(parts) - 1, 2):
            parent = path[: -len("/".join(parts[depth:])) - 1].lower()
            if parent not in self.resources:
                raise Refused(404, "ParentResourceNotFound", f"{parent} was not found")
        if method == "GET" and len(parts) % 2:
            inside = re.compile(re.escape(key) + "/[^/]+")
            return (
                200,
                {},
                {"value": [item for path, item in self.resources.items() if inside.fullmatch(path)]},
            )
        if method == "GET":
            return 200, {}, self._read(key, kind, query)
        if method == "PUT":
            return self._put(path, kind, body or {})
        if method == "PATCH" and kind == ("galleries", "images", "versions"):
            return self._patch(key, body or {})
        if method == "PATCH" and kind == ("images",):
            check(body, {"tags": {"*": str}})
            self._read(key, kind, query)["tags"] = (body or {}).get("tags", {})
            return 200, {}, self.resources[key]
        if method == "DELETE":
            if self.resources.pop(key, None) is None:
                return 204, {}, {}
            return 202, self._began(key), {}
        raise Refused(405, "MethodNotAllowed", method)

    def _read(self, key: str, kind: tuple[str, ...], query: Json) -> Json:
        found = self.resources.get(key)
        if found is None:
            raise Refused(404, "ResourceNotFound", f"{key} was not found")
        if kind != ("galleries", "images", "versions"):
            return found
        answer: Json = json.loads(json.dumps(found))
        self._advance(key)
        answer["properties"]["provisioningState"] = self.resources[key]["properties"]["provisioningState"]
        if query.get("$expand") == "ReplicationStatus":
            answer["properties"]["replicationStatus"] = self._status(key)
        elif query.get("$expand"):
            raise Refused(400, "InvalidParameter", f"$expand={query['$expand']}")
        return answer

    def _advance(self, key: str) -> None:
        """Replication goes on by itself; one region after the other is done."""
        regions = self.progress[key]
        for name in regions:
            if regions[name] < 100 and name not in self.failing:
                regions[name] = min(100, regions[name] + _STEP)
                break
        bad = [name for name in regions if name in self.failing]
        done = all(count == 100 or name in bad for name, count in regions.items())
        if done:
            self.resources[key]["properties"]["provisioningState"] = "Failed" if bad else "Succeeded"

    def _status(self, key: str) -> Json:
        def state(name: str, count: int) -> str:
            if name in self.failing:
                return "Failed"
            return "Completed" if count == 100 else "Replicating" if count else "Unknown"

        summary = [
            {"region": _REGIONS[name], "state": state(name, count), "progress": count}
            | ({"details": "the quota is used up"} if name in self.failing else {})
            for name, count in self.progress[key].items()
        ]
        states = {item["state"] for item in summary}
        whole = "Failed" if "Failed" in states else "Completed" if states == {"Completed"} else "InProgress"
        return {"aggregatedState": whole, "summary": summary}

    def _put(self, path: str, kind: tuple[str, ...], body: Json) -> tuple[int, Json, Json]:
        key = path.lower()
        before = self.resources.get(key)
        if kind == ("galleries", "images"):
            check(body, IMAGE)
            self._check_image(path, body, before)
            state, status = "Succeeded", 200 if before else 201
        elif kind == ("galleries", "images", "versions"):
            check(body, IMAGE_VERSION)
            self._check_version(path, body, before)
            state, status = "Updating" if before else "Creating", 200 if before else 201
        elif kind == ("images",):
            check(body, MANAGED_IMAGE)
            self._check_managed_image(body)
            state, status = "Succeeded", 200 if before else 201
        elif kind == ("disks",):
            check(body, DISK)
            self._check_disk(body)
            state, status = "Succeeded", 200 if before else 202  # not 201 (REST reference, Disks)
        else:
            raise Refused(405, "MethodNotAllowed", "this stand-in makes no galleries")
        made: Json = json.loads(json.dumps(body))
        made |= {"id": path, "name": path.rpartition("/")[2]}
        made["properties"]["provisioningState"] = state
        self.resources[key] = made
        if kind[-1] == "versions":
            old = self.progress.get(key, {})
            names = [_name(item["name"]) for item in body["properties"]["publishingProfile"]["targetRegions"]]
            self.progress[key] = {name: old.get(name, 0) for name in names}
        return status, self._began(key), made

    def _patch(self, key: str, body: Json) -> tuple[int, Json, Json]:
        check(body, VERSION_PATCH)
        found = self.resources.get(key)
        if found is None:
            raise Refused(404, "ResourceNotFound", f"{key} was not found")
        self._must_rest(found)
        found["tags"] = body.get("tags", found.get("tags"))
        profile = body.get("properties", {}).get("publishingProfile", {})
        names = [_name(item["name"]) for item in profile.get("targetRegions", [])]
        if names and set(names) != set(self.progress[key]):
            raise Refused(409, "Conflict", "the patch would take replicas away")
        found["properties"]["publishingProfile"] |= profile
        return 200, {}, found

    def _check_image(self, path: str, body: Json, before: Json | None) -> None:
        gallery = self.resources[path.rsplit("/", 2)[0].lower()]
        if _name(body["location"]) != _name(gallery["location"]):
            raise Refused(400, "InvalidParameter", "a definition lives where its gallery lives")
        new = body["properties"]
        generation = new.get("hyperVGeneration", "V1")
        if new.get("architecture", "x64") == "Arm64" and generation != "V2":
            raise Refused(400, "InvalidParameter", "Arm64 is generation V2 only")
        for feature in new.get("features", []):
            if feature["name"] in ("SecurityType", "DiskControllerTypes") and generation == "V1":
                raise Refused(400, "InvalidParameter", f"{feature['name']} needs generation V2")
        if before is None:
            for other in self.resources.values():
                same = other.get("properties", {}).get("identifier") == new["identifier"]
                if same and other["id"].rsplit("/", 1)[0] == path.rsplit("/", 1)[0]:
                    raise Refused(409, "Conflict", "publisher, offer and sku are taken in this gallery")
            return
        old = before["properties"]
        if changed := [name for name in _IMMUTABLE if old.get(name) != new.get(name)]:
            raise Refused(409, "PropertyChangeNotAllowed", f"{changed} can't be changed")
        if old.get("features") != new.get("features") and not old.get("allowUpdateImage"):
            raise Refused(409, "PropertyChangeNotAllowed", "features can't be changed")

    def _check_version(self, path: str, body: Json, before: Json | None) -> None:
        name = path.rpartition("/")[2]
        if not _VERSION.fullmatch(name) or any(int(part) > 2**31 - 1 for part in name.split(".")):
            raise Refused(400, "InvalidParameter", f"{name} is no version: three 32-bit integers")
        profile = body["properties"]["publishingProfile"]
        names = [_name(item["name"]) for item in profile["targetRegions"]]
        if unknown := [item for item in names if item not in _REGIONS]:
            raise Refused(400, "LocationNotAvailableForResourceType", f"no such region: {unknown}")
        if len(set(names)) != len(names) or _name(body["location"]) not in names:
            raise Refused(
                400, "InvalidParameter", "the version's own region must be one of the target regions"
            )
        source = body["properties"]["storageProfile"]["osDiskImage"]["source"]
        account = re.fullmatch(r"https://([a-z0-9]{3,24})\.blob\.core\.windows\.net/.+\.vhd", source["uri"])
        if not account or not source["storageAccountId"].endswith(f"/storageAccounts/{account[1]}"):
            raise Refused(400, "InvalidParameter", f"the source is no VHD of that account: {source}")
        if before is not None:
            self._must_rest(before)
            if before["properties"]["storageProfile"] != body["properties"]["storageProfile"]:
                raise Refused(409, "PropertyChangeNotAllowed", "a version's source can't be changed")

    def _check_managed_image(self, body: Json) -> None:
        disk = body["properties"]["storageProfile"]["osDisk"]
        if ("blobUri" in disk) == ("managedDisk" in disk):
            raise Refused(400, "InvalidParameter", "an image is made of a blob or of a disk")
        # The storage account of these tests is in West Europe.
        home = "westeurope"
        if "managedDisk" in disk:
            made = self.resources.get(disk["managedDisk"]["id"].lower())
            if made is None:
                raise Refused(404, "ResourceNotFound", "there is no such disk")
            home = _name(made["location"])
        if _name(body["location"]) != home:
            raise Refused(400, "InvalidParameter", f"the source is in {home}, the image would not be")

    def _check_disk(self, body: Json) -> None:
        """A disk can be made of a gallery version only where that has been replicated to."""
        key = body["properties"]["creationData"]["galleryImageReference"]["id"].lower()
        if self.progress.get(key, {}).get(_name(body["location"])) != 100:
            raise Refused(404, "GalleryImageNotFound", f"{key} isn't in {body['location']}")

    def _must_rest(self, found: Json) -> None:
        if found["properties"]["provisioningState"] in ("Creating", "Updating"):
            raise Refused(409, "Conflict", "another operation is in progress")

    def _began(self, key: str) -> dict[str, str]:
        name = str(uuid.uuid4())
        self.operations[name] = (key, 0)
        return {
            "Azure-AsyncOperation": f"{self.url}/operations/{name}?api-version=2026-03-03",
            "Retry-After": "0",
        }

    def _operation(self, name: str) -> Json:
        if name not in self.operations:
            raise Refused(404, "OperationNotFound", name)
        key, asked = self.operations[name]
        self.operations[name] = key, asked + 1
        return {"name": name, "status": "InProgress" if asked < 1 else "Succeeded"}


def _name(region: str) -> str:
    return region.replace(" ", "").lower()


@contextmanager
def serve(place: Path) -> Iterator[FakeArm]:
    """The service on a loopback address, with a certificate of its own in ``place``."""
    fake = FakeArm()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers: Json = {}
            try:
                body = json.loads(raw) if raw else None
                given = {name.lower(): value for name, value in self.headers.items()}
                status, headers, answer = fake.handle(self.command, self.path, given, body)
            except Refused as refused:
                status, answer = refused.status, {"error": {"code": refused.code, "message": str(refused)}}
            data = b"" if status == 204 else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {
                **headers,
                "Content-Type": "application/json",
                "Content-Length": len(data),
            }.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_PATCH = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    fake.certificate = place / "cert.pem"
    _self_signed(fake.certificate, place / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(fake.certificate, place / "key.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        fake.url = f"https://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


def _self_signed(certificate: Path, key: Path) -> None:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
