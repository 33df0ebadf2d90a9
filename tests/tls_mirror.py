"""A package mirror on the loopback that answers only to clients with a certificate of its own authority."""

from __future__ import annotations

import functools
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Pair", "serve"]


_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: str
    key: str

    def needles(self) -> list[bytes]:
        """Every line that must not be found anywhere: the base64 of certificate and key."""
        lines = (self.certificate + self.key).splitlines()
        return [line.encode() for line in lines if len(line) > 20 and not line.startswith("-----")]


class Authority:
    """Signs certificates for one test."""

    def __init__(self, name: str) -> None:
        self._key = _new_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._name, self._key, days=(-1, 30), authority=True)
        self.pem = _pem(self._certificate)

    def issue(self, name: str, *, days: tuple[int, int] = (-1, 30)) -> Pair:
        """A certificate for a client or for 127.0.0.1, valid from and to these days from now."""
        key = _new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return Pair(_pem(self._sign(subject, key, days=days)), _pem(key))

    def _sign(
        self,
        name: x509.Name,
        key: _Key,
        *,
        days: tuple[int, int],
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@contextmanager
def serve(directory: Path, authority: Authority, work: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a directory; yields the base URL and the common names of the clients, one for each request."""
    clients: list[str] = []
    own = authority.issue("mirror")
    files = {"server.pem": own.certificate + own.key, "clients.pem": authority.pem}
    for name, text in files.items():
        (work / name).write_text(text)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            assert isinstance(self.connection, ssl.SSLSocket)
            peer = self.connection.getpeercert() or {}
            clients.append(str(peer["subject"][0][0][1]))
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that was refused

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(work / "server.pem")
    context.load_verify_locations(work / "clients.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(directory)))
    # The handshake happens in the thread of each connection, so that a refused client stops nobody else.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}", clients
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _new_key() -> _Key:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(item: x509.Certificate | _Key) -> str:
    if isinstance(item, x509.Certificate):
        return item.public_bytes(serialization.Encoding.PEM).decode()
    return item.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
