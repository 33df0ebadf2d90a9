"""Examines the host: what Hallmark needs, what is there, and what to do about each miss.

Everything is tried, not guessed: programs are run, libguestfs is launched, namespaces are made, and the
registries are asked.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from builder import log, memory, run
from builder.doctor.finding import Finding, last_words
from builder.doctor.registries import registries
from builder.errors import HallmarkError
from builder.vm import firmware
from builder.vm.acceleration import Acceleration, probe
from builder.workspace import Workspace

__all__ = ["Finding", "examine", "report"]

_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class _Tool:
    """A program: how to ask its version, what Hallmark does with it, and its package on Debian and Fedora."""

    name: str
    version: tuple[str, ...]
    use: str
    debian: str
    fedora: str
    required: bool = True


_TOOLS = (
    _Tool("dnf", ("--version",), "makes root filesystems", "dnf", "dnf"),
    _Tool("rpm", ("--version",), "reads package databases", "rpm", "rpm"),
    _Tool("sudo", ("-V",), "diskimage-builder calls it", "sudo", "sudo"),
    _Tool("kpartx", ("-h",), "diskimage-builder looks for it", "kpartx", "kpartx"),
    _Tool("unshare", ("-V",), "keeps builds in namespaces", "util-linux", "util-linux"),
    _Tool("tar", ("--version",), "packs root filesystems", "tar", "tar"),
    _Tool("setfattr", ("--version",), "writes SELinux labels", "attr", "attr"),
    _Tool("faketime", ("--version",), "makes builds reproducible", "faketime", "libfaketime"),
    _Tool("mke2fs", ("-V",), "makes ext4 filesystems", "e2fsprogs", "e2fsprogs"),
    _Tool("mkfs.xfs", ("-V",), "makes XFS filesystems", "xfsprogs", "xfsprogs"),
    _Tool("mkfs.vfat", ("--help",), "makes EFI system partitions and seeds", "dosfstools", "dosfstools"),
    _Tool("mcopy", ("-V",), "fills FAT filesystems", "mtools", "mtools"),
    _Tool("sgdisk", ("-V",), "cross-checks partition tables in tests", "gdisk", "gdisk", required=False),
    _Tool("qemu-system-x86_64", ("--version",), "boots images", "qemu-system-x86", "qemu-system-x86-core"),
    _Tool("swtpm", ("--version",), "is the TPM of booted images", "swtpm", "swtpm"),
    _Tool("qemu-img", ("--version",), "makes overlays, cross-checks VHDs", "qemu-utils", "qemu-img"),
    _Tool("ostree", ("--version",), "makes and deploys commits", "ostree", "ostree", required=False),
    _Tool("skopeo", ("--version",), "brings containers to registries", "skopeo", "skopeo", required=False),
    _Tool("ssh", ("-V",), "logs in to booted images", "openssh-client", "openssh-clients"),
    _Tool("7z", ("--help",), "cross-checks VHDs in tests", "p7zip-full", "p7zip-plugins", required=False),
    _Tool("mcs", ("--version",), "compiles the managed test program", "mono-mcs", "mono-core"),
)
# What one build and its certification need at their peak, measured on the sample (GiB); the cache holds the
# sample distribution, its packages and Azurite. The appliance of libguestfs is kept in /var/tmp.
_SPACE = (("build directory", 5.0), ("package cache", 2.5), ("/var/tmp", 1.5))
# Two guests of 2 GiB at once and libguestfs's appliance.
_MEMORY_GIB = 5.0
_LAUNCH_DEADLINE = 180.0
_LAUNCH = """
import os, sys, tempfile, guestfs
g = guestfs.GuestFS(python_return_dict=True)
g.set_backend("direct")
if "--force-tcg" in sys.argv:
    g.set_backend_settings(["force_tcg"])
with tempfile.TemporaryDirectory() as directory:
    disk = os.path.join(directory, "disk")
    with open(disk, "wb") as stream:
        stream.truncate(1 << 20)
    g.add_drive_opts(disk, format="raw", readonly=True)
    g.launch()
    version = g.version()
    assert g.blockdev_getsize64("/dev/sda") == 1 << 20
    g.close()
print("%d.%d.%d" % (version["major"], version["minor"], version["release"]))
"""


def examine(*, workspace: Workspace) -> list[Finding]:
    """Look at everything; takes some 30 s under emulation, most of it libguestfs's launch.

    Never raises for a miss: a miss is a finding.
    """
    acceleration = probe(cache=workspace.cache, refresh=True)
    checks: list[Callable[[], list[Finding]]] = [
        lambda: [_acceleration(acceleration)],
        lambda: [_privileges(), _namespaces(), _architecture()],
        _tools,
        _python_programs,
        lambda: _guestfs(acceleration),
        _firmware,
        lambda: [*_space(workspace), _memory()],
        registries,
    ]
    # Side by side: the launch is most of the time, the registries are waiting.
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [finding for findings in pool.map(lambda check: check(), checks) for finding in findings]


def report(findings: Sequence[Finding]) -> int:
    """Print the findings, worst last, with their remedies; 1 if a build would fail, else 0."""
    marks = {True: "ok  ", None: "note", False: "MISS"}
    for finding in findings:
        log.event("finding", **asdict(finding))
    for finding in sorted(findings, key=lambda finding: {True: 0, None: 1, False: 2}[finding.ok]):
        line = f"{marks[finding.ok]} {finding.name}: {finding.detail}"
        say = log.warn if finding.ok is False else log.info
        say(line + (f"\n       remedy: {finding.remedy}" if finding.remedy else ""))
    misses = sum(finding.ok is False for finding in findings)
    log.info(
        f"{misses} of {len(findings)} checks failed" if misses else "this host can build, boot and certify"
    )
    return 1 if misses else 0


def _acceleration(acceleration: Acceleration) -> Finding:
    if acceleration.kind == "kvm":
        return Finding("acceleration", True, acceleration.reason)
    remedy = "guests run emulated, some ten times slower; a host with working KVM needs no change in Hallmark"
    return Finding("acceleration", None, acceleration.reason, remedy)


def _privileges() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", True, "running as root")
    return Finding(
        "root",
        False,
        f"running as user id {os.geteuid()}",
        "builds install packages into a new root filesystem: run with sudo",
    )


def _namespaces() -> Finding:
    """A mount in a namespace of its own: what a build does first, and what containers often forbid."""
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        run.run(argv, timeout=20)
    except HallmarkError as error:
        return Finding(
            "namespaces",
            False,
            f"cannot mount in a namespace of its own: {last_words(error)}",
            "run as root on a virtual or real machine, or in a privileged container",
        )
    loop = Path("/dev/loop-control")
    if not loop.exists():
        return Finding("namespaces", False, f"{loop} does not exist", "load the loop module: modprobe loop")
    return Finding("namespaces", True, "mounts in own namespaces work, loop devices are there")


def _architecture() -> Finding:
    machine = platform.machine()
    if machine == "x86_64":
        return Finding("architecture", True, machine)
    return Finding("architecture", False, machine, "x86-64 images are built on x86-64 hosts")


def _tools() -> list[Finding]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(_tool, _TOOLS))


def _tool(tool: _Tool) -> Finding:
    try:
        program = run.find_program(tool.name)
    except HallmarkError:
        return Finding(
            tool.name,
            False if tool.required else None,
            f"not installed ({tool.use})",
            f"./ci/nox installs it: package {tool.debian} (Debian, Ubuntu) or {tool.fedora} (Fedora, EL)",
        )
    try:
        result = run.run([program, *tool.version], check=False, timeout=30)
    except HallmarkError as error:
        return Finding(
            tool.name, False, f"{program} does not run: {last_words(error)}", f"reinstall {tool.debian}"
        )
    if result.returncode in (126, 127) or result.returncode < 0:
        return Finding(
            tool.name,
            False,
            f"{program} does not run (status {result.returncode})",
            f"reinstall the package {tool.debian} (Debian, Ubuntu) or {tool.fedora} (Fedora, EL)",
        )
    version = re.search(r"\d+(?:\.\d+)+", result.stdout + result.stderr)
    return Finding(tool.name, True, f"{version.group() if version else 'version unknown'} ({program})")


def _python_programs() -> list[Finding]:
    """The programs that come with Hallmark's own Python dependencies, beside this interpreter."""
    beside = Path(sys.executable).parent
    found = shutil.which("disk-image-create", path=f"{beside}:{os.environ.get('PATH', '')}")
    if found is None:
        return [
            Finding(
                "disk-image-create",
                False,
                f"not installed beside {sys.executable}",
                "pip install diskimage-builder in this environment; ./ci/nox makes the environment",
            )
        ]
    return [Finding("disk-image-create", True, found)]


def _guestfs(acceleration: Acceleration) -> list[Finding]:
    binding = _binding()
    if not binding.ok:
        return [binding]
    argv = [sys.executable, "-c", _LAUNCH, *(["--force-tcg"] if acceleration.force_tcg else [])]
    began = time.monotonic()
    try:
        version = run.run(argv, timeout=_LAUNCH_DEADLINE).stdout.strip()
    except HallmarkError as error:
        remedy = (
            "libguestfs-test-tool says more; the usual causes are no kernel below /boot (install "
            "linux-image-cloud-amd64), one that only root can read, or a full /var/tmp"
        )
        return [binding, Finding("libguestfs launch", False, last_words(error), remedy)]
    seconds = time.monotonic() - began
    how = "emulated" if acceleration.force_tcg else "KVM"
    return [binding, Finding("libguestfs launch", True, f"version {version}, {seconds:.0f} s ({how})")]


def _binding() -> Finding:
    """Whether this interpreter can import libguestfs's binding, a compiled module of one Python version."""
    name = "libguestfs binding"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    try:
        run.run([sys.executable, "-c", "import guestfs, libguestfsmod"], timeout=60)
    except HallmarkError as error:
        there = sorted(
            path
            for root in ("/usr/lib/python3", "/usr/lib64", "/usr/lib")
            for path in Path(root).glob("**/libguestfsmod*.so")
        )
        if not there:
            return Finding(
                name,
                False,
                "no binding is installed on this system",
                "./ci/nox installs it: python3-guestfs (Debian, Ubuntu) or python3-libguestfs (Fedora, EL)",
            )
        return Finding(
            name,
            False,
            f"{there[0]} cannot be imported by {sys.executable} (needs the suffix {suffix}):"
            f" {last_words(error)}",
            "it is compiled for the system's Python: make the environment with /usr/bin/python3 by ./ci/nox",
        )
    return Finding(name, True, f"imports into Python {platform.python_version()} ({suffix})")


def _firmware() -> list[Finding]:
    findings = []
    for kind in firmware.FIRMWARES:
        try:
            files = firmware.locate(kind)
        except HallmarkError as error:
            findings.append(Finding(f"firmware {kind}", False, error.what, error.hint or ""))
        else:
            findings.append(Finding(f"firmware {kind}", True, str(files.code or "part of QEMU")))
    return findings


def _space(workspace: Workspace) -> list[Finding]:
    """Free space against the estimate, added up where two places share a filesystem."""
    places = dict(
        zip((name for name, _ in _SPACE), (workspace.build, workspace.cache, Path("/var/tmp")), strict=True)
    )
    needs: dict[int, tuple[Path, float, list[str]]] = {}
    for name, need in _SPACE:
        path = places[name]
        device = path.stat().st_dev
        first, sum_, names = needs.get(device, (path, 0.0, []))
        needs[device] = (first, sum_ + need, [*names, name])
    findings = []
    for path, need, names in needs.values():
        free = shutil.disk_usage(path).free / _GIB
        detail = f"{free:.1f} GiB free, {need:.1f} GiB estimated ({', '.join(names)} at {path})"
        remedy = "free space there, or choose other places with HALLMARK_BUILD_DIR and HALLMARK_CACHE_DIR"
        findings.append(Finding("space", free >= need, detail, "" if free >= need else remedy))
    return findings


def _memory() -> Finding:
    available = memory.available() / _GIB
    if not available:
        return Finding("memory", None, "the kernel does not say how much is available")
    detail = f"{available:.1f} GiB available, {_MEMORY_GIB:.1f} GiB estimated"
    if available >= _MEMORY_GIB:
        return Finding("memory", True, detail)
    # Half is enough for one guest at a time; below it the guests do not start.
    ok = None if available >= _MEMORY_GIB / 2 else False
    return Finding("memory", ok, detail, "end other programs, or add memory")
