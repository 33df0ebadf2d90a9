"""The evidence log: every command, file read and result behind a verdict.

One JSON object a line, written as things happen, so that a crash loses nothing that was seen. Secrets are
redacted and outputs bounded before they reach the file; the digest and the length of the whole output stay.
What a line can't hold (long, binary or redacted) is kept in a directory beside it, named by its SHA-256, with
secrets masked: `certification.recording` reads both, so that a look can be taken again without the image.
The last line of a look is its seal: what was looked at, and the digest of all its lines.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from builder.run import redact
from builder.workspace import digest_file

__all__ = ["KEPT", "LIMIT", "SESSION", "EvidenceLog", "bounded", "masked", "printable", "scrub"]

LIMIT = 16 * 1024
SESSION = "(session)"
#: The directory beside evidence.jsonl with what its lines can't hold.
KEPT = "recorded"

_SECRETS = (
    # Private keys of every armour, whole or cut off. A NUL ends one: programs that know the armour have some.
    re.compile(
        r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)([^\0]*?)"
        r"(-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|(?=\0)|\Z)"
    ),
    # Password hashes of crypt(5): $id$...; the algorithm stays readable.
    re.compile(r"(?<=:)(!*\$[0-9a-z]+\$)[^:\s]{8,}"),
    # Shared access signatures and account keys of storage URLs.
    re.compile(r"(?<=[?&]sig=)[^&\s\"']+|(?<=AccountKey=)[^;\s\"']+"),
)

# Python's stand-ins for bytes that are no UTF-8 (PEP 383), and halves of UTF-16 pairs.
_SURROGATES = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` with what is no character spelled out: a byte of a file name that is no UTF-8 as ``\\xff``."""
    return _SURROGATES.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def scrub(text: str) -> str:
    """``text`` without registered secrets, private keys, password hashes and storage keys, ``printable``."""
    text = redact(printable(text))
    text = _SECRETS[0].sub("*** private key ***", text)
    text = _SECRETS[1].sub(r"\1***", text)
    return _SECRETS[2].sub("***", text)


def masked(text: str) -> str:
    """``text`` with every character of its secrets replaced, and their shape kept.

    A test that looks for secrets finds the same ones in it, as many and in the same places.
    """

    def hide(match: re.Match[str]) -> str:
        return match[1] + re.sub(r"[A-Za-z0-9+/]", "x", match[2]) + match[3]

    text = redact(text)
    text = _SECRETS[0].sub(hide, text)
    text = _SECRETS[1].sub(lambda match: match[1] + "x" * (len(match[0]) - len(match[1])), text)
    return _SECRETS[2].sub(lambda match: "x" * len(match[0]), text)


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
        self._store = path.parent / KEPT
        self._reads: dict[str, dict[str, Any]] = {}
        self._copies: dict[str, dict[str, Any]] = {}
        self._made: dict[str, bytes] = {}
        self._digest = hashlib.sha256()
        self._lines = 0

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
            **self._command(command),
            status=status,
            stdout=self._text(stdout, LIMIT),
            stderr=self._text(stderr, LIMIT // 4),
            seconds=round(seconds, 3),
        )

    def failure(self, command: str, *, what: str, seconds: float) -> None:
        """A command got no answer: it hung, printed too much, or the connection broke."""
        self._write("command", **self._command(command), failed=scrub(what), seconds=round(seconds, 3))

    def read(self, path: str, data: bytes | None) -> None:
        """A file was read; ``None``: there is no such file. Binary content is recorded by digest."""
        if path not in self._reads:
            fields: dict[str, Any] = {"path": path, "exists": data is not None}
            if data is not None:
                fields |= {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                text = data.decode(errors="replace")
                shown = bounded(text)["text"] if b"\0" not in data[:4096] else None
                if shown is not None:
                    fields["content"] = shown
                if shown is None or shown.encode(errors="surrogatepass") != data:
                    fields["kept"] = self._keep(_masked_bytes(data))
            self._reads[path] = fields
        self._write("read", **self._reads[path])

    def fact(self, name: str, value: object) -> None:
        """Something derived from bytes, such as a footer field or a partition table."""
        self._write("fact", name=name, value=bounded(str(value))["text"])

    def fetched(self, path: str, source: Path | None) -> None:
        """A file was copied out of the guest; it is kept whole."""
        if path not in self._copies:
            fields: dict[str, Any] = {"path": path, "exists": source is not None}
            if source is not None:
                fields |= {"length": source.stat().st_size, "kept": self._keep_file(source)}
            self._copies[path] = fields
        self._write("fetched", **self._copies[path])

    def whole(self, kind: str, data: bytes, *, summary: str) -> None:
        """One thing that the view gathers once: ``inventory`` or ``image`` (the bytes that were read)."""
        self._write(kind, summary=summary, kept=self._keep(gzip.compress(data, 6, mtime=0)))

    def directory(self, kind: str, files: Mapping[str, Path]) -> None:
        """A small directory of files that was copied out of the guest, such as its package database."""
        self._write(kind, files={name: self._keep_file(path) for name, path in sorted(files.items())})

    def made(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What this machine makes for a test and can't make twice alike (a nonce, a compiled program)."""
        if name not in self._made:
            self._made[name] = make()
            data = self._made[name]
            fields = (
                {"base64": base64.b64encode(data).decode()} if len(data) < 256 else {"kept": self._keep(data)}
            )
            self._write("made", name=name, **fields)
        return self._made[name]

    def seal(self, record: Mapping[str, Any]) -> None:
        """The look came to its end; ``record`` is its ``run.json``."""
        self._write("seal", run=dict(record), lines=self._lines, digest=self._digest.hexdigest())

    def close(self) -> None:
        """Close the file; nothing can be recorded afterwards."""
        self._stream.close()

    @staticmethod
    def _command(command: str) -> dict[str, Any]:
        shown = scrub(command)[:LIMIT]
        if shown == command:
            return {"command": command}
        return {"command": shown, "command_sha256": hashlib.sha256(command.encode()).hexdigest()}

    def _text(self, text: str, limit: int) -> dict[str, Any]:
        fields = bounded(text, limit)
        if fields["text"] != text:
            fields["kept"] = self._keep(masked(text).encode(errors="surrogateescape"))
        return fields

    def _keep(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        target = self._place(name)
        if not target.exists():
            target.write_bytes(data)
        return name

    def _keep_file(self, source: Path) -> str:
        name = digest_file(source)
        target = self._place(name)
        if not target.exists():
            shutil.copyfile(source, target)
        return name

    def _place(self, name: str) -> Path:
        self._store.mkdir(exist_ok=True)
        return self._store / name

    def _write(self, kind: str, **fields: Any) -> None:
        record = {
            "time": round(time.time(), 3),
            "requirement": self.requirement,
            "view": self._view,
            **({"variant": self._variant} if self._variant else {}),
            "kind": kind,
            **fields,
        }
        line = json.dumps(record, ensure_ascii=False, sort_keys=False) + "\n"
        if _SURROGATES.search(line):
            line = json.dumps(record) + "\n"
        self._digest.update(line.encode())
        self._lines += 1
        self._stream.write(line)
        self._stream.flush()


def _masked_bytes(data: bytes) -> bytes:
    return masked(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")
