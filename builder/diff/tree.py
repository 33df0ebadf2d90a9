"""What is in an image, read from its rootfs.tar: files, services, users, the kernel's arguments."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from pathlib import Path
from typing import IO

from builder.diff.model import Section
from builder.diff.plans import arguments
from builder.errors import HallmarkError

__all__ = ["read"]

_LABEL = "SCHILY.xattr.security.selinux"
_UNITS = "/etc/systemd/system/"
_TEXTS = ("/etc/passwd", "/etc/shadow", "/etc/group")
_READ = 1 << 20
_KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "fifo",
}


def read(tar: Path) -> dict[str, Section]:
    """The sections files, services, users, groups and kernel arguments. Takes some seconds a gigabyte.

    :raises HallmarkError: the file is no tar, or damaged.
    """
    files: dict[str, str] = {}
    services: dict[str, str] = {}
    texts: dict[str, str] = {}
    options: list[str] = []
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                path = posixpath.normpath("/" + member.name)
                content = archive.extractfile(member) if member.isreg() else None
                keep = path in _TEXTS or _is_entry(path)
                digest, text = _consume(content, keep=keep) if content else ("", "")
                files[path] = _describe(member, digest)
                if _is_entry(path):
                    options += _options(text)
                elif keep:
                    texts[path] = text
                if member.issym() and path.startswith(_UNITS):
                    services |= _service(path.removeprefix(_UNITS), member.linkname)
    except (OSError, tarfile.TarError) as error:
        raise HallmarkError(f"cannot read the root filesystem: {error}", where=tar) from None
    return {
        "files": files,
        "services": services,
        "users": _users(texts.get("/etc/passwd", ""), texts.get("/etc/shadow", "")),
        "groups": _groups(texts.get("/etc/group", "")),
        "kernel arguments": arguments(options),
    }


def _describe(member: tarfile.TarInfo, digest: str) -> str:
    """Everything but times: those say when a version was built."""
    words = [f"mode={member.mode:04o}", f"owner={member.uid}:{member.gid}"]
    if member.issym() or member.islnk():
        words.insert(0, f"{'link' if member.issym() else 'hardlink'}={member.linkname}")
    elif member.isreg():
        words += [f"size={member.size}", f"sha256={digest}"]
    else:
        words.insert(0, _KINDS.get(member.type, "special"))
    if label := member.pax_headers.get(_LABEL):
        words.append(f"label={label.rstrip(chr(0))}")
    return " ".join(words)


def _consume(stream: IO[bytes], *, keep: bool) -> tuple[str, str]:
    digest = hashlib.sha256()
    kept = b""
    while data := stream.read(_READ):
        digest.update(data)
        kept += data if keep else b""
    return digest.hexdigest(), kept.decode("utf-8", "replace")


def _is_entry(path: str) -> bool:
    """A boot loader entry (Boot Loader Specification)."""
    return path.startswith("/boot/loader/entries/") and path.endswith(".conf")


def _options(entry: str) -> list[str]:
    lines = (line.split() for line in entry.splitlines())
    return [word for words in lines if words and words[0] == "options" for word in words[1:]]


def _service(path: str, target: str) -> dict[str, str]:
    """What a link below /etc/systemd/system means for a unit (systemctl(1))."""
    directory, _, name = path.rpartition("/")
    if target == "/dev/null":
        return {name: "masked"}
    if directory.endswith((".wants", ".requires")):
        return {f"{name} for {directory.rpartition('.')[0]}": "enabled"}
    return {name: f"link to {posixpath.basename(target)}"} if not directory else {}


def _users(passwd: str, shadow: str) -> Section:
    """Accounts with all but their password: of that, only whether there is one."""
    passwords = {}
    for line in shadow.splitlines():
        name, _, rest = line.partition(":")
        field = rest.partition(":")[0]
        passwords[name] = "locked" if field.startswith(("!", "*")) else "set" if field else "empty"
    users = {}
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) == 7:
            name, _, uid, gid, _, home, shell = fields
            password = passwords.get(name, "none")
            users[name] = f"uid={uid} gid={gid} home={home} shell={shell} password={password}"
    return users


def _groups(text: str) -> Section:
    rows = (line.split(":") for line in text.splitlines())
    return {row[0]: f"gid={row[2]} members={row[3]}" for row in rows if len(row) == 4}
