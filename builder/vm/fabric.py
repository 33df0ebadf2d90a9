"""Answers one HTTP connection of a guest as Azure's metadata service or wire server would.

QEMU starts this file as a program for each connection (see ``builder.vm.azure``): stdin and stdout are the
connection, so nothing listens on the host. It uses the standard library alone and appends each request to a
log.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import parse_qs, urlsplit

__all__ = ["Request", "answer", "main", "serve"]

_MAX_BODY = 1 << 20


class Request(NamedTuple):
    """One request: HTTP ``method``, ``target`` with its query, lower-case ``headers`` and the ``body``."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


_GOAL_STATE = """<?xml version="1.0" encoding="utf-8"?>
<GoalState xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <Version>2012-11-30</Version><Incarnation>1</Incarnation>
 <Machine><ExpectedState>Started</ExpectedState><StopRolesDeadlineHint>300000</StopRolesDeadlineHint></Machine>
 <Container><ContainerId>{container}</ContainerId>
  <RoleInstanceList><RoleInstance><InstanceId>{instance}</InstanceId><State>Started</State>
   <Configuration/></RoleInstance></RoleInstanceList></Container>
</GoalState>
"""
_VERSIONS = """<?xml version="1.0" encoding="utf-8"?>
<Versions><Preferred><Version>2015-04-05</Version></Preferred>
<Supported><Version>2015-04-05</Version><Version>2012-11-30</Version></Supported></Versions>
"""


def answer(service: str, request: Request, metadata: dict[str, object]) -> tuple[int, str, bytes]:
    """Status, content type and body for ``request`` to ``service`` (``imds`` or ``wire``)."""
    url = urlsplit(request.target)
    query = parse_qs(url.query)
    if service == "imds":
        return _imds(url.path.rstrip("/"), request, query, metadata)
    component = query.get("comp", [""])[0]
    if request.method == "POST":
        return 200, "text/xml; charset=utf-8", b""  # health and telemetry: the report itself is in the log
    if component == "versions":
        return 200, "text/xml; charset=utf-8", _VERSIONS.encode()
    if component == "goalstate":
        compute = metadata["compute"]
        vm_id = str(compute["vmId"]) if isinstance(compute, dict) else ""
        text = _GOAL_STATE.format(container=vm_id, instance=f"{vm_id}._instance")
        return 200, "text/xml; charset=utf-8", text.encode()
    return 404, "text/plain", b"not found\n"


def _imds(
    path: str, request: Request, query: dict[str, list[str]], metadata: dict[str, object]
) -> tuple[int, str, bytes]:
    if request.headers.get("metadata", "").lower() != "true" or "api-version" not in query:
        return 400, "application/json", b'{"error": "Bad request: header Metadata or api-version is missing"}'
    node: object = metadata
    if not path.startswith("/metadata/instance"):
        return 404, "application/json", b'{"error": "Not found"}'
    for name in path.removeprefix("/metadata/instance").strip("/").split("/"):
        if not name:
            continue
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            return 404, "application/json", b'{"error": "Not found"}'
    if query.get("format") == ["text"]:
        return 200, "text/plain; charset=utf-8", _as_text(node).encode()
    return 200, "application/json; charset=utf-8", json.dumps(node).encode()


def _as_text(node: object) -> str:
    """A value as it is; of an object or array its members' names, with a slash where there is more below."""
    if not isinstance(node, (dict, list)):
        return str(node)
    members = node.items() if isinstance(node, dict) else enumerate(node)
    return "\n".join(f"{name}/" if isinstance(value, (dict, list)) else str(name) for name, value in members)


def serve(service: str, description: Path, requests: Path, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer the requests of one connection until its end."""
    metadata = json.loads(description.read_text())
    request = _read(source)
    if request is None:
        return
    status, kind, body = answer(service, request, metadata)
    record = {
        "time": round(time.time(), 3),
        "service": service,
        "method": request.method,
        "target": request.target,
        "status": status,
        "body": request.body.decode(errors="replace")[:4096],
    }
    with requests.open("a") as stream:
        stream.write(json.dumps(record) + "\n")
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nContent-Type: {kind}\r\n"
    sink.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    sink.flush()


def _read(source: BinaryIO) -> Request | None:
    words = source.readline(65536).decode("latin-1").split()
    if len(words) < 2:
        return None
    headers: dict[str, str] = {}
    while (line := source.readline(65536).decode("latin-1").strip()) and len(headers) < 100:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    body = source.read(min(int(length), _MAX_BODY)) if length.isdigit() else b""
    return Request(words[0], words[1], headers, body)


def main(arguments: list[str]) -> int:
    """``fabric.py SERVICE METADATA REQUESTS``: serve the connection on stdin and stdout."""
    service, description, requests = arguments
    with open(0, "rb", closefd=False) as source, open(1, "wb", buffering=0, closefd=False) as sink:
        serve(service, Path(description), Path(requests), source, io.BufferedWriter(sink))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
