"""Ends of support: data with sources, beside the facts of the certification and never made from them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import yaml

from builder.recipe import find, load, plan, support
from builder.recipe.load import names
from builder.workspace import PROJECT

FACTS = PROJECT / "certification" / "facts" / "support.yaml"


def test_the_recipes_and_the_certification_agree() -> None:
    """They are collected separately; where they differ, one of the two is wrong."""
    facts = yaml.safe_load(FACTS.read_text(encoding="utf-8"))
    known = support.table()
    for distribution, windows in facts["operating_systems"].items():
        for window in windows:
            major = int(window["when"].removeprefix("==").partition(".")[0])
            assert known.release_end(distribution, major) == window["ends"], (distribution, major)
    assert {channel: known.dotnet_end(channel) for channel in facts["dotnet"]} == {
        channel: item["ends"] for channel, item in facts["dotnet"].items()
    }
    text = Path(support.__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    assert text != FACTS.read_text(encoding="utf-8")


def test_every_recipe_has_a_known_end_of_support() -> None:
    for name in names():
        made = plan(load(find(name)), version="9.20261122.0", source_date_epoch=0)
        found = support.ends_of(
            distribution=made.distribution.id,
            name=made.distribution.name,
            release=made.distribution.release,
            channels=tuple(runtime.channel for runtime in made.dotnet),
        )
        assert len(found) == 1 + len(made.dotnet), name
        assert [item.ends for item in found] == sorted(item.ends for item in found)


def test_what_nobody_knows_is_left_out() -> None:
    assert support.ends_of(distribution="other", name="Other", release="1", channels=("99.0",)) == ()
    (one,) = support.ends_of(distribution="rhel", name="RHEL", release="9.8", channels=("99.0",))
    assert (one.what, one.ends) == ("RHEL 9", date(2032, 5, 31))
