"""A small managed program that a booted guest runs on its own .NET runtime.

``Probe.cs`` is compiled with Mono's compiler against Mono's class library. The resulting file refers to
``mscorlib``, for which every .NET since Core 2.0 ships a forwarder: one program runs on every channel.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from builder.run import run
from builder.workspace import atomic_directory

__all__ = ["SOURCE", "TestKit", "build", "expected_output", "runtime_config"]

SOURCE = Path(__file__).resolve().parent / "Probe.cs"


@dataclass(frozen=True, slots=True)
class TestKit:
    """The compiled program; ``digest`` identifies its source."""

    __test__ = False

    assembly: Path
    digest: str


def build(directory: Path) -> TestKit:
    """Compile the program below ``directory``, or take the one that is there already.

    :raises HallmarkError: the compiler is missing or refuses the source.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    target = directory / f"testkit-{digest}"
    if not target.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with atomic_directory(target) as work:
            run(
                ["mcs", "-optimize+", "-target:exe", f"-out:{work / 'Probe.dll'}", SOURCE],
                timeout=120,
                hint="the compiler is Debian's package mono-mcs",
            )
    return TestKit(target / "Probe.dll", digest)


def runtime_config(*, version: str) -> str:
    """The ``runtimeconfig.json`` that runs the program on a runtime of ``version``.

    .NET Core 3.1 doesn't know the ICU of today's distributions; globalization is judged apart from this.
    """
    channel = ".".join(version.split(".")[:2])
    properties = {"System.Globalization.Invariant": True} if channel == "3.1" else {}
    options = {
        "framework": {"name": "Microsoft.NETCore.App", "version": version},
        "rollForward": "Disable",
        "configProperties": properties,
    }
    return json.dumps({"runtimeOptions": options}, indent=2) + "\n"


def expected_output(arguments: list[int]) -> dict[str, str]:
    """What the program must print for these arguments, computed here."""
    joined = " ".join(map(str, arguments))
    primes = [n for n in range(2, 2001) if all(n % d for d in range(2, int(n**0.5) + 1))]
    return {
        "sum-of-squares": str(sum(number * number for number in arguments)),
        "primes": str(len(primes)),
        "fnv1a": f"{_fnv1a(joined):016x}",
        "threads": str(8 * sum(range(1000))),
        "sorted": ",".join(map(str, sorted(arguments))),
        "roundtrip": joined,
        "exception": "caught DivideByZeroException",
    }


def _fnv1a(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value
