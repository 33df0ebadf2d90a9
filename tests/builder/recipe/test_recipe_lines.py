"""The product lines: what each image must and must not hold, by release, licence and architecture."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from recipe_tree import RecipeTree

from builder.recipe import Plan, expand, find, load, plan
from builder.recipe.load import IMAGES, names
from certification.expectations import Facts

LAYERS = sorted(path.stem for path in (IMAGES / "layers").glob("*.yaml"))


#: What cloud-init's udev rule calls the temporary disk's partition (66-azure-ephemeral.rules).
AZURE_DISK = "/dev/disk/cloud/azure_resource-part1"


def make(name: str) -> Plan:
    return plan(load(find(name)), version="9.20261122.0", source_date_epoch=0)


def everything() -> list[Plan]:
    return [
        plan(load(reference), version="9.20261122.0", source_date_epoch=0)
        for name in names()
        for reference in expand(find(name))
    ]


def held(made: Plan) -> set[str]:
    return {request.name for request in made.packages.install}


@pytest.mark.parametrize("major", [8, 9, 10])
def test_rhel_has_the_update_client_of_its_licence(major: int) -> None:
    byos, payg = make(f"rhel-{major}-byos"), make(f"rhel-{major}-payg")
    assert byos.recipe == f"rhel-{major}", "a custom image in Azure is byos"
    assert "redhat-cloud-client-configuration" in held(byos)
    assert not [name for name in held(byos) if name.startswith("rhui-")]
    assert [item.id for item in byos.repositories] == [f"rhel-{major}-baseos", f"rhel-{major}-appstream"]
    assert [name for name in held(payg) if name.startswith("rhui-")] == [f"rhui-azure-rhel{major}"]
    assert "redhat-cloud-client-configuration" not in held(payg)
    assert f"rhui-azure-rhel{major}-arm64" in held(make(f"rhel-{major}-payg-aarch64"))
    rhsm = {made.licence: _script(made, "10-edit-etc-rhsm-rhsm-conf") for made in (byos, payg)}
    assert all("set_value auto_registration 1\n" in text for text in rhsm.values())
    assert "set_value manage_repos 0\n" in rhsm["payg"]
    assert "manage_repos" not in rhsm["byos"]
    assert {byos.visibility, payg.visibility} == {"private"}
    assert (byos.security, make(f"rhel-{major}-aarch64").security) == ("trusted-launch", "standard")


def test_aarch64_has_its_own_loader_console_and_generation() -> None:
    for made in everything():
        if made.architecture == "aarch64" and made.ostree is None and made.container is None:
            assert {"grub2-efi-aa64", "shim-aa64"} <= held(made)
            assert not {"grub2-pc", "shim-x64", "grub2-efi-x64", "hypervfcopyd"} & held(made)
            assert ("rng-tools" in held(made)) is (made.distribution.major == 8), "only 8 has it on both"
            assert made.disk.generations == (2,)
            assert [a for a in made.kernel.arguments if a.startswith("console=")] == ["console=ttyAMA0"]
            assert made.processor is None


def test_centos_7_is_of_its_time() -> None:
    old = make("centos-7")
    assert old.dotnet == ()
    assert not [name for name in held(old) if "dotnet" in name or "aspnetcore" in name]
    assert {"yum", "passwd", "gdisk", "dhclient"} <= held(old)
    assert not {"dhcp-client", "dnf", "NetworkManager-cloud-setup", "azure-vm-utils"} & held(old)
    assert not {"glibc-langpack-en", "rng-tools"} & held(old)
    assert "\nDEFAULTKERNEL=kernel\n" in _file(old, "/etc/sysconfig/kernel"), "else no update is booted"
    assert all(
        (item.baseurl or "").startswith("https://vault.centos.org/7.9.2009/") for item in old.repositories
    )
    agent = _script(old, "10-edit-etc-waagent-conf")
    assert "set_value Provisioning.UseCloudInit y\n" in agent
    assert "Provisioning.Agent" not in agent
    assert old.dracut.compress == "gzip"
    assert old.processor == "x86-64-v1"


@pytest.mark.parametrize(
    ("name", "word", "rule"), [("centos-7", "include", 1), ("rhel-8", "confdir", 1), ("rhel-9", "confdir", 0)]
)
def test_the_hosts_clock_is_read_where_it_is_and_missed_nowhere_else(name: str, word: str, rule: int) -> None:
    made = make(name)
    files = [file.path for file in made.files if "ptp_hyperv" in file.path]
    assert files.count("/etc/chrony.d/ptp_hyperv.conf") == 1
    assert files.count("/etc/udev/rules.d/99-ptp_hyperv.rules") == rule, "later systemd brings it"
    script = _script(made, "10-edit-etc-chrony-conf")
    [place] = re.findall(rf"^.*\b{word} (/sys/\S+?)['\"]?$", script, re.MULTILINE)
    climbed = re.sub(r"^/sys/bus/vmbus/drivers/hv_utils/", "/a/b/c/d/e/", place.replace("vmbu[s]", "vmbus"))
    assert os.path.normpath(climbed).removesuffix("/*.conf") == "/etc/chrony.d"
    # chrony 3 gives up when glob(3) says GLOB_ABORTED, as it does for a directory that isn't there (conf.c).
    parent = place.partition("[")[0].rpartition("/")[0]
    assert word == "confdir" or Path(parent).is_dir(), (
        "the wildcard stands where every machine has a directory"
    )


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        ("rhel-8", {"dhcp-client", "gdisk", "rng-tools"}, {"azure-vm-utils", "dhclient"}),
        ("rhel-9", {"dhcp-client", "gdisk", "rng-tools", "azure-vm-utils"}, {"dhclient"}),
        ("rhel-10", {"azure-vm-utils", "dnf", "rng-tools"}, {"dhcp-client", "gdisk", "passwd"}),
        ("centos-stream-10", {"azure-vm-utils", "centos-stream-release"}, {"insights-client", "gdisk"}),
    ],
)
def test_packages_follow_the_release(name: str, present: set[str], absent: set[str]) -> None:
    made = make(name)
    assert present <= held(made)
    assert not absent & held(made)


def test_what_every_machine_of_a_vendor_has() -> None:
    machines = [one for one in everything() if one.container is None and held(one)]
    vendors = [one for one in machines if one.distribution.id in ("rhel", "centos")]
    assert {one.distribution.major for one in vendors} == {7, 8, 9, 10}
    known = Facts(os_id="rhel", version="10")
    for made in vendors:
        major = made.distribution.major
        assert made.locale.language == "en_US.UTF-8"
        assert ("glibc-langpack-en" in held(made)) is (major >= 8), "a locale that isn't there is none"
        assert _file(made, "/etc/sysconfig/network") == "NETWORKING=yes\nNOZEROCONF=yes\n"
        package = "kernel-core" if major >= 8 else "kernel"
        assert f"\nDEFAULTKERNEL={package}\n" in _file(made, "/etc/sysconfig/kernel")
        warned = "temp-disk-dataloss-warning.service" in made.services.enable
        assert warned is (major >= 9), "9.6 and later"
        strange = [file.path for file in made.files if not known.allowed_unowned(file.path, link=False)]
        assert not [path for path in strange if not known.may_differ(path)], (
            "the certification would refuse it"
        )
    samples = [one for one in machines if one.distribution.id == "hallmark-sample"]
    assert samples
    for made in samples:
        assert "glibc-langpack-en" not in held(made), "the sample distribution hasn't got it"


def test_the_temporary_disk_says_what_it_is(tmp_path: Path) -> None:
    """The service's program, with a stand-in for findmnt."""
    made = make("rhel-10")
    unit = _file(made, "/etc/systemd/system/temp-disk-dataloss-warning.service")
    [name] = re.findall(r"^ExecStart=(\S+)$", unit, re.MULTILINE)
    [program] = [file for file in made.files if file.path == name]
    assert program.mode == 0o755
    findmnt = tmp_path / "findmnt"
    disk, warning = tmp_path / "mnt", tmp_path / "mnt" / "DATALOSS_WARNING_README.txt"
    disk.mkdir()
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for answer, written in (("exit 1", False), (f'[ "$6" = {AZURE_DISK} ] && echo "{disk}"', True)):
        findmnt.write_text(f"#!/bin/sh\n{answer}\n")
        findmnt.chmod(0o755)
        subprocess.run(["/bin/sh", "-s"], input=program.content, text=True, env=environment, check=True)
        assert warning.exists() is written, "a machine without such a disk has nothing to warn of"
    assert warning.read_text().startswith("WARNING: THIS IS A TEMPORARY DISK.\n")


@pytest.mark.parametrize(
    ("name", "processor"), [("rhel-8", 1), ("rhel-9", 2), ("rhel-10", 3), ("sample-9", 2)]
)
def test_the_processor_follows_the_release(name: str, processor: int) -> None:
    assert make(name).processor == f"x86-64-v{processor}"


def test_the_default_runtime_is_one_that_is_supported() -> None:
    for made in everything():
        if made.dotnet and made.distribution.id != "hallmark-sample":
            assert [runtime.channel for runtime in made.dotnet] == ["10.0"]


def test_only_a_commit_that_is_made_here_has_packages() -> None:
    atomic, bootc = make("atomic-host-7").ostree, make("centos-bootc-10").ostree
    made_here = make("sample-atomic-9")
    assert made_here.composed
    assert "ostree-boot" in held(made_here)
    assert atomic is not None
    assert (atomic.remote, atomic.ref) == ("centos-atomic-host", "centos-atomic-host/7/x86_64/standard")
    assert atomic.url == "http://mirror.centos.org/centos/7/atomic/x86_64/repo"
    assert bootc is not None
    assert bootc.image == "quay.io/centos-bootc/centos-bootc:stream10"
    whole = [made for made in everything() if made.ostree and not made.composed]
    assert len(whole) > 1
    assert not [made.recipe for made in whole if held(made) or made.repositories]


def test_every_pin_is_the_one_that_the_key_page_gives() -> None:
    page = (IMAGES / "keys" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| `([0-9A-F ]+)`", page, re.MULTILINE)
    told = {f"keys/{file}": digits.replace(" ", "") for file, digits in rows}
    used = {
        (item.key, item.fingerprint)
        for made in everything()
        for item in (*made.repositories, *((made.ostree,) if made.ostree and made.ostree.key else ()))
        if str(item.key).startswith("keys/")
    }
    assert used == set(told.items())


@pytest.mark.parametrize("layer", [name for name in LAYERS if name not in ("ostree", "rhel")])
@pytest.mark.parametrize("release", ["7.9", "8.10", "9", "10.2"])
def test_every_layer_plans_on_every_release(tree: RecipeTree, layer: str, release: str) -> None:
    (tree.root / "layers" / "base.yaml").unlink()
    for path in (IMAGES / "layers").glob("*.yaml"):
        tree.layer(path.stem, path.read_text(encoding="utf-8"))
    changes = {"[base]": f"[el, azure, {layer}]", 'release: "9"': f'release: "{release}"'}
    made = plan(load(tree.demo("", **changes)), version="9.20261122.0", source_date_epoch=0)
    for script in made.scripts:
        done = subprocess.run(
            ["/bin/sh", "-n"], input=script.content, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), script.name


@pytest.mark.parametrize(("release", "value"), [("8.10", "auto"), ("9", "1G-4G:192M"), ("10", "2G-64G:256M")])
def test_a_supportable_machine_reserves_memory_for_a_crash(
    tree: RecipeTree, release: str, value: str
) -> None:
    for path in (IMAGES / "layers").glob("*.yaml"):
        tree.layer(path.stem, path.read_text(encoding="utf-8"))
    changes = {"[base]": "[el, azure, supportable]", 'release: "9"': f'release: "{release}"'}
    made = plan(load(tree.demo("", **changes)), version="9.20261122.0", source_date_epoch=0)
    reserved = [item for item in made.kernel.arguments if item.startswith("crashkernel=")]
    assert len(reserved) == 1
    assert reserved[0].startswith(f"crashkernel={value}")
    assert "kdump.service" in made.services.enable


def test_old_ssh_reads_the_drop_ins_first(tmp_path: Path) -> None:
    """The script of the releases whose OpenSSH knows no drop-ins, on real files."""
    text = _script(make("rhel-8"), "20-sshd-drop-ins").replace("/etc/ssh", str(tmp_path))
    (tmp_path / "sshd_config.d").mkdir()
    (tmp_path / "sshd_config.d" / "10-image.conf").write_text("PermitRootLogin no\n")
    (tmp_path / "sshd_config.d" / "20-azure.conf").write_text("ClientAliveInterval 180\n")
    config = tmp_path / "sshd_config"
    config.write_text("PermitRootLogin yes\nUsePAM yes\n")
    config.chmod(0o600)
    subprocess.run(["/bin/sh", "-s"], input=text, text=True, check=True)
    assert (
        config.read_text() == "PermitRootLogin no\nClientAliveInterval 180\nPermitRootLogin yes\nUsePAM yes\n"
    )
    assert config.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["sshd_config"]
    assert "20-sshd-drop-ins" not in [script.name for script in make("rhel-9").scripts]


class Registration:
    """The first start of a machine with the layer `updates-spacewalk`, with stand-ins for the programs that
    would talk to a server; they write down what they are asked.
    """

    def __init__(self, root: Path, tree: RecipeTree) -> None:
        layer = IMAGES / "layers" / "updates-spacewalk.yaml"
        tree.layer("updates-spacewalk", layer.read_text(encoding="utf-8"))
        changes = {"[base]": "[base, updates-spacewalk]"}
        made = plan(load(tree.demo("", **changes)), version="9.20261122.0", source_date_epoch=0)
        files = {file.path: file for file in made.files}
        assert files["/usr/libexec/register-updates"].mode == 0o755
        self.texts = [file.content for file in files.values()]
        self.program = files["/usr/libexec/register-updates"].content
        self.conf = root / "register-updates.conf"
        self.asked = root / "asked"
        self.bin = root / "bin"
        self.bin.mkdir()
        self.stand_in(
            "curl", 'while [ "$1" != --output ]; do shift; done\necho "echo bootstrap >>$ASKED" >"$2"'
        )
        self.stand_in("subscription-manager", "")
        self.stand_in("install", "")

    def stand_in(self, name: str, more: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"$ASKED"\n{more}\n')
        path.chmod(0o755)

    def start(self, conf: str) -> int:
        self.conf.write_text(conf)
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "ASKED": str(self.asked),
            "REGISTER_UPDATES_CONF": str(self.conf),
        }
        command = ["/bin/sh", "-s"]
        return subprocess.run(command, input=self.program, text=True, env=environment, check=False).returncode


@pytest.fixture
def registration(tmp_path_factory: pytest.TempPathFactory, tree: RecipeTree) -> Registration:
    return Registration(tmp_path_factory.mktemp("machine"), tree)


def test_a_machine_registers_once_and_keeps_no_key(registration: Registration) -> None:
    assert registration.start("KIND=katello\nSERVER=s.example\nORG=1\nKEY=web\n") == 0
    asked = registration.asked.read_text()
    assert "https://s.example/pub/katello-server-ca.crt" in asked
    assert "subscription-manager register --org=1 --activationkey=web\n" in asked
    assert not registration.conf.exists()


def test_a_bootstrap_script_is_fetched_by_tls_only(registration: Registration) -> None:
    assert registration.start("KIND=uyuni\nSERVER=s.example\nCA=/etc/own-ca.pem\nSCRIPT=web.sh\n") == 0
    asked = registration.asked.read_text()
    assert "--proto =https" in asked
    assert "--cacert /etc/own-ca.pem" in asked
    assert "https://s.example/pub/bootstrap/web.sh\nbootstrap\n" in asked
    assert not registration.conf.exists()


@pytest.mark.parametrize("conf", ["KIND=katello\nSERVER=s\n", "KIND=other\nSERVER=s\n", "SERVER=s\n"])
def test_a_registration_that_fails_is_tried_again(registration: Registration, conf: str) -> None:
    assert registration.start(conf) != 0
    assert registration.conf.exists()


def _script(made: Plan, name: str) -> str:
    (found,) = [script.content for script in made.scripts if script.name == name]
    return found


def _file(made: Plan, path: str) -> str:
    (found,) = [file.content for file in made.files if file.path == path]
    return found
