"""Everything that must stop an image before a byte of it moves: what is done to it, and what is said then."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from publish_support import MIB, certify, policies

from builder.disk import gpt
from builder.disk.layout import Layout
from builder.image.vhd import write_footer
from builder.recipe import Plan
from builder.workspace import Artefacts
from certification import keys


def swap(text: str, old: str, new: str) -> str:
    """Edit the signed statement inside an envelope."""
    envelope = json.loads(text)
    payload = b64decode(envelope["payload"]).decode()
    assert old in payload
    envelope["payload"] = b64encode(payload.replace(old, new).encode()).decode()
    return json.dumps(envelope)


def poke(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(at if at >= 0 else path.stat().st_size + at)
        stream.write(data)


def resign(built: Artefacts, plan: Plan, pair: keys.KeyPair, **changes: str) -> None:
    built.certificate.write_text(certify(built.image, plan.model_copy(update=changes), pair))


def other_certificate(built: Artefacts, plan: Plan, pair: keys.KeyPair) -> None:
    other = built.root / "other.vhd"
    shutil.copyfile(built.image, other)
    poke(other, 4 << 20, b"x")
    built.certificate.write_text(certify(other, plan, pair))


def pack(image: Path) -> None:
    image.write_bytes(gzip.compress(image.read_bytes()))


def convert(image: Path, form: str) -> None:
    other = image.with_suffix(".other")
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", form, str(image), str(other)],
        check=True,
        capture_output=True,
    )
    if form == "raw":  # the disk without its footer
        os.truncate(other, 24 * MIB)
    other.replace(image)


def resize(image: Path, size: int, *, table: bool = True) -> None:
    """A disk of another size with a right footer, and with a partition table that fits or doesn't."""
    os.truncate(image, 24 * MIB)
    os.truncate(image, size)
    if table:
        with image.open("r+b") as stream:
            gpt.write(stream.fileno(), Layout(size, UUID(int=9), ()))
    write_footer(image, timestamp=0, unique_id=UUID(int=1))


def without_a_sector(image: Path) -> None:
    data = image.read_bytes()
    image.write_bytes(data[:-1024] + data[-512:])


def large_generation_2(built: Artefacts, plan: Plan, pair: keys.KeyPair) -> None:
    disk = plan.disk.model_copy(update={"generations": (2,)})
    built.plan.write_text(plan.model_copy(update={"disk": disk}).to_json())
    resize(built.image, 5 << 40)


def judged_by_dotnet_alone(built: Artefacts, plan: Plan, pair: keys.KeyPair) -> None:
    """What the plan asks for is certified, and says nothing of the places that the image is meant for."""
    chosen = plan.certification.model_copy(update={"policies": ("dotnet-host",)})
    plan = plan.model_copy(update={"certification": chosen})
    built.plan.write_text(plan.to_json())
    built.certificate.write_text(certify(built.image, plan, pair))


def old_policy(built: Artefacts, plan: Plan, pair: keys.KeyPair) -> None:
    old = tuple(item.model_construct(**{**dict(item), "version": 0}) for item in policies(plan))
    built.certificate.write_text(certify(built.image, plan, pair, by=old))


def odd_name(built: Artefacts, plan: Plan, pair: keys.KeyPair) -> None:
    built.plan.write_text(plan.model_copy(update={"recipe": "Sample_9"}).to_json())


def paid_for_all(built: Artefacts, plan: Plan, pair: keys.KeyPair) -> None:
    built.plan.write_text(plan.model_copy(update={"licence": "byos", "visibility": "community"}).to_json())


def poke_truncate(path: Path, by: int) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + by)


DAMAGES: dict[str, tuple[str, Callable[[Artefacts, Plan, keys.KeyPair], object]]] = {
    "no image": ("there is no image", lambda b, p, k: b.image.unlink()),
    "no certificate": ("there is no certificate", lambda b, p, k: b.certificate.unlink()),
    "xz": ("compressed with xz", lambda b, p, k: poke(b.image, 0, b"\xfd7zXZ\0")),
    "gzip": ("compressed with gzip", lambda b, p, k: pack(b.image)),
    "qcow2": ("a qcow2 disk", lambda b, p, k: convert(b.image, "qcow2")),
    "VHDX": ("a VHDX disk", lambda b, p, k: convert(b.image, "vhdx")),
    "dynamic VHD": ("a dynamic VHD", lambda b, p, k: convert(b.image, "vpc")),
    "raw disk": ("not a VHD", lambda b, p, k: convert(b.image, "raw")),
    "a sector missing": ("not a VHD", lambda b, p, k: without_a_sector(b.image)),
    "too small": ("has 16 MiB", lambda b, p, k: resize(b.image, 16 * MIB)),
    "too large for generation 1": ("boots from at most 2,048 GiB", lambda b, p, k: resize(b.image, 3 << 40)),
    "too large for generation 2": ("generation 2 machine boots from at most 4,095 GiB", large_generation_2),
    "no partition table": ("partition table is not whole", lambda b, p, k: poke(b.image, 512, bytes(512))),
    "no backup table": (
        "partition table is not whole",
        lambda b, p, k: poke(b.image, -1024, bytes(512)),
    ),
    "grown after partitioning": (
        "backup partition table is at sector",
        lambda b, p, k: resize(b.image, 32 * MIB, table=False),
    ),
    "another policy": (
        "doesn't speak for the policy",
        lambda b, p, k: b.certificate.write_text(certify(b.image, p, k, by=policies(p)[1:])),
    ),
    "no policy of Azure's": ("doesn't speak for the policy hyperv-on-premises", judged_by_dotnet_alone),
    "older policy": ("doesn't speak for the policy", old_policy),
    "a name that no consumer shows whole": ("can't be the name of a blob", odd_name),
    "paid content for everybody": ("must not be published with visibility 'community'", paid_for_all),
    "truncated image": ("not a VHD", lambda b, p, k: poke_truncate(b.image, -4096)),
    "footer cut off": ("not a VHD", lambda b, p, k: poke_truncate(b.image, -512)),
    "footer edited": ("not a VHD", lambda b, p, k: poke(b.image, -512 + 60, b"\0\0\0\3")),
    "one byte edited": ("for another image", lambda b, p, k: poke(b.image, 3 << 20, b"x")),
    # Nobody hashes a terabyte in the time that a test gets: it is refused before.
    "another disk, of a TiB": ("for another image", lambda b, p, k: resize(b.image, 1 << 40)),
    "edited certificate": (
        "signature of the certificate is wrong",
        lambda b, p, k: b.certificate.write_text(swap(b.certificate.read_text(), '"pass":1', '"pass":2')),
    ),
    "extended certificate": (
        "signature of the certificate is wrong",
        lambda b, p, k: b.certificate.write_text(swap(b.certificate.read_text(), "2027-", "2037-")),
    ),
    "cut certificate": (
        "is no certificate",
        lambda b, p, k: b.certificate.write_text(b.certificate.read_text()[:300]),
    ),
    "certificate of another image": ("for another image", other_certificate),
    "certificate of another recipe": ("another recipe", lambda b, p, k: resign(b, p, k, recipe="rhel-9")),
    "certificate of another version": (
        "another version",
        lambda b, p, k: resign(b, p, k, version="9.20261121.0"),
    ),
    "plan edited": (
        "another plan",
        lambda b, p, k: b.plan.write_text(p.model_copy(update={"visibility": "tenant"}).to_json()),
    ),
}
