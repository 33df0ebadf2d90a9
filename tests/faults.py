"""Break uploads at many points, each in its own way, and look at what is left.

    ./ci/nox -s faults                              200 points
    ./ci/nox -s faults -- --points 40 --seed 7      fewer, others
    ./ci/nox -s faults -- --seed 7 --only 23        one of them again

A real Azurite is the service; a proxy before it breaks the connection. After each point the blob must be
missing, marked incomplete and of no use to a consumer, or complete and right; and a second, undisturbed run
must end with every byte right, having sent only what the server did not have.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobClient

from builder import log
from builder.image.sparse import extents
from builder.image.vhd import write_footer
from builder.publish import azurite
from builder.publish.blob import Delivered
from builder.publish.ranges import size_of, subtract
from builder.publish.upload import covered
from builder.workspace import Workspace
from tests.fault_client import NAME, connect, quietly, upload
from tests.fault_proxy import Fault, Proxy, proxy

__all__ = ["KINDS", "Bench", "Point", "bench", "main", "points"]

#: Each kind with the most requests in a row that it hits; 10_000 means: until the run ends.
KINDS = {
    "busy": 6,
    "throttle": 2,
    "reset": 5,
    "cut": 3,
    "torn": 3,
    "lost": 3,
    "full": 10_000,
    "expired": 10_000,
    "flipped": 2,
    "rotten": 3,
    "client": 1,
    "server": 1,
}
#: A little more than an undisturbed run needs, so that every request can be hit.
_REQUESTS = 44


@dataclass(frozen=True, slots=True)
class Point:
    """One fault: its number and seed, what happens, and at which request."""

    number: int
    seed: str
    fault: Fault

    def __str__(self) -> str:
        fault = self.fault
        side = (", after the answer" if fault.after else ", before it") if fault.kind in _KILLS else ""
        return (
            f"{self.number:3d} (seed {self.seed}): {fault.kind} at request {fault.at}, ×{fault.times}{side}"
        )


_KILLS = ("client", "server")


def points(seed: int, count: int) -> Iterator[Point]:
    """``count`` points; the same seed gives the same ones. Every kind comes in turn."""
    for number, kind in zip(range(count), itertools.cycle(KINDS), strict=False):
        name = f"{seed}.{number}"
        source = random.Random(name)
        most = KINDS[kind]
        times = most if most > 100 else source.randint(1, most)
        at = source.randrange(_REQUESTS)
        if kind in ("flipped", "full", "cut", "rotten"):
            at = source.randrange(15)  # these hit writes only, and those come early
        yield Point(number, name, Fault(kind, at, times, after=source.random() < 0.5))


@dataclass(slots=True)
class Bench:
    """A service, a proxy before it, and an image to upload."""

    image: Path
    proxy: Proxy
    space: Workspace
    place: Path
    server: azurite.Azurite
    stack: ExitStack
    rounds: int = 0
    said: str = ""

    def check(self, point: Point) -> str:
        """Let one fault happen, look at what is left, finish the upload; what happened, in a word.

        :raises AssertionError: something is wrong that must never be.
        """
        self.rounds += 1
        container = f"point-{point.number}-{self.rounds}"
        fault, result = point.fault, ""
        if fault.kind == "client":
            result = self._killedconnect(container, fault)
        else:
            if fault.kind == "server":
                pid = self.server.pid
                assert pid is not None
                fault = replace(fault, when=lambda: os.kill(pid, signal.SIGKILL))
            self.proxy.reset(backend=_port(self.server.endpoint), fault=fault)
            done = upload(self._address(), container, self.image)
            self.said = str(done)
            result = "survived" if isinstance(done, Delivered) else "stopped"
            if isinstance(done, str):
                assert "cannot " in done or "differ" in done, f"an error that explains nothing: {done}"
        if fault.kind == "server" and self.proxy.struck:
            self._restart()
        self.proxy.reset(backend=_port(self.server.endpoint), fault=None)
        with connect(self.server.endpoint) as service:
            blob = service.get_blob_client(container, NAME)
            missing = self._look(blob, must_be_complete=result == "survived" and fault.kind != "server")
            again = upload(self._address(), container, self.image)
            assert isinstance(again, Delivered), f"the second run did not end well: {again}"
            assert again.moved.sent == missing, f"{again.moved.sent} bytes were sent, {missing} were missing"
            assert self._look(blob, must_be_complete=True) == 0
            state = blob.get_blob_properties().lease.state
            assert state == "available", f"the lease is {state}: consumers would wait for it"
            service.delete_container(container)
        return result

    def _look(self, blob: BlobClient, *, must_be_complete: bool) -> int:
        """Judge what the server has; the bytes that are missing there."""
        data = list(extents(self.image))
        try:
            found = blob.get_blob_properties()
        except ResourceNotFoundError:
            assert not must_be_complete, "the run said that it was done, and there is no blob"
            return size_of(data)
        metadata = found.metadata or {}
        if metadata.get("hallmark_state") == "complete":
            assert covered(blob) == data, "a complete blob whose ranges are not the image's"
            assert blob.download_blob().readall() == self.image.read_bytes(), (
                "a complete blob, and wrong bytes"
            )
            return 0
        assert not must_be_complete, "the run said that it was done, and the blob isn't complete"
        assert metadata["hallmark_state"] == "incomplete"
        assert not any(name.startswith("Microsoft") for name in metadata), "consumers would take half a blob"
        return size_of(subtract(data, covered(blob)))

    def _killedconnect(self, container: str, fault: Fault) -> str:
        """Upload in another process, which is killed when the request comes."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.fault_client"])
        process = context.Process(target=quietly, args=(self._address(), container, self.image), daemon=True)
        self.proxy.reset(
            backend=_port(self.server.endpoint),
            fault=replace(fault, when=lambda: os.kill(process.pid or 0, 9)),
        )
        process.start()
        process.join(120)
        assert process.exitcode is not None, "the client hangs"
        time.sleep(0.3)  # what was under way when it died may still arrive
        return "killed" if process.exitcode == -signal.SIGKILL else "survived"

    def _restart(self) -> None:
        self.stack.close()
        self.server = self.stack.enter_context(_serve(self.place, self.space))

    def _address(self) -> str:
        return f"http://127.0.0.1:{self.proxy.server_address[1]}/{azurite.ACCOUNT}"


def _serve(place: Path, space: Workspace) -> AbstractContextManager[azurite.Azurite]:
    return azurite.serve(location=place, cache=space.cache, log_file=place / "server.log")


@contextmanager
def bench(place: Path, space: Workspace) -> Iterator[Bench]:
    """Everything that points need, in the directory ``place``."""
    image = _image(place / NAME)
    data = place / "data"
    with proxy() as between, ExitStack() as stack:
        server = stack.enter_context(_serve(data, space))
        yield Bench(image, between, space, data, server, stack)


def _image(path: Path) -> Path:
    """16 MiB with sixteen pieces of data of odd sizes, one of them longer than a request may be."""
    source = random.Random(1)
    with path.open("wb") as stream:
        stream.truncate(16 << 20)
        for index in range(14):
            os.pwrite(stream.fileno(), source.randbytes(512 * source.randint(1, 150)), index * (512 << 10))
        os.pwrite(stream.fileno(), source.randbytes(5 << 20), (8 << 20) + 512)
    write_footer(path, timestamp=0, unique_id=UUID(int=1))
    return path


def _port(endpoint: str) -> int:
    return int(endpoint.split(":")[2].split("/")[0])


def main(words: list[str]) -> int:
    """Check the points and count what happened; the value is 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="faults", description=main.__doc__)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10_000), help="default: another each time"
    )
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this point alone")
    options = parser.parse_args(words)
    count = options.points if options.only is None else options.only + 1
    chosen = [point for point in points(options.seed, count) if options.only in (None, point.number)]
    print(f"{len(chosen)} fault points, seed {options.seed}", flush=True)
    place = Path(tempfile.mkdtemp(prefix="hallmark-faults-", dir="/var/tmp"))
    space = Workspace.default(build=place / "build")
    happened: Counter[tuple[str, str]] = Counter()
    wrong: list[Point] = []
    log.configure(mode="plain")
    log.console.quiet = True
    try:
        with bench(place, space) as stand:
            for point in chosen:
                try:
                    result = stand.check(point)
                except AssertionError as error:
                    result = f"WRONG: {error}"
                    wrong.append(point)
                happened[point.fault.kind, result.partition(":")[0]] += 1
                print(f"{point}: {result}", flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for (kind, result), number in sorted(happened.items()):
        print(f"{kind:10s} {result:10s} {number}")
    print(f"seed {options.seed}: {len(chosen) - len(wrong)} of {len(chosen)} points left nothing wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
