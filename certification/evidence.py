"""The evidence log: every command, file read and result behind a verdict.

One JSON object a line, written as things happen, so that a crash loses nothing that was seen. Secrets are
redacted and outputs bounded before they reach the file; the digest and the length of the whole output stay.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from builder.run import redact

__all__ = ["LIMIT", "SESSION", "EvidenceLog", "bounded", "scrub"]

LIMIT = 16 * 1024
SESSION = "(session)"

_SECRETS = (
    # Private keys of every armour, whole or cut off.
    re.compile(
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|\Z)",
        re.S,
    ),
    # Password hashes of crypt(5): $id$...; the algorithm stays readable.
    re.compile(r"(?<=:)(!*\$[0-9a-z]+\$)[^:\s]{8,}"),
    # Shared access signatures and account keys of storage URLs.
    re.compile(r"(?<=[?&]sig=)[^&\s\"']+|(?<=AccountKey=)[^;\s\"']+"),
)


def scrub(text: str) -> str:
    """``text`` without registered secrets, private keys, password hashes and storage keys."""
    text = redact(text)
    text = _SECRETS[0].sub("*** private key ***", text)
    text = _SECRETS[1].sub(r"\1***", text)
    return _SECRETS[2].sub("***", text)


def bounded(text: str, limit: int = LIMIT) -> dict[str, Any]:
    """``text`` scrubbed and cut to ``limit`` characters (head and tail), with what was left out."""
    clean = scrub(text)
    if len(clean) <= limit:
        return {"text": clean}
    half = limit // 2
    return {
        "text": f"{clean[:half]}\n[… {len(clean) - 2 * half} characters left out …]\n{clean[-half:]}",
        "length": len(text),
        "sha256": hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest(),
    }


class EvidenceLog:
    """Writes ``evidence.jsonl``. ``requirement`` is the one that is being looked at."""

    def __init__(self, path: Path, *, view: str, variant: str | None = None) -> None:
        self._view = view
        self._variant = variant
        self.requirement = SESSION
        self._stream: IO[str] = path.open("a", encoding="utf-8")

    def __enter__(self) -> EvidenceLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def about(self, requirement: str) -> Iterator[None]:
        """Everything recorded inside belongs to ``requirement``."""
        before, self.requirement = self.requirement, requirement
        try:
            yield
        finally:
            self.requirement = before

    def command(self, command: str, *, status: int, stdout: str, stderr: str, seconds: float) -> None:
        """A command ran in the guest (or its disk) and ended with ``status``."""
        self._write(
            "command",
            command=scrub(command)[:LIMIT],
            status=status,
            stdout=bounded(stdout),
            stderr=bounded(stderr, LIMIT // 4),
            seconds=round(seconds, 3),
        )

    def read(self, path: str, data: bytes | None) -> None:
        """A file was read; ``None``: there is no such file. Binary content is recorded by digest only."""
        fields: dict[str, Any] = {"path": path, "exists": data is not None}
        if data is not None:
            fields |= {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            if b"\0" not in data[:4096]:
                fields["content"] = bounded(data.decode(errors="replace"))["text"]
        self._write("read", **fields)

    def fact(self, name: str, value: object) -> None:
        """Something derived from bytes, such as a footer field or a partition table."""
        self._write("fact", name=name, value=bounded(str(value))["text"])

    def close(self) -> None:
        """Close the file; nothing can be recorded afterwards."""
        self._stream.close()

    def _write(self, kind: str, **fields: Any) -> None:
        record = {
            "time": round(time.time(), 3),
            "requirement": self.requirement,
            "view": self._view,
            **({"variant": self._variant} if self._variant else {}),
            "kind": kind,
            **fields,
        }
        self._stream.write(json.dumps(record, ensure_ascii=False, sort_keys=False) + "\n")
        self._stream.flush()
