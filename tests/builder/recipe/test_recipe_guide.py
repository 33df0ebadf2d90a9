"""images/README.md: every snippet is a recipe or layer that works, and its tables are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from builder.cli import main
from builder.recipe import expand, find, load, plan, substitute
from builder.recipe.load import IMAGES, names

#: Verbs that need neither root nor the network, nor anything that was built.
READERS = ("diff", "explain", "lint", "matrix", "plan")
GUIDE = (IMAGES / "README.md").read_text(encoding="utf-8")
VERSION = "9.20261122.0"


def test_every_snippet_of_the_guide_works(tmp_path: Path) -> None:
    snippets = dict(re.findall(r"^```yaml (\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
    assert list(snippets) == ["recipe", "layer", "variants", "archive", "ostree", "container", "mirrors"]
    assert len(re.findall(r"^```yaml", GUIDE, re.MULTILINE)) == len(snippets)
    (tmp_path / "layers").mkdir()
    for layer in (IMAGES / "layers").glob("*.yaml"):
        (tmp_path / "layers" / layer.name).write_text(layer.read_text())
    (tmp_path / "layers" / "my-defaults.yaml").write_text(snippets["layer"])
    path = tmp_path / "my-centos.yaml"
    recipe = snippets["recipe"].replace("[el, azure, dotnet]", "[el, azure, dotnet, my-defaults]")
    path.write_text(recipe)
    made = plan(load(path), version=VERSION, source_date_epoch=0)
    mirrors = tmp_path / "mirrors.yaml"
    mirrors.write_text(snippets["mirrors"])
    mirrored = plan(substitute(load(find("rhel-9")), mirrors), version=VERSION, source_date_epoch=0)
    assert all(repository.where.path == str(mirrors) for repository in mirrored.repositories)
    assert "insights-client" not in [request.name for request in mirrored.packages.install]
    mirrors.write_text(snippets["archive"])
    kept = plan(substitute(load(find("atomic-host-7")), mirrors), version=VERSION, source_date_epoch=0).ostree
    assert kept is not None and kept.source == "file:///srv/atomic/repo.tar"
    assert kept.key is None and kept.commit is not None
    assert "aspnetcore-runtime-10.0" in [request.name for request in made.packages.install]
    assert "panic=30" in made.kernel.arguments
    assert made.outputs == ("vhd", "vhdx")
    assert "nvme_core.io_timeout=240" not in made.kernel.arguments

    path.write_text(re.sub(r"^licence:.*\n", "", recipe, flags=re.MULTILINE) + snippets["variants"])
    full = [load(reference).name for reference in expand(find(str(path)))]
    assert full[0] == "my-centos"
    assert "my-centos-payg-aarch64" in full
    assert len(full) == 6
    hardened = plan(load(find(f"{path}:hardened")), version=VERSION, source_date_epoch=0)
    assert "audit=1" in hardened.kernel.arguments

    path = tmp_path / "my-bootc.yaml"
    path.write_text(snippets["ostree"])
    whole = plan(load(path), version=VERSION, source_date_epoch=0)
    assert whole.ostree is not None
    assert whole.packages.install == ()

    path = tmp_path / "my-service.yaml"
    path.write_text(snippets["container"])
    service = plan(load(path), version=VERSION, source_date_epoch=0)
    assert service.container is not None and service.outputs == ("oci",)
    assert service.container.user == 1001
    assert service.container.writable[0] == "/opt/app-root"


def test_the_tables_have_every_recipe_and_every_layer() -> None:
    section = GUIDE.partition("## What is here")[2].partition("\n## ")[0]
    told = {
        name
        for row in re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    layers = {path.stem for path in (IMAGES / "layers").glob("*.yaml")} - {"rhel"}  # stands beside `el`
    assert told == set(names()) | layers


COMMANDS = [
    line
    for line in re.findall(r"`hallmark ([^`]+)`", GUIDE)
    if line.split()[0] in READERS and "FILE" not in line and ".lock.yaml" not in line and "build/" not in line
]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_of_the_guide_answer(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(line)) == (3 if line.startswith("diff") else 0)
    assert capsys.readouterr().out


def test_there_are_commands_of_most_kinds() -> None:
    assert {line.split()[0] for line in COMMANDS} >= {"diff", "explain", "lint", "matrix"}
