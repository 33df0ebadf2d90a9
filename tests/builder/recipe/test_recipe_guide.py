"""images/README.md: every snippet is a recipe or layer that works."""

from __future__ import annotations

import re
from pathlib import Path

from builder.recipe import load, plan
from builder.recipe.load import IMAGES


def test_every_snippet_of_the_guide_works(tmp_path: Path) -> None:
    text = (IMAGES / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```yaml (\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in snippets] == ["recipe", "layer"]
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(snippets)
    (tmp_path / "layers").mkdir()
    for layer in (IMAGES / "layers").glob("*.yaml"):
        (tmp_path / "layers" / layer.name).write_text(layer.read_text())
    recipe, layer_text = snippets[0][1], snippets[1][1]
    (tmp_path / "layers" / "my-defaults.yaml").write_text(layer_text)
    path = tmp_path / "my-centos.yaml"
    path.write_text(recipe.replace("[el, azure, dotnet]", "[el, azure, dotnet, my-defaults]"))
    made = plan(load(path), version="9.20261122.0", source_date_epoch=0)
    assert "aspnetcore-runtime-10.0" in [request.name for request in made.packages.install]
    assert "panic=30" in made.kernel.arguments
    assert "nvme_core.io_timeout=240" not in made.kernel.arguments
