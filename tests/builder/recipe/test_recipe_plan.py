"""Recipe to plan: what is derived, and what only shows here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recipe_tree import BASE, RecipeTree

from builder.recipe import Plan, RecipeError, Reference, find, load, names, plan, schema, syntax
from builder.recipe.load import IMAGES
from builder.recipe.resolve import identifiers

VERSION = "9.20261122.0"


def make(path: Path | Reference, version: str = VERSION) -> Plan:
    return plan(load(path), version=version, source_date_epoch=1700000000)


def test_the_sample_follows_azures_facts() -> None:
    sample = make(find("sample-9"))
    azure = ("console=tty1", "console=ttyS0", "earlyprintk=ttyS0", "rootdelay=300")
    assert sample.kernel.arguments == (*azure, "security=selinux")
    assert {"hv_vmbus", "hv_netvsc", "hv_storvsc", "nvme"} <= set(sample.kernel.drivers)
    assert {"nouveau", "floppy", "amdgpu", "intel_uncore"} <= set(sample.kernel.blacklist)
    files = {file.path: file for file in sample.files}
    datasource = files["/etc/cloud/cloud.cfg.d/91-azure_datasource.cfg"].content
    assert "datasource_list: [ Azure ]" in datasource
    assert "apply_network_config: false" in datasource
    assert "ClientAliveInterval 180" in files["/etc/ssh/sshd_config.d/20-azure.conf"].content
    assert files["/etc/ssh/sshd_config.d/10-image.conf"].mode == 0o600
    scripts = {script.name: script.content for script in sample.scripts}
    assert "set_value ResourceDisk.Format n\n" in scripts["10-edit-etc-waagent-conf"]
    assert sample.disk.size_mib - sample.disk.esp_mib - sample.disk.boot_mib >= 10 * 1024
    assert [runtime.channel for runtime in sample.dotnet] == ["3.1"]
    assert sample.repositories[0].embedded == "sample-distribution"


@pytest.mark.parametrize(
    ("layer", "recipe", "expected"),
    [
        ("", "", ("vhd",)),
        ("", "outputs: [vhd]", ("vhd",)),
        ("", "outputs: [oci]", ("vhd", "oci")),
        ("outputs: [vhdx, vhd]", "outputs: [qcow2]", ("vhd", "vhdx", "qcow2")),
        ("outputs: [vhdx, oci]", "outputs: {remove: [vhdx, vhd]}", ("vhd", "oci")),
        ("outputs: [vhdx, oci]", "outputs: null", ("vhd",)),
    ],
)
def test_the_vhd_comes_first_and_layers_append(
    tree: RecipeTree, layer: str, recipe: str, expected: tuple[str, ...]
) -> None:
    tree.layer("base", BASE + layer + "\n")
    assert make(tree.demo(recipe)).outputs == expected


def test_an_unknown_format_is_named_with_its_line(tree: RecipeTree) -> None:
    with pytest.raises(RecipeError, match=r"outputs.*'vmdk'") as caught:
        make(tree.demo("outputs: [vmdk]"))
    assert "demo-9.yaml:12:11:" in str(caught.value)


def test_release_windows_reach_the_plan(tmp_path: Path) -> None:
    def arguments(release: str) -> tuple[str, ...]:
        text = (IMAGES / "rhel-9.yaml").read_text().replace('release: "9.8"', f'release: "{release}"')
        (tmp_path / "rhel-9.yaml").write_text(text)
        if not (tmp_path / "layers").exists():
            (tmp_path / "layers").symlink_to(IMAGES / "layers")
        return make(tmp_path / "rhel-9.yaml").kernel.arguments[4:]

    assert arguments("7.9") == ("scsi_mod.use_blk_mq=y",)
    assert arguments("8.10") == ("loglevel=3",)
    assert arguments("9.5") == ("loglevel=3",)
    assert arguments("9.6") == ("loglevel=3", "nvme_core.io_timeout=240")
    assert arguments("9.7") == ("nvme_core.io_timeout=240",)
    assert arguments("9.8") == ()
    assert arguments("10.0") == ("loglevel=3", "nvme_core.io_timeout=240")
    assert arguments("10.1") == ("nvme_core.io_timeout=240",)
    assert arguments("10.2") == ()


def test_a_plan_survives_its_json(tree: RecipeTree) -> None:
    made = make(tree.root / "demo-9.yaml")
    again = Plan.model_validate_json(made.to_json())
    assert again == made
    assert again.digest() == made.digest()


def test_the_digest_follows_the_content_and_not_the_lines(tree: RecipeTree) -> None:
    first = make(tree.root / "demo-9.yaml")
    moved = make(tree.recipe("# a comment\n\n" + (tree.root / "demo-9.yaml").read_text()))
    assert moved != first
    assert moved.digest() == first.digest()
    changed = make(tree.demo("files: {/etc/x: {content: a}}\n"))
    assert changed.digest() != first.digest()
    assert make(tree.root / "demo-9.yaml", "9.20261122.1").digest() != changed.digest()


def test_identifiers_differ_between_versions_and_are_the_same_each_time() -> None:
    first = identifiers("demo-9", VERSION)
    assert first == identifiers("demo-9", VERSION)
    values = list(first.model_dump().values())
    assert len(set(map(str, values))) == len(values)
    for other in (identifiers("demo-9", "9.20261122.1"), identifiers("demo-8", VERSION)):
        assert not set(map(str, values)) & set(map(str, other.model_dump().values()))
    assert first.vhd.version == 5


def test_variables_in_repository_addresses_are_replaced(tree: RecipeTree) -> None:
    (repository,) = make(tree.root / "demo-9.yaml").repositories
    assert repository.baseurl == "https://example.invalid/9/9/x86_64"
    assert (repository.name, repository.where.line) == ("main", 7)


def test_dotnet_becomes_packages_with_the_line_that_asked(tree: RecipeTree) -> None:
    made = make(tree.demo("dotnet:\n  kind: aspnetcore\n  runtimes: ['10.0', '9.0']\n"))
    asked = [(item.name, item.where.line) for item in made.packages.install if "core" in item.name]
    assert asked == [("aspnetcore-runtime-10.0", 14), ("aspnetcore-runtime-9.0", 14)]


def test_sources_are_read_from_the_tree(tree: RecipeTree) -> None:
    (tree.root / "motd").write_text("Grüße\n", encoding="utf-8")
    made = make(tree.demo("files: {/etc/motd: {source: motd, mode: '0600', owner: bin}}\n"))
    assert [(file.path, file.content, file.mode, file.owner) for file in made.files] == [
        ("/etc/motd", "Grüße\n", 0o600, "bin")
    ]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ("files: {/etc/x: {source: ../secret}}", "HM010", "leads out of"),
        ("files: {/etc/x: {source: missing}}", "HM010", "No such file"),
        ("files: {/etc/x: {source: binary}}", "HM010", "not UTF-8"),
        ("files: {/etc/x: {mode: '0600'}}", "HM006", "neither content nor source"),
        ("files: {/etc/x: {content: a, source: b}}", "HM006", "both content and source"),
        ("scripts: {x: {content: 'echo'}}", "HM006", "no #! line"),
        ("repositories: {main: {key: null}}", "HM007", "no key"),
        ("repositories: {main: {fingerprint: null}}", "HM007", "no fingerprint"),
        ("repositories: {main: {metalink: 'https://a.invalid'}}", "HM006", "baseurl and metalink"),
        ("repositories: {main: {baseurl: null}}", "HM006", "no source"),
        ("disk: {size_mib: null}", "HM007", "disk.size_mib is missing"),
    ],
)
def test_what_only_shows_while_planning(tree: RecipeTree, more: str, code: str, words: str) -> None:
    (tree.root / "binary").write_bytes(b"\xff\xfe")
    path = tree.demo()
    text = path.read_text()
    if more.startswith("repositories: {main"):
        text, more = _into_main(text, more), ""
    with pytest.raises(RecipeError) as caught:
        make(tree.recipe(text + more + "\n"))
    found = caught.value.violations
    assert code in [item.code for item in found]
    assert any(words in str(item) for item in found)
    assert all(item.where.line >= 1 for item in found)


def _into_main(text: str, more: str) -> str:
    setting = more.removeprefix("repositories: {main: {").removesuffix("}}")
    key = setting.partition(":")[0]
    lines = [line for line in text.splitlines() if not line.strip().startswith(f"{key}:")]
    index = lines.index("  main:")
    return "\n".join([*lines[: index + 1], f"    {setting}", *lines[index + 1 :]]) + "\n"


def test_a_source_that_is_a_link_out_of_the_tree_is_refused(tree: RecipeTree) -> None:
    (tree.root / "link").symlink_to("/etc/passwd")
    with pytest.raises(RecipeError, match="leads out of"):
        make(tree.demo("files: {/etc/x: {source: link}}\n"))


def test_the_schema_in_the_tree_is_current() -> None:
    assert schema.SCHEMA.read_text(encoding="utf-8") == schema.text(), "run `hallmark schema`"


def test_editors_accept_every_recipe_and_refuse_a_mistake() -> None:
    """The schema by a validator that knows nothing of the models that it was made from."""
    from jsonschema import Draft202012Validator  # here alone: it takes a second to load, in every worker

    validator = Draft202012Validator(json.loads(schema.text()))
    files = [*IMAGES.glob("*.yaml"), *(IMAGES / "layers").glob("*.yaml")]
    for path in files:
        node, _ = syntax.parse(path.read_bytes(), path=path.name)
        assert node is not None
        assert validator.is_valid(syntax.plain(node)), path
        assert not validator.is_valid({**syntax.plain(node), "disk": {"size_mib": "large"}}), path
        assert not validator.is_valid({**syntax.plain(node), "kernal": {}}), path


def test_all_recipes_lint_and_plan_in_a_second_without_network() -> None:
    assert {"sample-9", "rhel-9", "centos-stream-9"} <= set(names())
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('opened a socket')\n"
        "socket.socket = refuse\n"
        "from builder.recipe import cli\n"
        "status = cli.lint_command([])\n"
        "cli.plan_command([])\n"
        "raise SystemExit(status)\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert time.monotonic() - began < 20  # a hang, not a budget: `nox -s bench` measures
