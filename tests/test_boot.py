"""XFS boots on both firmwares, and is certified as a machine that runs already; two machines of one image are
two machines; a new kernel comes up again.

ext4 boots on both firmwares while the sample is certified: see test_release.py.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder import run
from builder.sampledistro import SampleRepository
from builder.vm.acceleration import probe, side_by_side
from builder.vm.firmware import Firmware
from builder.vm.machine import Machine, boot
from builder.workspace import Artefacts, Workspace, digest_file

pytestmark = pytest.mark.system

# What Azure gives every machine and what the storage, the network and the console of Hyper-V need.
_DRIVERS = {"hv_vmbus", "hv_netvsc", "hv_storvsc", "hv_utils", "hyperv-keyboard", "pci-hyperv", "nvme"}
_SECRETS = (
    "/etc/machine-id",
    "/etc/ssh/ssh_host_ed25519_key",
    "/var/lib/NetworkManager/secret_key",
)
_SEED = "/var/lib/systemd/random-seed"  # another one after each restart


def test_xfs_boots_and_every_machine_is_its_own(
    xfs_image: Artefacts, workspace: Workspace, tmp_path: Path
) -> None:
    before = digest_file(xfs_image.image)
    acceleration = probe(cache=workspace.cache)
    sharing = side_by_side(acceleration, memory_mib=3072)

    def identity(firmware: Firmware) -> set[str]:
        with boot(
            xfs_image.image,
            firmware=firmware,
            work=tmp_path / firmware,
            logs=tmp_path,
            acceleration=acceleration,
            cpus=sharing.cpus,
        ) as machine:
            seen = machine.run(
                "findmnt -no FSTYPE /; findmnt -no FSTYPE /boot;"
                " test -d /sys/firmware/efi && echo uefi || echo bios; /usr/sbin/getenforce;"
                " systemctl is-system-running --wait; systemctl --failed --plain --no-legend",
                timeout=300,
            )
            assert seen.stdout.split() == ["xfs", "xfs", firmware, "Enforcing", "running"]
            found = set(_digests(machine, *_SECRETS, _SEED))
            if firmware == "uefi":
                _certify_as_a_running_machine(machine, tmp_path)
            if firmware == "bios":
                first = machine.process
                machine.reboot()
                assert first.returncode == 0 and machine.process.pid != first.pid
                assert set(_digests(machine, *_SECRETS)) < found, "a restart made another machine"
            return found

    firmwares: tuple[Firmware, ...] = ("bios", "uefi")
    with ThreadPoolExecutor(max_workers=sharing.guests) as pool:
        one, other = pool.map(identity, firmwares)
    assert not one & other, "two machines of one image share an identity"
    assert digest_file(xfs_image.image) == before, "booting changed the image"


def _certify_as_a_running_machine(machine: Machine, work: Path) -> None:
    """With nothing but its address, as a machine in Azure would be."""
    asked = run.run(["ssh", "-G", "-F", machine.ssh_config, "guest"], timeout=10).stdout
    known = dict(line.split(" ", 1) for line in asked.splitlines())["userknownhostsfile"]
    url = (
        f"ssh://{machine.user}@{machine.host}:{machine.port}?identity={machine.identity}&known-hosts={known}"
    )
    certify = [sys.executable, "-m", "builder.cli", "certify", "sample-9", "--hosts", url]
    run.run([*certify, "--out", work / "machine"], timeout=600)
    (results,) = (work / "machine").glob("*/results.json")
    judged = json.loads(results.read_text())
    verdicts = {item["requirement"]: item["verdict"] for item in judged["results"]}
    assert judged["source"] == "machine" and "error" not in verdicts.values()
    assert verdicts["dotnet.runtime-runs"] == verdicts["ccsp.selinux-enforcing"] == "pass"
    assert verdicts["azure.vhd-footer-cookie"] == verdicts["hygiene.no-host-keys"] == "not-provable-here"


def _digests(machine: Machine, *paths: str) -> list[str]:
    words = machine.run(["sudo", "sha256sum", *paths], check=True).stdout.split()
    assert words[1::2] == list(paths)
    return words[0::2]


@pytest.mark.slow
def test_a_kernel_that_is_installed_again_comes_up(
    sample_image: Artefacts, workspace: Workspace, sample_repository: SampleRepository, tmp_path: Path
) -> None:
    with boot(
        sample_image.image,
        firmware="bios",
        work=tmp_path,
        logs=tmp_path,
        acceleration=probe(cache=workspace.cache),
    ) as machine:
        _reinstall_the_kernel(machine, sample_repository)


def _reinstall_the_kernel(machine: Machine, repository: SampleRepository) -> None:
    """What an update does: the guest writes kernel package and initramfs anew, and restarts."""
    release = machine.run(["uname", "-r"], check=True).stdout.strip()
    initramfs = f"/boot/initramfs-{release}.img"
    written = machine.run(["sudo", "sha256sum", initramfs], check=True).stdout
    package = next(repository.path.glob("kernel-core-*.rpm"))
    run.run(["scp", "-q", "-F", machine.ssh_config, package, "guest:kernel-core.rpm"], timeout=120)
    machine.run("sudo rpm -U --replacepkgs kernel-core.rpm", check=True, timeout=300)
    machine.run("sudo dracut --force", check=True, timeout=900)
    assert machine.run(["sudo", "sha256sum", initramfs], check=True).stdout != written
    listed = machine.run(["sudo", "lsinitrd", initramfs], check=True, timeout=120).stdout
    modules = {Path(word).name.partition(".ko")[0] for word in listed.split() if ".ko" in word}
    builtin = machine.run(["cat", f"/lib/modules/{release}/modules.builtin"], check=True).stdout
    modules |= {Path(line).stem for line in builtin.splitlines()}
    assert modules >= _DRIVERS, f"lost: {sorted(_DRIVERS - modules)}"
    machine.reboot()
    state = machine.run(["systemctl", "is-system-running", "--wait"], timeout=300).stdout.strip()
    assert state == "running"
