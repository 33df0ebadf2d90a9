"""The generated element, held against golden files.

``HALLMARK_UPDATE_GOLDEN=1 pytest tests/builder/rootfs`` writes them anew; read the difference then.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

import builder.rootfs
from builder.errors import HallmarkError
from builder.recipe import find, load
from builder.recipe import plan as make_plan
from builder.recipe.lock import Lock, LockedPackage, inputs_digest
from builder.recipe.model import BootstrapMode, Distribution, InstalledFile, Origin, Packages, Plan
from builder.recipe.packaging import bootstrap
from builder.rootfs.compile import compile_element, rpmdb_path
from builder.rootfs.repositories import TrustedRepository

GOLDEN = Path(__file__).parent / "golden"


def test_element_is_golden(plan: Plan, trusted: TrustedRepository, tmp_path: Path) -> None:
    element = compile_element(plan, (trusted,))
    if os.environ.get("HALLMARK_UPDATE_GOLDEN"):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        element.write(GOLDEN)
    written = element.write(tmp_path)
    made = {path.relative_to(written): path for path in written.rglob("*") if path.is_file()}
    expected = {
        path.relative_to(GOLDEN / element.name): path
        for path in (GOLDEN / element.name).rglob("*")
        if path.is_file()
    }
    assert sorted(made) == sorted(expected)
    for name, path in made.items():
        assert path.read_text() == expected[name].read_text(), name
        assert os.access(path, os.X_OK) == os.access(expected[name], os.X_OK), name


def test_a_container_gets_nothing_of_a_machine(trusted: TrustedRepository) -> None:
    container = make_plan(load(find("dotnet-sample-9")), version="9.20261122.0", source_date_epoch=0)
    files = compile_element(container, (trusted,)).files
    assert files["element-deps"].content.split() == [
        "hallmark-container",
        "hallmark-generalise",
        "hallmark-root",
    ]
    written = {path.partition("/static")[2] for path in files if "/static/" in path}
    assert {"/etc/image-release", "/usr/libexec/s2i/run"} <= written
    assert not {"/etc/fstab", "/etc/default/grub", "/boot/grub2/grubenv", "/etc/selinux/config"} & written
    assert not [path for path in files if "services" in path or "grub" in path]
    assert "\ntsflags=nodocs\n" in files["hallmark-plan/dnf.conf"].content
    environment = files["environment.d/20-hallmark-plan.bash"].content
    assert "export HALLMARK_CONTAINER_USER=1001\n" in environment
    assert (
        "export HALLMARK_CONTAINER_WRITABLE=/opt/app-root:/opt/app-root/app:/opt/app-root/data\n"
        in environment
    )


def test_every_hook_has_a_name_that_dib_runs(plan: Plan, trusted: TrustedRepository) -> None:
    hooks = [path for path, file in compile_element(plan, (trusted,)).files.items() if file.executable]
    assert "post-install.d/50-hallmark-000-10-second-sh" in hooks
    for hook in hooks:
        assert set(hook.partition("/")[2]) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
        )


def test_signatures_are_always_checked(plan: Plan, trusted: TrustedRepository) -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(compile_element(plan, (trusted,)).files["hallmark-plan/dnf.conf"].content)
    assert (
        config["main"]["gpgcheck"] == config["main"]["localpkg_gpgcheck"] == config["tiny"]["gpgcheck"] == "1"
    )
    assert config["tiny"]["gpgkey"] == "file://@KEYS@/tiny.asc"
    assert config["main"]["excludepkgs"] == "plymouth,iwl*-firmware"


def test_packages_keep_the_stock_format(plan: Plan, trusted: TrustedRepository) -> None:
    text = compile_element(plan, (trusted,)).files["package-installs.yaml"].content
    assert yaml.safe_load(text) == {"kernel": None, "@core": None}


def test_grub_talks_where_the_machine_listens(plan: Plan, trusted: TrustedRepository) -> None:
    arm = plan.model_copy(update={"architecture": "aarch64"})
    files = compile_element(arm, (trusted,)).files
    defaults = files["hallmark-plan/static/etc/default/grub"].content
    assert 'GRUB_TERMINAL="console"\n' in defaults, "the firmware's console is the serial port"
    assert "serial" not in defaults + files["hallmark-plan/grub-head.cfg"].content
    silent = arm.model_copy(update={"bootloader": arm.bootloader.model_copy(update={"serial": False})})
    files = compile_element(silent, (trusted,)).files
    assert "GRUB_TERMINAL" not in files["hallmark-plan/static/etc/default/grub"].content


def test_entries_as_files_came_with_8(plan: Plan, trusted: TrustedRepository) -> None:
    for major in (7, 8):
        files = compile_element(of_release(plan, major), (trusted,)).files
        defaults = files["hallmark-plan/static/etc/default/grub"].content
        assert ("GRUB_ENABLE_BLSCFG=true" in defaults) is (major == 8)


def test_the_recipe_wins_over_generated_files(plan: Plan, trusted: TrustedRepository) -> None:
    files = compile_element(plan, (trusted,)).files
    assert files["hallmark-plan/static/etc/locale.conf"].content == "LANG=C.UTF-8\n"


def test_xfs_is_not_checked_at_boot(plan: Plan, trusted: TrustedRepository) -> None:
    xfs = plan.model_copy(update={"disk": plan.disk.model_copy(update={"filesystem": "xfs"})})
    fstab = compile_element(xfs, (trusted,)).files["hallmark-plan/static/etc/fstab"].content
    assert "/ xfs defaults 0 0" in fstab and "/boot xfs defaults 0 0" in fstab


def test_a_plan_always_compiles_to_the_same_element(plan: Plan, trusted: TrustedRepository) -> None:
    again = Plan.model_validate_json(plan.to_json())
    assert compile_element(plan, (trusted,)) == compile_element(again, (trusted,))


@pytest.mark.parametrize("path", ["etc/motd", "/etc/../motd", "/etc//motd", "/etc/motd/"])
def test_odd_paths_are_refused(plan: Plan, trusted: TrustedRepository, path: str) -> None:
    where = Origin(path="tiny.yaml", line=21)
    odd = plan.model_copy(update={"files": (InstalledFile(path=path, content="", where=where),)})
    with pytest.raises(HallmarkError, match="not an absolute path") as caught:
        compile_element(odd, (trusted,))
    assert str(caught.value.where) == "tiny.yaml:21"


def of_release(plan: Plan, major: int, mode: BootstrapMode | None = None) -> Plan:
    distribution = Distribution(
        id="centos", name="CentOS", release=str(major), major=major, releasever=str(major)
    )
    return plan.model_copy(update={"distribution": distribution, "bootstrap": bootstrap(major, mode)})


@pytest.mark.parametrize(
    ("major", "path"),
    [(7, "/var/lib/rpm"), (8, "/var/lib/rpm"), (9, "/var/lib/rpm"), (10, "/usr/lib/sysimage/rpm")],
)
def test_rpm_database(plan: Plan, major: int, path: str) -> None:
    assert rpmdb_path(of_release(plan, major)) == path


@pytest.mark.parametrize(("major", "mode"), [(7, "direct"), (8, "direct"), (6, "two-stage"), (11, "direct")])
def test_releases_with_an_unwritable_or_unknown_rpm_database_are_refused(
    plan: Plan, major: int, mode: BootstrapMode
) -> None:
    with pytest.raises(HallmarkError, match=f"cannot make a root filesystem of CentOS {major}"):
        rpmdb_path(of_release(plan, major, mode))


def test_two_stages_reach_the_hooks(plan: Plan, trusted: TrustedRepository) -> None:
    text = (
        compile_element(of_release(plan, 8), (trusted,)).files["environment.d/20-hallmark-plan.bash"].content
    )
    assert "export HALLMARK_BOOTSTRAP=two-stage\n" in text and "export HALLMARK_STAGE_ONE=rpm\n" in text


def test_a_lock_reaches_the_hooks(plan: Plan, trusted: TrustedRepository) -> None:
    package = LockedPackage(
        name="tiny",
        epoch=3,
        version="1.0",
        release="1",
        arch="noarch",
        sha256="a" * 64,
        repository="tiny",
        key="aa81a34a9a583dee",
    )
    when = datetime(2026, 11, 22, tzinfo=UTC)
    lock = Lock(recipe=plan.recipe, when=when, inputs=inputs_digest(plan), packages=(package,))
    files = compile_element(plan, (trusted,), lock=lock).files
    assert files["hallmark-plan/locked-packages"].content == "tiny-3:1.0-1.noarch\n"
    orders = json.loads(files["hallmark-plan/lock.json"].content)
    assert orders == {"mode": "exact", "free": [], "packages": [package.model_dump()]}
    assert "hallmark-plan/lock.json" not in compile_element(plan, (trusted,)).files


def test_nothing_to_exclude(plan: Plan, trusted: TrustedRepository) -> None:
    bare = plan.model_copy(update={"packages": Packages(install=plan.packages.install)})
    assert "excludepkgs" not in compile_element(bare, (trusted,)).files["hallmark-plan/dnf.conf"].content


ROOTFS = Path(builder.rootfs.__file__).parent


def test_presets_agree_with_the_services(plan: Plan, trusted: TrustedRepository) -> None:
    files = compile_element(plan, (trusted,)).files
    preset = files["hallmark-plan/static/etc/systemd/system-preset/00-hallmark.preset"].content
    assert preset == "disable ctrl-alt-del.target\nenable sshd.service\n"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted([*ROOTFS.glob("elements/*/*.d/*"), *ROOTFS.glob("shims/*")])
        if path.parent.name != "environment.d"
    ],
    ids=lambda path: str(path.relative_to(ROOTFS)),
)
def test_hooks_are_programs_with_good_syntax(path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert re.fullmatch(r"[0-9A-Za-z_-]+", path.name)
    subprocess.run(("bash", "-n", path), check=True)
