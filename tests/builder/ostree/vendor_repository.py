"""Somebody's ostree repository, made with ostree itself, and a server for it on the loopback."""

from __future__ import annotations

import functools
import http.server
import shutil
import sqlite3
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from small_system import KERNEL, write_tree

from builder.ostree.repository import ostree
from builder.run import run
from builder.sampledistro.rpm import Entry, PackageSpec, write
from builder.workspace import PROJECT, Workspace

__all__ = ["END", "FINGERPRINT", "KEYS", "REF", "REMOTE", "WHOLE", "Server", "Site", "Vendor", "serve"]

KEYS = PROJECT / "images/sample-distribution/keys"
FINGERPRINT = "4289A0585D393B761423296BAA81A34A9A583DEE"
#: As ``images/atomic-host-7.yaml`` has them.
REF, REMOTE = "centos-atomic-host/7/x86_64/standard", "centos-atomic-host"
#: A disk that is quickly made: no BIOS, for which the tree would need a GRUB that runs, and no appliance.
WHOLE = "disk: { size_mib: 2048, boot_mib: 256, filesystem: ext4, generations: { replace: [2] } }"
#: With a BIOS the build has its commit, and ends where it finds no GRUB for it.
COMMIT_ONLY, END = "disk: { filesystem: ext4 }", "the commit has no GRUB for BIOS"
_DATE = 1_795_305_600


class Vendor:
    """A repository in archive mode with commits of a small system; every commit is signed unless asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        run(("ostree", "init", "--mode=archive", f"--repo={path}"))

    def publish(self, version: str, *, ref: str = REF, sign: bool = True, summary: bool = True) -> str:
        """One more commit of the ref, with a package of this version; returns its checksum."""
        with tempfile.TemporaryDirectory(dir=self.path.parent) as directory:
            tree = _tree(Path(directory), version)
            words = (f"--branch={ref}", f"--tree=dir={tree}", f"--timestamp=@{_DATE}")
            words = (*words, f"--add-metadata-string=version={version}", "--owner-uid=0", "--owner-gid=0")
            with _signing(Path(directory)) as home:
                key = (f"--gpg-sign={FINGERPRINT}", f"--gpg-homedir={home}") if sign else ()
                checksum = ostree("commit", *words, *key, repo=self.path).strip()
        if summary:
            ostree("summary", "--update", repo=self.path)
        return checksum

    def prune(self, checksum: str) -> None:
        """Forget a commit."""
        for path in self.path.glob(f"objects/{checksum[:2]}/{checksum[2:]}.*"):
            path.unlink()

    def an_object(self) -> Path:
        """A file of the newest commit alone."""
        checksum = ostree("ls", "-C", REF, "/usr/share/tool/version", repo=self.path).split()[4]
        return self.path / f"objects/{checksum[:2]}/{checksum[2:]}.filez"


@contextmanager
def _signing(directory: Path) -> Iterator[Path]:
    home = directory / "g"
    home.mkdir(mode=0o700)
    try:
        run(("gpg", "--homedir", home, "--batch", "--import", KEYS / "test-secret-key.asc"))
        yield home
    finally:
        run(("gpgconf", "--homedir", home, "--kill", "all"))


def _tree(directory: Path, version: str) -> Path:
    """The small system as a commit of Enterprise Linux 7 had it: kernel and initramfs twice, each with the
    checksum of both in its name, and the package database in Berkeley DB's format (rpm's of
    today where nothing writes that any more)."""
    root = write_tree(directory / "tree", **{"usr/share/tool/version": version})
    (root / "etc").rename(root / "usr/etc")
    shutil.rmtree(root / "var")
    for name in ("var", "sysroot"):
        (root / name).mkdir()
    for name in ("home", "opt", "root"):
        shutil.rmtree(root / name)
        (root / name).symlink_to(f"var/{name}")
    (root / "ostree").symlink_to("sysroot/ostree")
    (root / f"usr/lib/modules/{KERNEL}/vmlinuz").unlink()
    both = "".join(run(("sha256sum", root / f"boot/vmlinuz-{KERNEL}")).stdout.split()[:1])
    for place in ("boot", "usr/lib/ostree-boot"):
        (root / place).mkdir(exist_ok=True)
        (root / place / f"vmlinuz-{KERNEL}-{both}").write_text("kernel")
        (root / place / f"initramfs-{KERNEL}.img-{both}").write_text("initramfs")
    (root / f"boot/vmlinuz-{KERNEL}").unlink()
    (root / f"boot/initramfs-{KERNEL}.img").unlink()
    loaders = root / "usr/lib/ostree-boot/efi/EFI"
    shutil.move(root / "boot/efi/EFI", loaders)
    (loaders / "debian").rename(loaders / "centos")
    _package_database(root / "usr/share/rpm", directory, version)
    return root


def _package_database(target: Path, directory: Path, version: str) -> None:
    spec = PackageSpec(
        name="tool",
        version=version,
        release="1",
        epoch=0,
        arch="noarch",
        summary="tool",
        entries=(Entry("/usr/share/tool/version", "file", content=version.encode()),),
    )
    package = directory / spec.filename
    write(spec, package, secret_key=(KEYS / "test-secret-key.asc").read_bytes(), source_date=_DATE)
    made = directory / "rpmdb"
    run(("rpm", "--dbpath", made, "--nosignature", "--justdb", "--nodeps", "--noscripts", "-i", package))
    if shutil.which("db_load") is None:
        shutil.copytree(made, target)
        return
    with sqlite3.connect(made / "rpmdb.sqlite") as database:
        headers = dict(database.execute("SELECT hnum, blob FROM Packages"))
    lines = ["VERSION=3", "format=bytevalue", "type=hash", "HEADER=END"]
    # The record 0 holds the highest number of a header; all numbers are in the machine's order.
    records = {0: max(headers).to_bytes(4, "little"), **headers}
    for number, blob in records.items():
        lines += [f" {number.to_bytes(4, 'little').hex()}", f" {blob.hex()}"]
    target.mkdir(parents=True)
    run(("db_load", "-t", "hash", target / "Packages"), stdin="\n".join([*lines, "DATA=END", ""]))


@dataclass(slots=True)
class Server:
    """Where a directory is served, and the paths that were asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve(
    directory: Path, *, tls: ssl.SSLContext | None = None, status: int | None = None
) -> Iterator[Server]:
    """Serve a directory on the loopback.

    :param status: answer everything with this one.
    """
    told = Server("")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            if status is None:
                super().do_GET()
            else:
                self.send_error(status)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are in ``asked``."""

    class Listener(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was refused, or that refused."""

    with Listener(("127.0.0.1", 0), functools.partial(Handler, directory=str(directory))) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        told.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


class Site:
    """A copy of the recipes, a build directory, and the command line run with this site's mirrors file."""

    def __init__(self, directory: Path) -> None:
        self.images = directory / "images"
        shutil.copytree(PROJECT / "images", self.images)
        self.build = directory / "build"
        self.mirrors = directory / "mirrors.yaml"
        self.recipe = self.images / "atomic-host-7.yaml"
        self.workspace = Workspace.default(build=self.build)
        self.lock = self.images / "locks/atomic-host-7.lock.yaml"

    def mirror(
        self, source: str, *more: str, key: bool = True, system: str = "", disk: str = COMMIT_ONLY
    ) -> None:
        """Take the commits of the recipe's remote from ``source``; signed with the sample's key.

        :param more: lines about the place; ``system``: changes of the recipe's ``ostree``.
        """
        trust = (f"key: {KEYS}/RPM-GPG-KEY-hallmark-sample", f"fingerprint: {FINGERPRINT}") if key else ()
        lines = "".join(f"\n    {line}" for line in (f"source: {source}", *trust, *more))
        changes = f"changes: {{ {f'ostree: {{ {system} }}, ' if system else ''}{disk} }}"
        self.mirrors.write_text(f"ostree:\n  {REMOTE}:{lines}\n{changes}\n")

    def artefact(self, name: str) -> Path:
        """A file of the newest build."""
        return max(self.build.glob(f"atomic-host-7/7.*/{name}"))

    def left(self) -> list[str]:
        """What a user would take for a result, and what should be gone after a failure."""
        wanted = ("*.vhd", "*.tar", "commit.json", "packages.json", "sbom.cdx.json")
        found = [path.name for pattern in wanted for path in self.build.rglob(pattern)]
        return sorted([*found, *(path.name for path in self.workspace.work.iterdir() if path.is_dir())])
