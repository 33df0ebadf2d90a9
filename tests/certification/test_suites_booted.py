"""What the booted suites make of a guest's answers: good ones pass, one wrong answer turns them red.

The answers are those of real guests, written down; that the questions work on one is shown by the end-to-end
tests.
"""

# ruff: noqa: E501 - a table: one case a line
from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import booted_answers
import pytest
from booted_answers import FILES, LOG, PROVISIONED, Answers
from judged_tree import bound_tests

from certification import catalogue, testkit
from certification.checks import Checks, NotApplicable
from certification.expectations import Facts
from certification.views.guest import Guest

TESTS = bound_tests("booted")
KERNEL_LOG = LOG + "\nprintk: console [ttyS0] enabled"
SSHD = "port 22\nmaxauthtries 4\nlogingracetime 60\nhostbasedauthentication no\nignorerhosts yes\npermituserenvironment no\nx11forwarding no\n"
FACTS = Facts(os_id="rhel", version="9")
SYSCTL = "\n".join(f"{row['key']} = {row['values'][0]}" for row in FACTS.rows("settings", "sysctl"))
RUNTIMES = "Microsoft.NETCore.App 10.0.6 [/usr/lib64/dotnet/shared/Microsoft.NETCore.App]"
DOTNET: Answers = {r"list-runtimes": RUNTIMES}
CULTURES = "\n".join(f"{k}={v}" for k, v in testkit.FEATURES_EXPECTED["cultures"].items())
ZONES = "\n".join(f"{k}={v}" for k, v in testkit.FEATURES_EXPECTED["zones"].items())
STATUS = f"* os {'ab' * 32}.0\n    Version: 9.1\n    origin refspec: vendor:os/9\n"
SIGNED = 'commit ab\n\nFound 1 signature:\n\n  Signature made Mon using RSA key ID AA81A34A9A583DEE\n  Good signature from "a key"\n'
FSCK = "object fsck of 1 commits completed successfully - no errors found."
SECTORS = f"vda1/start:2048\nvda4/start:{4 << 20}\nvda1/size:8192\nvda4/size:{(14 << 30) // 512 - 34}"
IDENTITY = "0123456789abcdef" * 2

#: The answers of a good guest by requirement: a pattern in the command → what it prints (status 0), or (status, text).
GOOD: dict[str, Answers] = {
    "ccsp.cpu-vulnerabilities": {"proc/cmdline": "root=UUID=1 ro", "vulnerabilities": "\n".join(f"/sys/x/fault{n}:Mitigation: on" for n in range(9))},
    "ccsp.no-tech-preview-modules": {"journalctl -k": LOG, "tainted": "0"},
    "ccsp.sosreport-works": {"certification-": "status: 0\nsos_commands/memory\nsos_commands/date\nremoved"},
    "azure.serial-getty": {"proc/cmdline": "console=tty1 console=ttyS0", "is-active": "active", "journalctl -k": KERNEL_LOG},
    "azure.waagent-runtime": {"waagent --version": "WALinuxAgent-2.9.1.1 running on rhel 9\nGoal state agent: 2.9.1.1"},
    "azure.waagent-version": {"waagent --version": "WALinuxAgent-2.9.1.1 running on rhel 9\nGoal state agent: 2.9.1.1"},
    "azure.cloud-init-first-boot": {"until": "", "authorized_keys": "ssh-ed25519 AAAA someone"},
    "ccsp.os-version-consistent": {"rpm -q ": "redhat-release\npackage centos-release is not installed", "hostnamectl": "Operating System: Red Hat Enterprise Linux 9.6 (Plow)"},
    "ccsp.firewall-running": {"FirewallD1 state": 's "RUNNING"', "nft": "table inet firewalld " * 9},
    "ccsp.firewall-zone-ports": {"getServices": 'as 2 "ssh" "dhcpv6-client"\naas 0'},
    "azure.root-grows": {"findmnt -bnro": f"/dev/vda4 {13 << 30}", "lsblk": f"vda4 {14 << 30} part\nvda {16 << 30} disk", "grep -H": SECTORS},
    "hyperv.gen1-floppy": {"journalctl -k": LOG, "proc/modules": "ext4\nsd_mod"},
    "security.ssh-hardening": {"sshd -T": SSHD},
    "security.sysctl-hardening": {"sysctl": SYSCTL},
    "security.no-avc-denials": {"getenforce": "Enforcing", "-n 200": LOG, "avc": ""},
    "security.ipv6-firewall": {"hmprobe": "inside open\nv4 22 open\nv4 18080 closed\nv6 22 open\nv6 18080 closed"},
    "hygiene.first-boot-unique": {"cat /etc/machine-id": IDENTITY, "host_.*pub": "ssh-ed25519 AAAA", "boot_id": "b", "^cat .*secret_key": "k", "initiatorname": "/etc/iscsi/initiatorname.iscsi:InitiatorName=iqn.1994-05.com.redhat:1", "random-seed": "5eed", "btime": "1000", "stat -c": "1001 /etc/machine-id\n1002 /etc/ssh/ssh_host_ed25519_key\n1003 /var/lib/NetworkManager/secret_key"},
    "support.journal-triage": {"-n 200": LOG, "-p err": ""},
    "support.dnf-works": {"command -v dnf": "/usr/bin/dnf", "probe.rpm": "install: 0\na packaged file\nremove: 0\ngone\n"},
    "dotnet.globalization": {**DOTNET, "Features.dll cultures": CULTURES},
    "dotnet.tzdata": {**DOTNET, "Features.dll zones": ZONES},
    "dotnet.selinux-clean": {**DOTNET, "getenforce": "Enforcing", "logger": "", "systemd-run": ZONES, "journalctl": "1"},
    "atomic.deployment-booted": {"ostree-booted": "", "admin status": "* os abc.0\n  os abd.0"},
    "atomic.usr-readonly": {"touch": (1, ""), "findmnt": "ro,seclabel"},
    "atomic.tmp-permissions": {"stat": "1777 root:root /tmp\n1777 root:root /var/tmp"},
    "atomic.privileged-commands": {"nobody|true$": "", "command -v": "x", "undeploy|cancel|docker": (1, "")},
    "atomic.journal-fatal": {"journalctl": LOG},
    "atomic.greenboot": {"is-active": "inactive\nactive"},
    "atomic.commit-signature": {"admin status": STATUS, f"show .*-remote=vendor {'ab' * 32}": SIGNED},
    "atomic.fsck": {"certification-": f"status: 0\n{FSCK}\nremoved", "findmnt": "/dev/sda4[/ostree/deploy/os/deploy/x.0/usr]", "find /usr": ""},
}  # fmt: skip
GOOD["atomic.unique-machine-id"] = GOOD["hygiene.first-boot-unique"]
GOOD |= booted_answers.GOOD
BAD: list[tuple[str, Answers]] = [
    *booted_answers.BAD,
    ("ccsp.cpu-vulnerabilities", {"proc/cmdline": "root=UUID=1 ro mitigations=off"}),
    ("ccsp.cpu-vulnerabilities", {"vulnerabilities": ""}),
    ("ccsp.no-tech-preview-modules", {"journalctl -k": LOG + "\nTECH PREVIEW: nested may not be fully supported."}),
    ("ccsp.no-tech-preview-modules", {"tainted": str(1 << 29)}),
    ("ccsp.sosreport-works", {"certification-": "status: 1\nsos_commands/memory\nsos_commands/date\nremoved"}),
    ("ccsp.sosreport-works", {"certification-": "status: 0\nsos_commands/memory\nremoved"}),
    ("ccsp.sosreport-works", {"certification-": "status: 0\nsos_commands/memory\nsos_commands/date\n/var/tmp/x"}),
    ("ccsp.sosreport-works", {"certification-": (1, "")}),
    ("azure.serial-getty", {"is-active": (3, "inactive")}),
    ("azure.serial-getty", {"journalctl -k": LOG}),
    ("azure.serial-getty", {"proc/cmdline": "console=ttyS0 console=tty1"}),
    ("azure.waagent-runtime", {"waagent --version": (1, "ModuleNotFoundError: No module named 'azurelinuxagent'")}),
    ("azure.waagent-version", {"waagent --version": "WALinuxAgent-2.2.0 running on rhel 9\nGoal state agent: 2.2.0"}),
    ("azure.waagent-version", {"waagent --version": "WALinuxAgent-2.9.1.1 running on rhel 9"}),
    ("azure.cloud-init-first-boot", {"/run/cloud-init/result.json": None}),
    ("azure.cloud-init-first-boot", {"/run/cloud-init/result.json": '{"v1": {"errors": ["no network"]}}'}),
    ("azure.cloud-init-first-boot", {"/run/cloud-init/status.json": None}),
    ("azure.cloud-init-first-boot", {"/run/cloud-init/status.json": PROVISIONED.replace('"finished": 9.5', '"finished": null')}),
    ("azure.cloud-init-first-boot", {"/run/cloud-init/status.json": PROVISIONED.replace('"errors": []', '"errors": ["no disk"]', 1)}),
    ("azure.cloud-init-first-boot", {"authorized_keys": ""}),
    ("ccsp.os-version-consistent", {"rpm -q ": "package redhat-release is not installed\npackage centos-release is not installed"}),
    ("ccsp.os-version-consistent", {"rpm -q ": "redhat-release\ncentos-release"}),
    ("ccsp.os-version-consistent", {"hostnamectl": "Operating System: CentOS Stream 9"}),
    ("ccsp.firewall-running", {"FirewallD1 state": 's "FAILED"'}),
    ("ccsp.firewall-running", {"FirewallD1 state": (1, "The name org.fedoraproject.FirewallD1 was not provided by any .service files")}),
    ("ccsp.firewall-running", {"nft": ""}),
    ("ccsp.firewall-zone-ports", {"getServices": 'as 3 "ssh" "dhcpv6-client" "cockpit"\naas 0'}),
    ("ccsp.firewall-zone-ports", {"getServices": 'as 2 "ssh" "dhcpv6-client"\naas 1 2 "8080" "tcp"'}),
    ("ccsp.firewall-zone-ports", {"getServices": "as 0\naas 0"}),
    ("ccsp.firewall-zone-ports", {"getServices": ""}),
    ("azure.root-grows", {"grep -H": SECTORS.replace(str((14 << 30) // 512 - 34), str((10 << 30) // 512))}),
    ("azure.root-grows", {"findmnt -bnro": f"/dev/vda4 {8 << 30}"}),
    ("hyperv.gen1-floppy", {"journalctl -k": LOG + "\nblk_update_request: I/O error, dev fd0, sector 0"}),
    ("hyperv.gen1-floppy", {"proc/modules": "floppy"}),
    ("hyperv.gen1-floppy", {"journalctl -k": ""}),
    ("security.ssh-hardening", {"sshd -T": SSHD.replace("logingracetime 60", "logingracetime 120")}),
    ("security.sysctl-hardening", {"sysctl": SYSCTL.replace("kernel.randomize_va_space = 2", "kernel.randomize_va_space = 0")}),
    ("security.sysctl-hardening", {"sysctl": ""}),
    ("security.no-avc-denials", {"avc": "type=AVC msg=audit(900.2:3): avc:  denied  { read } for comm=x"}),
    ("security.no-avc-denials", {"getenforce": "Permissive"}),
    ("security.no-avc-denials", {"-n 200": ""}),
    ("security.ipv6-firewall", {"hmprobe": "inside open\nv4 22 open\nv4 18080 closed\nv6 22 open\nv6 18080 open"}),
    ("security.ipv6-firewall", {"hmprobe": "v4 22 closed\nv4 18080 closed\nv6 22 closed\nv6 18080 closed"}),
    ("hygiene.first-boot-unique", {"cat /etc/machine-id": "uninitialized"}),
    ("hygiene.first-boot-unique", {"host_.*pub": (1, "")}),
    ("hygiene.first-boot-unique", {"random-seed": (1, "")}),
    ("hygiene.first-boot-unique", {"stat -c": "10 /etc/machine-id\n1002 /etc/ssh/ssh_host_ed25519_key\n1003 /var/lib/NetworkManager/secret_key"}),
    ("atomic.unique-machine-id", {"cat /etc/machine-id": "uninitialized"}),
    ("support.journal-triage", {"-p err": "900.123456 host kernel: something broke"}),
    ("support.journal-triage", {"-n 200": ""}),
    ("support.dnf-works", {"probe.rpm": "install: 1\nremove: 1\ngone\n"}),
    ("support.dnf-works", {"probe.rpm": "install: 0\na packaged file\nremove: 0\n/usr/share/hallmark-certification-probe\n"}),
    ("dotnet.globalization", {"Features.dll cultures": (134, "Couldn't find a valid ICU package")}),
    ("dotnet.globalization", {"Features.dll cultures": CULTURES.replace("1.234.567,89", "1,234,567.89")}),
    ("dotnet.tzdata", {"Features.dll zones": "utc=0"}),
    ("dotnet.openssl", {**DOTNET, "Features.dll crypto": (134, "No usable version of libssl was found")}),
    ("dotnet.selinux-clean", {"journalctl": "1\navc:  denied  { execmem } for comm=dotnet"}),
    ("dotnet.selinux-clean", {"journalctl": "0"}),
    ("dotnet.selinux-clean", {"systemd-run": (1, "")}),
    ("atomic.deployment-booted", {"ostree-booted": (1, "")}),
    ("atomic.deployment-booted", {"admin status": "  os abc.0"}),
    ("atomic.usr-readonly", {"touch": ""}),
    ("atomic.usr-readonly", {"findmnt": "rw,seclabel"}),
    ("atomic.tmp-permissions", {"stat": "755 root:root /tmp\n1777 root:root /var/tmp"}),
    ("atomic.privileged-commands", {"undeploy|cancel|docker": ""}),
    ("atomic.journal-fatal", {"journalctl": LOG + "\nx[1]: segfault at 0 ip 0"}),
    ("atomic.journal-fatal", {"journalctl": ""}),
    ("atomic.greenboot", {"is-active": "inactive\nfailed"}),
    ("atomic.fsck", {"certification-": "status: 1\nerror: Repository corruption encountered\nremoved"}),
    ("atomic.fsck", {"certification-": f"status: 0\n{FSCK.replace('of 1', 'of 0')}\nremoved"}),
    ("atomic.fsck", {"certification-": (1, "")}),
    ("atomic.commit-signature", {f"show .*-remote=vendor {'ab' * 32}": SIGNED.replace("Good", "BAD")}),
    ("atomic.commit-signature", {f"show .*-remote=vendor {'ab' * 32}": (1, "error: GPG: Unable to complete signature verification")}),
    ("atomic.commit-signature", {"admin status": STATUS.replace("*", " ")}),
    ("atomic.commit-signature", {"admin status": STATUS.replace("vendor:os/9", "unknown origin")}),
    ("atomic.fsck", {"find /usr": "/usr/bin/added"}),
]  # fmt: skip


_made: dict[str, bytes] = {}


class Scripted:
    """A testinfra host that answers from a table; it knows no question that isn't in it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = {key: answer for key, answer in answers.items() if not key.startswith("/")}
        files = {**FILES, **{key: answer for key, answer in answers.items() if key.startswith("/")}}
        identity = answers.get("cat /etc/machine-id")
        files |= {"/etc/machine-id": identity} if isinstance(identity, str) else {}

        def read(path: str) -> bytes | None:
            content = files.get(path)
            return content.encode() if isinstance(content, str) else None

        self.backend = SimpleNamespace(read_bytes=read, glob=lambda pattern: [], made=self._make)

    @staticmethod
    def _make(name: str, make: Callable[[], bytes]) -> bytes:
        # A program is compiled once for all cases.
        return _made[name] if name in _made else _made.setdefault(name, make())

    def run(self, command: str, *words: str, **_: Any) -> SimpleNamespace:
        command = command % words if words else command
        for pattern, answer in self._answers.items():
            if answer is not None and re.search(pattern, command):
                status, output = (0, answer) if isinstance(answer, str) else answer
                return SimpleNamespace(rc=status, stdout=output, stderr=output if status else "")
        raise AssertionError(f"no answer to {command[:200]}")


def _judge(identifier: str, answers: Answers, tmp_path: Path) -> Checks:
    image = tmp_path / "image.vhd"
    with image.open("wb") as stream:
        stream.truncate(12 << 30)
    check = Checks()
    given = {
        "guest": Guest(Scripted(answers), booted=True),
        "facts": FACTS,
        "hallmark": SimpleNamespace(image=image),
        "look_began": 1000.0,
        "today": date(2026, 11, 22),
        "check": check,
    }
    function = TESTS[identifier]
    function(**{name: given[name] for name in inspect.signature(function).parameters})
    return check


@pytest.mark.parametrize("identifier", sorted(GOOD))
def test_good_answers_pass(identifier: str, tmp_path: Path) -> None:
    check = _judge(identifier, GOOD[identifier], tmp_path)
    assert check.made and not check.failed, [(i.what, i.expected, i.observed) for i in check.failed]


@pytest.mark.parametrize(("identifier", "wrong"), BAD, ids=[f"{name}-{n}" for n, (name, _) in enumerate(BAD)])
def test_one_wrong_answer_turns_it_red(identifier: str, wrong: Answers, tmp_path: Path) -> None:
    assert _judge(identifier, {**GOOD.get(identifier, {}), **wrong}, tmp_path).failed


def test_every_requirement_of_a_running_guest_can_fail() -> None:
    """Its digest before and after is what the judge compares (``test_judge``); the others are in the tables."""
    elsewhere = {"support.image-not-mutated"}
    entries = catalogue.load()
    known = {identifier for identifier in TESTS if not entries[identifier].optional}
    assert {identifier for identifier, _ in BAD} | elsewhere >= known
    assert set(GOOD) | {"dotnet.openssl"} | elsewhere >= known


def test_what_the_look_itself_caused_is_not_the_images_doing(tmp_path: Path) -> None:
    later = {
        "avc": "1001.5 host audit[7]: AVC avc:  denied  { read }\ntype=AVC msg=audit(1001.2:3): avc:  denied"
    }
    assert not _judge(
        "security.no-avc-denials", {**GOOD["security.no-avc-denials"], **later}, tmp_path
    ).failed
    error = {"-p err": "1000.5 host probe: failed"}
    assert not _judge("support.journal-triage", {**GOOD["support.journal-triage"], **error}, tmp_path).failed


def test_a_disk_of_the_images_size_tells_nothing_about_growing(tmp_path: Path) -> None:
    answers = {**GOOD["azure.root-grows"], "lsblk": f"vda4 {11 << 30} part\nvda {12 << 30} disk"}
    with pytest.raises(NotApplicable, match="no more than the image"):
        _judge("azure.root-grows", answers, tmp_path)


@pytest.mark.parametrize("identifier", ["dotnet.globalization", "dotnet.openssl", "dotnet.selinux-clean"])
def test_a_guest_without_dotnet_is_none_of_their_business(identifier: str, tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        _judge(identifier, {"list-runtimes": (127, ""), "rpm -qa": ""}, tmp_path)


def test_names_for_storage_are_compared_between_machines(tmp_path: Path) -> None:
    made = _judge("hygiene.first-boot-unique", GOOD["hygiene.first-boot-unique"], tmp_path).made
    (name,) = [check for check in made if "initiatorname" in check.what]
    assert name.unique and "iqn" not in name.observed, "its fingerprint only"
