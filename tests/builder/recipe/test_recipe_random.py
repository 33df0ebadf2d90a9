"""Random recipes, nearly right: whatever happens, it happens in words for people."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe_tree import BASE, MINIMAL, RecipeTree

from builder.recipe import RecipeError, expand, find, lint, load, plan
from builder.recipe.explain import explain
from builder.recipe.matrix import matrix

#: For each key some values that are right, and some that are not quite.
FRAGMENTS: dict[str, list[Any]] = yaml.safe_load("""
repositories:
  - null
  - {}
  - {main: null}
  - {main: {baseurl: null}}
  - {x: {}}
  - {x: {baseurl: $a, key: keys/KEY, fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567}}
  - {x: {metalink: $a, key: ../KEY, fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567}}
packages:
  - null
  - {}
  - {install: [a]}
  - {install: {remove: [a, kernel]}}
  - {install: {replace: []}, exclude: null}
  - {install: {replace: [b], append: [c]}}
  - {exclude: {append: [a]}}
  - {install: a}
files:
  - null
  - {}
  - {/a: null}
  - {/a: {}}
  - {/a: {content: ""}}
  - {/a: {source: keys}}
  - {/: null}
  - {/a: {content: null, source: keys/KEY, mode: "0000", owner: null}}
edit:
  - null
  - {/a: null}
  - {/a: {}}
  - {/a: {set: {k: null}}}
  - {/a: {set: null, lines: [x]}}
  - {/a: {set: {k: 1}}}
  - {/a: {lines: {remove: [x]}}}
scripts:
  - null
  - {a: null}
  - {a: {}}
  - {a: {content: ""}}
  - {a: {content: "#!"}}
  - {a: {source: /etc}}
services: [null, {}, {enable: [a.service], mask: [a.service]}, {enable: null}, {disable: {}}]
default_target: [null, a.target, a]
kernel:
  - null
  - {}
  - {arguments: [a]}
  - {arguments: {replace: []}}
  - {arguments: null}
  - {drivers: null}
  - {blacklist: [é]}
dracut: [null, {}, {compress: null}, {omit: {remove: [a]}}, {compress: lz4}]
selinux: [null, {mode: null}, {mode: permissive}, {type: mls}]
bootloader: [null, {serial: null}, {timeout: 61}, {timeout: "1"}, {vendor: null}]
dotnet: [null, {}, {runtimes: ["8.0"]}, {runtimes: null, kind: sdk}, {kind: null, runtimes: ["10.0"]}]
disk:
  - null
  - {}
  - {size_mib: null}
  - {size_mib: 1024}
  - {generations: []}
  - {generations: null}
  - {generations: {replace: []}}
  - {layout: lvm, esp_mib: 64}
  - {filesystem: xfs, boot_mib: 256}
outputs: [null, [], [vhdx], {remove: [vhd]}]
locale: [null, {language: null}, {timezone: /UTC}, {timezone: UTC}, {timezone: a/../b}]
container:
  - null
  - {}
  - {user: 1, home: /a, command: b, environment: null}
  - {user: 1, home: /a, command: b, environment: {A: null}, labels: {a: null}}
certification: [null, {}, {policies: null}, {waivers: ../x}, {targets: []}, {policies: {remove: [ccsp]}}]
ostree:
  - null
  - {}
  - {image: x}
  - {url: x}
  - {image: x, url: y}
  - {image: null}
  - {remote: r, url: u, ref: a, key: keys/KEY, fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567}
  - {remote: r, url: u, ref: a, key: ../KEY, fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567}
security: [null, standard, trusted-launch, confidential, x]
processor: [null, x86-64-v1, x86-64-v3, x86-64-v4]
visibility: [private, community, null]
licence: [free, byos, payg, null]
architecture: [x86_64, aarch64, riscv64, null]
""")
WHENS: list[dict[str, Any]] = [
    *({}, {"release": ">=9"}, {"licence": "payg"}, {"distribution": ["x"]}, {"release": "9"}),
    *({key: None} for key in ("release", "distribution", "architecture", "licence")),
    *({"distribution": []}, {"distribution": [None]}, {"release": f">={'9' * 5000}"}),
]
AXES = {"licence": ("free", "payg"), "architecture": ("x86_64", "aarch64"), "size": ("a", "b")}
OVERLAY = [key for key in FRAGMENTS if key not in ("visibility", "licence", "architecture")]


def documents(keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(st.sampled_from(keys), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({key: st.sampled_from(FRAGMENTS[key]) for key in chosen})
    )


def window(content: dict[str, Any], when: dict[str, Any]) -> dict[str, Any]:
    return {**content, "when": when}


def axis(name: str, *overlays: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(zip(AXES[name], overlays, strict=True))}


windows = st.lists(st.builds(window, documents(OVERLAY), st.sampled_from(WHENS)), max_size=2)
variants = st.builds(axis, st.sampled_from(list(AXES)), documents(OVERLAY), documents(OVERLAY))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    layer=documents(OVERLAY),
    layer_windows=windows,
    recipe=documents(list(FRAGMENTS)),
    recipe_windows=windows,
    axes=st.one_of(st.none(), variants),
)
def test_a_random_recipe_ends_in_a_plan_or_a_recipe_error(
    tree: RecipeTree,
    layer: dict[str, Any],
    layer_windows: list[dict[str, Any]],
    recipe: dict[str, Any],
    recipe_windows: list[dict[str, Any]],
    axes: dict[str, Any] | None,
) -> None:
    lower = {**yaml.safe_load(BASE), **layer, "windows": layer_windows}
    upper = {**yaml.safe_load(MINIMAL), **recipe, "windows": recipe_windows, "variants": axes}
    tree.layer("base", json.dumps(lower, ensure_ascii=False))
    path = tree.recipe(json.dumps(upper, ensure_ascii=False))
    try:
        for reference in expand(find(str(path))):
            loaded = load(reference)
            assert explain(loaded)
            made = plan(loaded, version="9.20261122.0", source_date_epoch=0)
            for finding in lint(loaded, made, today=date(2026, 11, 22)):
                assert finding.where.line >= 1
            assert len(matrix([(loaded, made)], today=date(2026, 11, 22))) == 1
            assert type(made).model_validate_json(made.to_json()) == made
    except RecipeError as error:
        assert error.violations
        assert all(item.where.line >= 1 for item in error.violations)
