"""A proxy on the loopback interface that passes requests to a real blob service and breaks some of them."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from azure.storage.blob import BlobClient

from builder.publish.azurite import ACCOUNT, KEY
from builder.publish.storage import API_VERSION

__all__ = ["Fault", "Proxy", "proxy"]

#: What is added to the answers that the proxy makes up; the shape is the service's (REST reference, errors).
_ERROR = '<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{text}</Message></Error>'


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens from request number ``at`` on, ``times`` times.

    ``when`` is called at the request, before it is passed on or after it was answered by the service.
    """

    kind: str
    at: int
    times: int = 1
    after: bool = False
    when: Callable[[], None] = lambda: None


class Proxy(ThreadingHTTPServer):
    """``backend`` is the service's port; ``fault`` what to break; ``requests`` counts what came.

    With ``copies`` it does what the service behind it can't: Put Page From URL; ``copied`` counts the bytes.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.backend = 0
        self.fault: Fault | None = None
        self.requests = 0
        self.struck = 0
        self.copies = False
        self.copied = 0
        self._lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections break here all the time; that is what it is for."""

    def reset(self, *, backend: int, fault: Fault | None) -> None:
        """Begin to count anew, with another fault."""
        with self._lock:
            self.backend, self.fault = backend, fault
            self.requests = self.struck = 0

    def strike(self, *, page: bool, read: bool) -> Fault | None:
        """Count a request; the fault if this is one that it hits. It may write data, or read them."""
        with self._lock:
            number = self.requests
            self.requests += 1
            fault = self.fault
            if fault is None or number < fault.at or self.struck >= fault.times:
                return None
            if fault.kind in ("flipped", "full", "cut", "rotten") and not page:
                return None
            if fault.kind == "torn" and not read:
                return None
            self.struck += 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    server: Proxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        page = self.command == "PUT" and self.headers.get("x-ms-page-write") == "update"
        read = self.command == "GET" and "x-ms-range" in self.headers
        fault = self.server.strike(page=page, read=read)
        kind = fault.kind if fault else ""
        if fault and kind in ("client", "server") and not fault.after:
            fault.when()
        if kind == "busy":
            return self._answer(503, "ServerBusy", {})
        if kind == "throttle":
            return self._answer(503, "ServerBusy", {"Retry-After": "1"})
        if kind == "full":
            return self._answer(500, "InternalError", {})
        if kind == "expired":
            return self._answer(403, "AuthenticationFailed", {})
        if kind == "reset":
            return self._break()
        if kind == "cut":
            return self._cut(body)
        if self.server.copies and "x-ms-copy-source" in self.headers:
            return self._copy()
        if kind == "flipped":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0x40]) + body[middle + 1 :]
        status, headers, data = self._pass(body)
        if fault and kind in ("client", "server") and fault.after:
            fault.when()
        if kind == "lost":
            return self._break()
        if kind == "rotten":
            self._rot(body)
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "keep-alive", "server", "date"):
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if kind == "torn" else data)
        if kind == "torn":
            self.wfile.flush()
            self._break()
        return None

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

    def _pass(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.backend, timeout=60)
        try:
            connection.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        except OSError:
            self._break()
            raise
        finally:
            connection.close()

    def _cut(self, body: bytes) -> None:
        """Pass on half of the body, then let both ends find a broken connection."""
        head = f"{self.command} {self.path} HTTP/1.1\r\n" + str(self.headers).replace("\n", "\r\n")
        with socket.create_connection(("127.0.0.1", self.server.backend)) as backend:
            backend.sendall(head.encode() + body[: len(body) // 2])
            _abort(backend)
        self._break()

    def _copy(self) -> None:
        """Put Page From URL, with the rules of the REST reference; the service behind does the writing."""
        asked = {name.lower(): value for name, value in self.headers.items()}
        start, length = _range(asked.get("x-ms-range") or asked.get("range", ""))
        source_start, source_length = _range(asked.get("x-ms-source-range", ""))
        if asked.get("content-length") != "0" or asked.get("x-ms-page-write") != "update":
            return self._answer(400, "InvalidHeaderValue", {})
        if length != source_length or length > 4 << 20 or start % 512 or length % 512 or source_start % 512:
            return self._answer(400, "InvalidPageRange", {})
        if "sharedkey" not in asked.get("authorization", "").lower():
            return self._answer(403, "AuthenticationFailed", {})
        parts = urlsplit(asked["x-ms-copy-source"])
        reader = http.client.HTTPConnection("127.0.0.1", self.server.backend, timeout=60)
        bytes_wanted = f"bytes={source_start}-{source_start + length - 1}"
        conditions = {"If-Match": asked["x-ms-source-if-match"]} if "x-ms-source-if-match" in asked else {}
        version = {"x-ms-version": API_VERSION, "x-ms-range": bytes_wanted}
        reader.request("GET", f"{parts.path}?{parts.query}", headers=version | conditions)
        answer = reader.getresponse()
        data = answer.read()
        reader.close()
        if answer.status not in (200, 206):
            failed = {412: "SourceConditionNotMet", 404: "CannotVerifyCopySource"}
            return self._answer(answer.status, failed.get(answer.status, "CannotVerifyCopySource"), {})
        with self._blob() as blob:
            blob.upload_page(data, offset=start, length=length, lease=asked.get("x-ms-lease-id"))
            etag = str(blob.get_blob_properties().etag)
        self.server.copied += length
        self.send_response(201)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _blob(self) -> BlobClient:
        place = self.path.partition("?")[0]
        return BlobClient.from_blob_url(
            f"http://127.0.0.1:{self.server.backend}{place}",
            credential={"account_name": ACCOUNT, "account_key": KEY},
            api_version=API_VERSION,
        )

    def _rot(self, body: bytes) -> None:
        """What the service stored is not what it was sent: its disk lies."""
        with self._blob() as blob:
            start = int(self.headers["x-ms-range"].removeprefix("bytes=").partition("-")[0])
            page = bytes([body[0] ^ 1]) + body[1:512]
            blob.upload_page(page, offset=start, length=512, lease=self.headers["x-ms-lease-id"])

    def _answer(self, status: int, code: str, headers: dict[str, str]) -> None:
        data = _ERROR.format(code=code, text="made up by the fault proxy").encode()
        self.send_response(status)
        for name, value in {**headers, "x-ms-error-code": code, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _break(self) -> None:
        _abort(self.connection)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _range(text: str) -> tuple[int, int]:
    """Offset and length of ``bytes=0-511``."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    return int(first), int(last) - int(first) + 1


def _abort(connection: socket.socket) -> None:
    """Close with a reset instead of a farewell (SO_LINGER with zero seconds)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def proxy() -> Iterator[Proxy]:
    """A proxy that listens for the length of a ``with`` block."""
    with Proxy() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
