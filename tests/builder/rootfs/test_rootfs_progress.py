"""Progress comes out of the log while it is written."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from builder import log
from builder.rootfs.progress import follow

STAMP = "2026-11-22 16:10:02.784 | "


def test_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(log, "info", said.append)
    monkeypatch.setattr(log, "progress", lambda what, done, total: said.append((what, done, total)))
    path, stop = tmp_path / "rootfs.log", threading.Event()
    path.write_text(f"{STAMP}+ echo 'hallmark-step: one'\n{STAMP}hallmark-step: one\n{STAMP}  Instal")
    thread = threading.Thread(target=follow, args=(path, stop))
    thread.start()
    with path.open("a") as stream:
        stream.write("ling       : zlib-1-2.x86_64            3/7 \nnothing\n")
    stop.set()
    thread.join(5)
    assert said == ["one", ("installing packages", 3, 7)]


def test_scriptlets(tmp_path: Path) -> None:
    from builder.rootfs.explain import scriptlet_failures

    text = (
        f"{STAMP}  Running scriptlet: x\n"
        f"{STAMP}warning: %post(x-1-1.noarch) scriptlet failed, exit status 127\n"
        f"{STAMP}warning: %post(x-1-1.noarch) scriptlet failed, exit status 127\n"
    )
    assert scriptlet_failures(text) == ["warning: %post(x-1-1.noarch) scriptlet failed, exit status 127"]
