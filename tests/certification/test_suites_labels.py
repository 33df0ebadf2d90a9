"""Labels, owners and modes on a whole: what an ostree host may differ in, and what not even there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from judged_tree import TESTS

from certification.checks import Checks
from certification.views.guest import Guest
from certification.views.inventory import Entry, Inventory

_CONTEXTS = "/etc/selinux/targeted/contexts/files/file_contexts"
_FILES = {
    "/etc/selinux/config": "SELINUXTYPE=targeted\n",
    "/etc/fstab": "UUID=1 /boot/efi vfat defaults 0 0\n",
    # A policy has hundreds of rules; these count.
    _CONTEXTS: "/.* system_u:object_r:default_t:s0\n/usr(/.*)? system_u:object_r:usr_t:s0\n"
    "/etc(/.*)? system_u:object_r:etc_t:s0\n/etc/shadow -- system_u:object_r:shadow_t:s0\n"
    + "".join(f"/usr/other-{n} -- system_u:object_r:usr_t:s0\n" for n in range(100)),
}
_DISK, _COVER = 1, 2


def _entry(path: str, label: str | None, *, kind: str = "f", **more: Any) -> Entry:
    context = f"system_u:object_r:{label}:s0" if label else None
    mode = more.pop("mode", 0o755 if kind == "d" else 0o644)
    fields = {"uid": 0, "gid": 0, "size": 1, "mtime": 0.0, "device": _DISK, **more}
    return Entry(path=path, type=kind, mode=mode, label=context, **fields)  # type: ignore[arg-type]


_PLAIN = {
    entry.path: entry
    for entry in (
        _entry("/usr", "usr_t", kind="d"),
        _entry("/usr/bin", "usr_t", kind="d"),
        _entry("/etc", "etc_t", kind="d"),
        *(_entry(f"/usr/bin/{n}", "usr_t") for n in range(1000)),
        *(_entry(path, "etc_t") for path in _FILES),
        _entry("/etc/shadow", "shadow_t"),
        _entry("/etc/polkit-1", "etc_t", kind="d", uid=998),
    )
}
_OSTREE = _PLAIN | {
    entry.path: entry
    for entry in (
        _entry("/ostree", "default_t", kind="l", link="sysroot/ostree"),
        _entry("/sysroot", "default_t", kind="d"),
        _entry("/sysroot/ostree", "usr_t", kind="d"),
        _entry("/sysroot/ostree/repo", "usr_t", kind="d"),
        _entry("/sysroot/ostree/repo/objects", None, kind="d", device=_COVER),
        _entry("/usr/etc", "etc_t", kind="d"),
        _entry("/usr/etc/shadow", "shadow_t"),
        _entry("/usr/etc/polkit-1", "etc_t", kind="d", uid=998),
    )
}


def _judge(identifier: str, files: Mapping[str, Entry], *changes: Entry) -> Checks:
    inventory = Inventory({**files, **{entry.path: entry for entry in changes}})

    def read(path: str) -> bytes | None:
        return _FILES[path].encode() if path in _FILES else None

    access = SimpleNamespace(inventory=lambda: inventory, read_bytes=read, glob=inventory.glob)
    check = Checks()
    TESTS[identifier](guest=Guest(SimpleNamespace(backend=access), booted=False), check=check)
    return check


@pytest.mark.parametrize("identifier", ["security.selinux-labels", "security.system-dir-perms"])
@pytest.mark.parametrize("files", [_PLAIN, _OSTREE], ids=["plain", "ostree"])
def test_a_good_system_passes(identifier: str, files: Mapping[str, Entry]) -> None:
    check = _judge(identifier, files)
    assert check.made and not check.failed, [(i.what, i.observed) for i in check.failed]


@pytest.mark.parametrize(
    ("files", "broken"),
    [
        (_PLAIN, _entry("/etc/shadow", "etc_t")),
        (_PLAIN, _entry("/usr/bin/bare", None)),
        # Nothing is left out of a system that isn't an ostree host.
        (_PLAIN, _entry("/usr/etc/shadow", "shadow_t")),
        (_PLAIN, _entry("/sysroot/ostree/repo", "usr_t", kind="d")),
        (_PLAIN, _entry("/sysroot/cover", None, kind="d", device=_COVER)),
        (_OSTREE, _entry("/usr/etc/shadow", "etc_t")),
        (_OSTREE, _entry("/usr/etc/shadow", "usr_t")),
        (_OSTREE, _entry("/sysroot/ostree/repo", None, kind="d")),
        (_OSTREE, _entry("/sysroot/ostree/repo", "unlabeled_t", kind="d")),
        (_OSTREE, _entry("/usr/bin/bare", None, device=_COVER)),
    ],
)
def test_a_wrong_label_turns_it_red(files: Mapping[str, Entry], broken: Entry) -> None:
    assert _judge("security.selinux-labels", files, broken).failed


@pytest.mark.parametrize(
    ("files", "changes"),
    [
        (_PLAIN, [_entry("/usr/bin/1", "usr_t", uid=998)]),
        (_PLAIN, [_entry("/usr/etc", "etc_t", kind="d"), _entry("/usr/etc/polkit-1", "etc_t", uid=998)]),
        # The default has another owner than the file in /etc, or there is none.
        (_OSTREE, [_entry("/usr/etc/polkit-1", "etc_t", kind="d", uid=997)]),
        (_OSTREE, [_entry("/usr/etc/mine", "etc_t", uid=998)]),
        (_OSTREE, [replace(_OSTREE["/usr/etc/shadow"], mode=0o666)]),
    ],
)
def test_a_wrong_owner_or_mode_turns_it_red(files: Mapping[str, Entry], changes: list[Entry]) -> None:
    assert _judge("security.system-dir-perms", files, *changes).failed
