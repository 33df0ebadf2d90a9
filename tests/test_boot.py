"""XFS boots on BIOS and with Secure Boot; two machines of one image are two machines.

A machine that runs already is certified by its address; a new kernel comes up again.

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
    library_image: Artefacts, workspace: Workspace, tmp_path: Path
) -> None:
    image = library_image.image
    before = digest_file(image)
    size_mib = (image.stat().st_size - 512 >> 20) + 1024
    acceleration = probe(cache=workspace.cache)
    sharing = side_by_side(acceleration, memory_mib=3072)

    def identity(firmware: Firmware) -> set[str]:
        with boot(
            image,
            firmware=firmware,
            work=tmp_path / firmware,
            logs=tmp_path,
            acceleration=acceleration,
            cpus=sharing.cpus,
            disk_mib=size_mib,
            hostname=f"first-{firmware}",
        ) as machine:
            process = machine.process
            seen = machine.run(
                "findmnt -no FSTYPE /; findmnt -no FSTYPE /boot;"
                " test -d /sys/firmware/efi && echo uefi || echo bios; /usr/sbin/getenforce;"
                " systemctl is-system-running --wait; systemctl --failed --plain --no-legend",
                timeout=300,
            )
            assert seen.stdout.split() == ["xfs", "xfs", firmware.split("-")[0], "Enforcing", "running"]
            assert int(machine.run(["lsblk", "-bdno", "SIZE", "/dev/vda"]).stdout) == size_mib << 20
            found = set(_digests(machine, *_SECRETS, _SEED))
            if firmware == "bios":
                _is_provisioned(machine)
                machine.reboot()
                assert process.returncode == 0 and machine.process.pid != process.pid
                assert set(_digests(machine, *_SECRETS)) < found, "a restart made another machine"
                process = machine.process
            else:
                _trusts_its_launch(machine)
            machine.run("sudo touch /root/written-by-the-test", check=True)
        assert process.returncode == 0, "the guest powered itself off"
        assert list((tmp_path / firmware).iterdir()) == []
        assert "Linux version" in (tmp_path / f"serial-{firmware}.log").read_text(errors="replace")
        return found

    firmwares: tuple[Firmware, ...] = ("bios", "uefi-secure")
    with ThreadPoolExecutor(max_workers=sharing.guests) as pool:
        one, other = pool.map(identity, firmwares)
    assert not one & other, "two machines of one image share an identity"
    assert digest_file(image) == before, "booting changed the image"


def _is_provisioned(machine: Machine) -> None:
    """By the data source that Azure uses, and reported to its wire server; nothing else can be reached."""
    assert machine.run(["id", "-un"]).stdout.strip() == "cloud-user"
    assert machine.run(["sudo", "-n", "id", "-u"], check=True).stdout.strip() == "0"
    assert machine.run(["hostname"]).stdout.strip() == "first-bios"
    assert machine.run(["cloud-init", "query", "cloud_name"]).stdout.strip() == "azure"
    assert machine.run(["ip", "route", "show", "default"]).stdout == ""
    # Words reach the program as they are, whatever the shell thinks of them; a text is a shell line.
    assert machine.run(["printf", "%s", "$HOME; a  b'c"]).stdout == "$HOME; a  b'c"
    assert machine.run("exit 3").returncode == 3


def _trusts_its_launch(machine: Machine) -> None:
    """The signed chain from firmware to kernel, and a TPM."""
    kernel = machine.run(["sudo", "dmesg"], check=True).stdout
    assert "Secure boot enabled" in kernel and "Kernel is locked down from EFI Secure Boot" in kernel
    assert machine.run(["test", "-c", "/dev/tpmrm0"]).returncode == 0


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
def test_a_machine_is_certified_by_its_address_and_a_new_kernel_comes_up(
    sample_image: Artefacts, workspace: Workspace, sample_repository: SampleRepository, tmp_path: Path
) -> None:
    with boot(
        sample_image.image,
        firmware="bios",
        work=tmp_path,
        logs=tmp_path,
        acceleration=probe(cache=workspace.cache),
    ) as machine:
        _certify_as_a_running_machine(machine, tmp_path)
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
