"""The SELinux policy as Enterprise Linux ships it: type ``targeted``, compiled, with its module store.

Debian's policy compiles in the package's installation, 20 s a time. Here that happens once, in a scratch
root made of the Debian packages of the tools, and the result is packaged. A small CIL module of ours
(policy.cil) mends what Debian's policy does not know of Enterprise Linux's layout.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from builder.errors import HallmarkError
from builder.run import run
from builder.sampledistro import deb
from builder.sampledistro.convert import handmade
from builder.sampledistro.definition import Definition
from builder.sampledistro.paths import merge_usr
from builder.sampledistro.rpm import Entry, write
from builder.workspace import atomic_directory, digest_file, digest_json

__all__ = ["PACKAGE", "digest", "package"]

PACKAGE = "selinux-policy-targeted"
_POLICY = "selinux-policy-default"
_CIL = "policy.cil"
_STORE = "/var/lib/selinux"
_CONFIG = "/etc/selinux"
# The tools and what they link to; nothing in them runs but semodule and its compilers.
_TOOLS = (
    "libaudit1",
    "libbz2-1.0",
    "libc6",
    "libcap-ng0",
    "libpcre2-8-0",
    "libselinux1",
    "libsemanage-common",
    "libsemanage2",
    "libsepol2",
    "policycoreutils",
    "selinux-utils",
)
_ALIASES = "contexts/files/file_contexts.subs_dist"
# As in Enterprise Linux's policy: where an ostree system keeps what is elsewhere on others.
_OSTREE_ALIASES = (
    "/sysroot/tmp /tmp",
    "/var/home /home",
    "/var/mnt /mnt",
    "/var/opt /opt",
    "/var/roothome /root",
    "/var/srv /srv",
    "/var/usrlocal /usr/local",
)
# As Debian's own postinst: modules for software that a system usually hasn't.
_DISABLED = (
    *("amtu", "bugzilla", "cobbler", "condor", "cyphesis", "git", "ksmtuned", "likewise", "livecd", "nessus"),
    *("numad", "oddjob", "openca", "soundserver", "thunderbird", "updfstab", "usernetctl"),
)


def digest(definition: Definition) -> str:
    """Of the data that bears on the policy."""
    return digest_json([(definition.root / _CIL).read_text(), digest_file(Path(__file__))])


def package(*, root: Path, debs: dict[str, Path], definition: Definition) -> tuple[Path, str]:
    """The policy's RPM, from the cache if its inputs are the same; and a word on which it was.

    :param debs: Debian package files by package name.
    :raises HallmarkError: the policy doesn't compile.
    """
    missing = [name for name in (_POLICY, *_TOOLS) if name not in debs]
    if missing:
        raise HallmarkError(
            f"the policy needs the Debian packages {', '.join(missing)}", hint="add them to debs.yaml"
        )
    inputs = [digest_file(debs[name]) for name in (_POLICY, *_TOOLS)]
    data = [digest(definition), definition.package_digest(PACKAGE), definition.common_digest()]
    store_key, key = digest_json([inputs, digest(definition)])[:32], digest_json([inputs, data])[:32]
    target = root / "policy" / key
    note = "up to date"
    if not target.is_dir():
        store = root / "policy" / f"store-{store_key}"
        if not store.is_dir():
            note = "compiled"
            _compile(store, debs, definition)
        with atomic_directory(target) as temporary:
            extra = _content(store)
            spec = handmade(definition.handmade[PACKAGE], name=PACKAGE, definition=definition, extra=extra)
            write(
                spec,
                temporary / spec.filename,
                secret_key=definition.secret_key,
                source_date=definition.identity.source_date,
            )
    return next(target.glob("*.rpm")), note


def _compile(store: Path, debs: dict[str, Path], definition: Definition) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".policy.", dir=store.parent) as scratch:
        root = Path(scratch)
        for directory in ("bin", "sbin", "lib", "lib64"):
            (root / "usr" / directory).mkdir(parents=True, exist_ok=True)
            (root / directory).symlink_to(f"usr/{directory}")
        for name in (_POLICY, *_TOOLS):
            _extract(debs[name], root)
        (root / "usr/share/selinux/default").rename(root / "usr/share/selinux/targeted")
        (root / "etc/selinux/default").rename(root / "etc/selinux/targeted")
        with (root / "etc/selinux/targeted" / _ALIASES).open("a") as stream:
            stream.write("\n".join(_OSTREE_ALIASES) + "\n")
        (root / "etc/selinux/config").write_text("SELINUX=enforcing\nSELINUXTYPE=targeted\n")
        (root / "var/lib/selinux").mkdir(parents=True, exist_ok=True)
        (root / "tmp").mkdir(exist_ok=True)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
        (root / "etc/group").write_text("root:x:0:\n")
        shutil.copyfile(definition.root / _CIL, root / "tmp/hallmark-sample.cil")
        modules = (root / "usr/share/selinux/targeted/.modules").read_text().split()
        arguments = ["semodule", "-n", "-s", "targeted", "-X", "100"]
        arguments += [f"-i/usr/share/selinux/targeted/{name}.pp.bz2" for name in modules]
        arguments += [f"-d{name}" for name in _DISABLED if name in modules]
        arguments += ["-X", "200", "-i/tmp/hallmark-sample.cil"]
        chroot = (
            ["chroot", str(root)]
            if os.geteuid() == 0
            else ["unshare", "--map-root-user", "chroot", str(root)]
        )
        run([*chroot, *arguments], env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"}, timeout=600)
        with atomic_directory(store) as temporary:
            for part in (f"{_CONFIG}/targeted", f"{_STORE}/targeted"):
                shutil.copytree(root / part.lstrip("/"), temporary / part.lstrip("/"), symlinks=True)


def _extract(path: Path, root: Path) -> None:
    for member in deb.read(path).members():
        target = root / merge_usr(member.path).lstrip("/")
        if member.kind == "directory":
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "file":
            target.write_bytes(member.content)
            target.chmod(member.mode & 0o777)
        elif member.kind == "link" and not target.is_symlink():
            target.symlink_to(member.target)


def _content(store: Path) -> dict[str, Entry]:
    result: dict[str, Entry] = {}
    for path in sorted(store.rglob("*")):
        name = "/" + path.relative_to(store).as_posix()
        if name.endswith((".LOCK", ".lock")):
            continue
        if path.is_dir():
            result[name] = Entry(name, "directory", mode=0o700 if name.startswith(_STORE + "/") else 0o755)
        elif path.is_file():
            local = (
                name.startswith("/etc/")
                and "/policy/" not in name
                and "/contexts/files/file_contexts" not in name
            )
            mode = 0o600 if name.startswith(_STORE) else 0o644
            result[name] = Entry(name, "file", mode=mode, content=path.read_bytes(), config=local)
    return result
