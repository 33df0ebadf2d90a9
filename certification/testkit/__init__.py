"""What is put into a booted guest for a moment: two managed programs and a package.

``Probe.cs`` (the runtime itself) and ``Features.cs`` (cultures, time zones, cryptography) are compiled with
Mono's compiler against Mono's class library. The resulting files refer to ``mscorlib``, for which every .NET
since Core 2.0 ships a forwarder: one program runs on every channel.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from builder.run import run
from builder.workspace import atomic_directory

__all__ = [
    "FEATURES",
    "FEATURES_EXPECTED",
    "PACKAGE",
    "PACKAGED",
    "SOURCE",
    "TestKit",
    "build",
    "expected_output",
    "key_file",
    "package",
    "runtime_config",
    "secrets_expected",
]

SOURCE = Path(__file__).resolve().parent / "Probe.cs"
FEATURES = SOURCE.with_name("Features.cs")

#: The package that ``package`` makes, and its one file.
PACKAGE = "hallmark-certification-probe"
PACKAGED = f"/usr/share/{PACKAGE}"

#: What ``Features`` must print for cultures (Unicode CLDR) and zones (the IANA database), by its argument.
FEATURES_EXPECTED = {
    "cultures": {
        "number": "1.234.567,89",
        "date": "M\u00e4rz",
        "month": "\u6728\u66dc\u65e5".encode().hex(),
        "sorted": "True",
    },
    "zones": {"utc": "0", "winter": "60", "summer": "120"},
}


@dataclass(frozen=True, slots=True)
class TestKit:
    """The compiled program; ``digest`` identifies its source."""

    __test__ = False

    assembly: Path
    digest: str


def build(directory: Path, *, source: Path = SOURCE) -> TestKit:
    """Compile a program below ``directory``, or take the one that is there already.

    :raises HallmarkError: the compiler is missing or refuses the source.
    """
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    target = directory / f"testkit-{digest}"
    if not target.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with atomic_directory(target) as work:
            run(
                ["mcs", "-optimize+", "-target:exe", f"-out:{work / source.stem}.dll", source],
                timeout=120,
                hint="the compiler is Debian's package mono-mcs",
            )
    return TestKit(target / f"{source.stem}.dll", digest)


def runtime_config(*, version: str, cultures: bool = False) -> str:
    """The ``runtimeconfig.json`` that runs the program on a runtime of ``version``.

    .NET Core 3.1 doesn't know the ICU of today's distributions; globalization is judged apart from this, by
    a program that gets its ``cultures``.
    """
    channel = ".".join(version.split(".")[:2])
    properties = {"System.Globalization.Invariant": True} if channel == "3.1" and not cultures else {}
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


def secrets_expected(word: str) -> dict[str, str]:
    """What ``Features crypto WORD`` must print: a digest, a signature that holds and a forged one that
    doesn't, and the word as it came through TLS.
    """
    digest = hashlib.sha256(word.encode()).hexdigest()
    return {"sha256": digest, "signature": "True,False", "tls": f"{word} over Tls12"}


def key_file(*, old: bool = False) -> bytes:
    """A PKCS#12 file, its password is ``probe``, with a key and a certificate that nobody trusts: for TLS
    within one program. ``old``: encrypted as Mono can read it.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    best: serialization.KeySerializationEncryption = serialization.BestAvailableEncryption(b"probe")
    if old:
        builder = serialization.PrivateFormat.PKCS12.encryption_builder().hmac_hash(hashes.SHA1())
        best = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).build(b"probe")
    return pkcs12.serialize_key_and_certificates(b"probe", key, certificate, None, best)


def _fnv1a(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value


def package(directory: Path) -> Path:
    """A package of one file, for the guest's package manager to install; not signed."""
    # Hosts that don't make the sample distribution may lack it, and only this test needs it.
    import rpm_rs

    config = rpm_rs.BuildConfig(format=rpm_rs.RpmFormat.V4, source_date=1_700_000_000)
    builder = rpm_rs.PackageBuilder(PACKAGE, "1", "MIT", "noarch", "certification's probe")
    builder.using_config(config)
    builder.release("1")
    options = rpm_rs.FileOptions.new(PACKAGED, permissions=0o644, user="root", group="root")
    builder.with_file_contents(b"a packaged file\n", options)
    target = directory / f"{PACKAGE}.rpm"
    target.write_bytes(builder.build().to_bytes())
    return target
