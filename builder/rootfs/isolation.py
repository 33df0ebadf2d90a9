"""Programs that build run apart from the host: in namespaces of their own, with an environment of their own.

When Hallmark dies, ``kill -9`` included, the kernel ends every process and mount of theirs. Client
certificates are in a filesystem in memory that only they see.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.rootfs.compile import tls_files
from builder.rootfs.repositories import TrustedRepository
from builder.secrets import resolve_tls

__all__ = ["SHIMS", "credentials", "isolated", "proxies"]

#: Programs of ours that stand before those of the host.
SHIMS = Path(__file__).resolve().parent / "shims"


def isolated(environment: Mapping[str, str], *, secrets: Path) -> tuple[str, ...]:
    """The words to put before a command that must run apart.

    :param environment: all that the command gets: the same under any user's environment.
    :param secrets: an empty directory; for the command it holds the files of ``credentials``, which must be
        its standard input.
    """
    return (
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *(str(SHIMS / "with-secrets"), str(secrets)),
        *("env", "-i", *(f"{key}={value}" for key, value in environment.items())),
    )


def proxies() -> dict[str, str]:
    """The environment's settings for proxies: what every program that fetches needs."""
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.lower() in names}


def credentials(trusted: Sequence[TrustedRepository]) -> bytes:
    """A tar of the TLS files of all repositories; this is the moment at which their secrets are read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for repository in trusted:
            files = resolve_tls(repository.tls, f"repository {repository.id!r}")
            texts = {
                "sslclientcert": files.certificate,
                "sslclientkey": files.key,
                "sslcacert": files.authority,
            }
            for option, name in tls_files(repository):
                data = (texts[option] or "").encode()
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o600
                archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
