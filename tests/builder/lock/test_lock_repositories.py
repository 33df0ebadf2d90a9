"""Real dnf against a repository that changes underneath."""

from __future__ import annotations

import fcntl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.errors import HallmarkError
from builder.lock.command import lock_command
from builder.pipeline import Pipeline
from builder.recipe.lock import load_lock, lock_path
from builder.workspace import Workspace, digest_file
from tests.small_repository import KEY_ID, LOADER, SmallRepository, write_recipe

pytestmark = pytest.mark.system


class Line:
    """A recipe, its repository and what Hallmark does with them."""

    def __init__(self, root: Path) -> None:
        self.repository = SmallRepository(root / "repository")
        self.repository.add("libtool", "1.0")
        self.repository.add("helper", "1.0", epoch=1)
        self.tool = self.repository.add("tool", "1.0", requires=("libtool", "helper"))
        self.repository.add("app", "1.0")
        self.images = root / "images"
        self.recipe = write_recipe(self.images, self.repository, "app", "tool")
        self.space = Workspace.default(build=root / "build", cache=root / "cache")
        self.path = lock_path(self.images, "small-9")

    def lock(self, *update: str, everything: bool = False, check: bool = False) -> int:
        return lock_command(
            self.space,
            str(self.recipe),
            update=update if update or everything else None,
            check=check,
        )

    def ask(self, *packages: str) -> None:
        write_recipe(self.images, self.repository, *packages)

    def newer(self) -> None:
        """Newer packages appear, the old ones stay; the new tool needs the new library and no helper."""
        self.repository.add("libtool", "2.0")
        self.repository.add("app", "2.0")
        self.repository.add("tool", "2.0", requires=("libtool >= 2",))
        time.sleep(1.1)  # dnf counts the age of its metadata in whole seconds

    @property
    def locked(self) -> set[str]:
        packages = load_lock(self.path).packages
        return {f"{item.name}-{item.version}" for item in packages if item.name != LOADER}

    def build(self) -> HallmarkError:
        """A build; it can't end well, for there is not even a shell among the packages."""
        with pytest.raises(HallmarkError) as caught:
            Pipeline(self.space, str(self.recipe)).build()
        return caught.value

    def installed(self) -> set[str]:
        (log,) = self.space.build.glob("small-9/*/log/rootfs.log")
        words = [line.partition("Installing       : ")[2].split() for line in log.read_text().splitlines()]
        names = {word[0].replace("-1:", "-") for word in words if word}
        return {name for name in names if not name.startswith(LOADER)}


OLD = {"app-1.0", "tool-1.0", "libtool-1.0", "helper-1.0"}


@pytest.fixture
def line(tmp_path: Path) -> Line:
    line = Line(tmp_path)
    assert line.lock() == 0
    return line


def test_a_lock_names_every_package_exactly(line: Line) -> None:
    packages = {item.name: item for item in load_lock(line.path).packages}
    assert line.locked == OLD
    assert packages["helper"].nevra == "helper-1:1.0-1.noarch"
    assert packages["tool"].sha256 == digest_file(line.tool)
    assert {(item.repository, item.key) for item in packages.values()} == {("small", KEY_ID)}
    assert line.lock(check=True) == 0
    before = line.path.read_bytes()
    assert line.lock() == line.lock(everything=True) == 0
    assert line.path.read_bytes() == before
    assert list(line.space.work.glob("*-lock")) == []


def test_only_what_is_named_and_what_it_pulls_is_updated(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.newer()
    assert line.lock(check=True) == 1
    rows = [" ".join(row.split()) for row in capsys.readouterr().err.splitlines()]
    assert rows[rows.index("what package locked now") + 1 : -1] == [
        "changed app.noarch 1.0-1 2.0-1",
        "removed helper.noarch 1:1.0-1 –",
        "changed libtool.noarch 1.0-1 2.0-1",
        "changed tool.noarch 1.0-1 2.0-1",
    ]
    assert line.locked == OLD
    assert line.lock("tool") == 0
    assert line.locked == {"app-1.0", "tool-2.0", "libtool-2.0"}
    assert line.lock(everything=True) == 0
    assert line.locked == {"app-2.0", "tool-2.0", "libtool-2.0"}
    with pytest.raises(HallmarkError, match="has no package 'ap'") as caught:
        line.lock("ap")
    assert caught.value.hint and "app" in caught.value.hint


def test_a_locked_build_installs_the_lock_and_not_the_newest(line: Line) -> None:
    line.newer()
    package_cache = line.space.cache / "dnf/hallmark.lock"
    package_cache.unlink()
    assert "lock" not in line.build().what
    assert package_cache.exists(), "a build's dnf must have the package cache to itself, too"
    assert line.installed() == {f"{name}-1.noarch" for name in OLD}


def test_a_new_package_in_the_recipe_moves_nothing_else(line: Line) -> None:
    line.newer()
    line.repository.add("extra", "1.0", requires=("helper",))
    line.ask("app", "tool", "extra")
    assert "is stale" in line.build().what
    with pytest.raises(HallmarkError, match="is stale"):
        line.lock(check=True)
    assert line.lock() == 0
    assert line.locked == {*OLD, "extra-1.0"}
    line.ask("app")
    assert line.lock() == 0
    assert line.locked == {"app-1.0"}


def test_a_repository_that_changed_underneath_stops_the_build(line: Line) -> None:
    line.repository.add("app", "1.0", files={"/usr/share/app": "rebuilt and signed again under its old name"})
    line.repository.add("libtool", "1.1")
    line.repository.remove("libtool-1.0", "helper-1.0")
    error = line.build()
    assert error.what == "packages are not as the lock of small-9 has them: 3"
    rows = [" ".join(row.split()) for row in error.details[1:]]
    assert rows[0].startswith("digest differs app.noarch 1.0-1 sha256 ")
    assert rows[1:] == ["removed helper.noarch 1:1.0-1 –", "changed libtool.noarch 1.0-1 1.1-1"]
    assert line.installed() == set()
    assert list(line.space.build.glob("small-9/*/rootfs.tar")) == []


def test_an_update_of_one_does_not_accept_another_that_changed_its_content(line: Line) -> None:
    line.newer()
    line.repository.add("app", "1.0", files={"/usr/share/app": "another"})
    before = line.path.read_bytes()
    with pytest.raises(HallmarkError, match="changed under their old names: 1") as caught:
        line.lock("tool")
    assert "app.noarch" in caught.value.details[1]
    assert line.path.read_bytes() == before
    assert line.lock("tool", "app") == 0
    assert line.locked == {"app-2.0", "tool-2.0", "libtool-2.0"}


def test_a_lock_that_lies_about_a_digest_stops_the_build(line: Line) -> None:
    text = line.path.read_text()
    digest = digest_file(line.tool)
    line.path.write_text(text.replace(digest, digest[::-1]))
    assert line.build().details[1].startswith("digest differs")
    assert line.installed() == set()
    assert line.lock(check=True) == 1


def test_without_a_lock_there_is_nothing_to_check(line: Line) -> None:
    line.path.unlink()
    for arguments in ({"check": True}, {}):
        with pytest.raises(HallmarkError, match="has no lock") as caught:
            line.lock(*([] if arguments else ["app"]), **arguments)
        assert caught.value.hint and "hallmark lock small-9" in caught.value.hint


def test_a_killed_dnf_stops_nobody_and_a_running_one_is_waited_for(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every dnf is a low number in a namespace of its own, and its locks in the cache are such numbers."""
    cache = line.space.cache / "dnf"
    leftover = cache / "metadata_lock.pid"
    leftover.write_text("1")
    assert line.lock(check=True) == 0
    assert not leftover.exists()
    with ThreadPoolExecutor(1) as pool, (cache / "hallmark.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        leftover.write_text("1")
        waiting = pool.submit(line.lock, check=True)
        said = ""
        end = time.monotonic() + 60
        while "waiting for another run of dnf" not in said and time.monotonic() < end:
            time.sleep(0.1)
            said += capsys.readouterr().err
        assert not waiting.done()
        assert leftover.exists()
        fcntl.flock(held, fcntl.LOCK_UN)
        assert "waiting for another run of dnf" in said
        assert waiting.result(60) == 0
