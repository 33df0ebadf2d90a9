"""Several images at once: what comes of each is what comes of it alone, whatever comes of the others.

The images are small containers, which are looked at as they are: nothing is booted, and all is real.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_container import Change, build, database, planned

from builder import cli
from builder.recipe import Plan, find, load, plan
from builder.stages import run_stage
from builder.workspace import PROJECT, Artefacts, Workspace

pytestmark = pytest.mark.system  # it needs no privilege, but six processes of the suites

VERSION = "9.20261122.0"
#: What two looks at the same image need not have in common.
OWN = {"judged", "seconds"}


@dataclass(frozen=True)
class Site:
    """Recipes, and two build directories with the same images of them."""

    recipes: Path
    serial: Path
    together: Path

    def recipe(self, name: str) -> str:
        return str(self.recipes / f"{name}.yaml")

    def certify(self, build: Path, *names: str) -> int:
        return cli.main(["certify", "--json", "--build-dir", str(build), *map(self.recipe, names)])


def results(place: Path) -> dict[str, Any]:
    """The verdicts as a program reads them, without what is of the one look."""

    def common(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: common(item) for key, item in value.items() if key not in OWN}
        return [common(item) for item in value] if isinstance(value, list) else value

    found: dict[str, Any] = common(json.loads((place / "results.json").read_bytes()))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    work = tmp_path_factory.mktemp("several")
    site = Site(work / "images", work / "serial", work / "together")
    shutil.copytree(PROJECT / "images", site.recipes)
    text = (site.recipes / "dotnet-sample-9.yaml").read_text()
    for name in ("good-9", "rooted-9", "absent-9"):
        own = text.replace("recipe: dotnet-sample-9", f"recipe: {name}")
        Path(site.recipe(name)).write_text(own.replace("waivers/dotnet-sample-9", f"waivers/{name}"))
        (site.recipes / f"waivers/{name}.yaml").write_text("waivers: []\n")
    rpms = database(work / "rpmdb", work / "rpms")
    for name, user in (("good-9", 1001), ("rooted-9", 0)):
        decided = plan(load(find(site.recipe(name))), version=VERSION, source_date_epoch=1_795_305_600)
        change = Change(plan=lambda made, user=user: planned(user=user))  # type: ignore[misc]
        archive = build(work / f"{name}.tar", rpms, work / f"{name}-work", change)
        for directory in (site.serial, site.together):
            _built(Workspace.default(build=directory).artefacts(name, VERSION), decided, archive)
    return site


def _built(artefacts: Artefacts, decided: Plan, archive: Path) -> None:
    """What a build leaves."""

    def make() -> None:
        shutil.copy(archive, image)

    artefacts.stages.mkdir(parents=True)
    artefacts.plan.write_text(decided.to_json())
    artefacts.packages.write_text("[]")
    artefacts.sbom.write_text("{}")
    image = artefacts.output("oci")
    run_stage(artefacts, "image", title="image", inputs={}, outputs=(image,), make=make)


@pytest.fixture(scope="module")
def alone(site: Site) -> dict[str, dict[str, Any]]:
    """What comes of each image when it is certified by itself; all that the good one lacks is waived."""
    assert site.certify(site.serial, "good-9") == 1
    found = results(site.serial / "good-9" / VERSION)
    lacking = [item["requirement"] for item in found["results"] if item["verdict"] == "fail"]
    waivers = [
        {
            "requirement": name,
            "scope": "good-9",
            "owner": "a test",
            "reason": "it is much too small",
            "expires": "2099-01-01",
        }
        for name in lacking
    ]
    (site.recipes / "waivers/good-9.yaml").write_text(yaml.safe_dump({"waivers": waivers}))
    assert site.certify(site.serial, "good-9") == 0
    assert site.certify(site.serial, "rooted-9") == 1
    return {name: results(site.serial / name / VERSION) for name in ("good-9", "rooted-9")}


def test_together_each_gets_what_it_gets_alone(
    site: Site, alone: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert site.certify(site.together, "absent-9", "rooted-9", "good-9") == 1, "two have no certificate"
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for name, before in alone.items():
        assert results(site.together / name / VERSION) == before
        assert len(before["results"]) > 60
    wrong = {item["requirement"] for item in alone["rooted-9"]["results"] if item["verdict"] == "fail"}
    assert "container.non-root" in wrong and alone["good-9"]["certified"]
    certificates = [path.parts[-3] for path in site.together.glob("*/*/certificate.json")]
    assert certificates == ["good-9"]
    ends = {item["image"]: item for item in events if item["event"] in ("certified", "not-certified")}
    assert [(name, item["event"]) for name, item in ends.items()] == [
        ("absent-9", "not-certified"),
        ("rooted-9", "not-certified"),
        ("good-9", "certified"),
    ]
    assert "there is no image" in ends["absent-9"]["why"] and not ends["absent-9"]["report"]
    assert Path(ends["rooted-9"]["report"]).is_file()
    # Whoever reads along knows which image a line is about.
    looks = [item for item in events if item["event"] == "stage" and item["name"].startswith("observe-")]
    assert sorted((item["image"], item["state"]) for item in looks) == [
        ("good-9", "done"),
        ("rooted-9", "done"),
    ]
    image, certificate = (
        site.together / "good-9" / VERSION / name for name in ("image.oci.tar", "certificate.json")
    )
    assert cli.main(["verify", str(image), str(certificate)]) == 0
    # A second run looks at nothing again.
    assert site.certify(site.together, "rooted-9", "good-9") == 1
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"stage"' in line]
    assert {item["state"] for item in again if item["name"].startswith("observe-")} == {"up to date"}


def test_recordings_together_give_the_verdicts_of_the_looks(
    site: Site, alone: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    places = [str(site.serial / name / VERSION / "evidence.jsonl") for name in alone]
    words = [
        "--policy",
        "openshift-container",
        "--out",
        str(tmp_path),
        "--build-dir",
        str(tmp_path / "build"),
    ]
    assert cli.main(["certify", "--replay", *places, *words]) == 1
    for name, before in alone.items():
        found = results(tmp_path / f"{name}-{VERSION}")["results"]
        verdicts = {item["requirement"]: (item["verdict"], item["observations"]) for item in found}
        # The waivers of the recipe don't hold where only a policy is named.
        kinds = {"waived": "fail"}
        assert verdicts == {
            item["requirement"]: (kinds.get(item["verdict"], item["verdict"]), item["observations"])
            for item in before["results"]
        }


def test_a_version_is_of_one_recipe(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["certify", "a", "b", "--version", VERSION, "--build-dir", str(site.together)]) == 1
    assert "--version is of one recipe" in capsys.readouterr().err
    assert cli.main(["certify", "a", "b", "--replay", "x", "--build-dir", str(site.together)]) == 1
    assert "one recipe says" in capsys.readouterr().err
