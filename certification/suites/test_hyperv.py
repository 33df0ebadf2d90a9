"""What Hyper-V needs inside the guest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.errors import HallmarkError
from certification.checks import requirement
from certification.parse import binaries
from certification.parse.boot import argument_values

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest
    from certification.views.guest_boot import RamDisk

_DRIVER = re.compile(r"hv_.*|hyperv_.*|hid_hyperv|pci_hyperv.*")


@requirement("hyperv.modules-present")
def test_modules(guest: Guest, facts: Facts, check: Checks) -> None:
    _present(guest, check, facts.modules("hyperv"))


@requirement("hyperv.pci-passthrough")
def test_pci(guest: Guest, facts: Facts, check: Checks) -> None:
    _present(guest, check, facts.modules("pci"))


@requirement("hyperv.hv-sock")
def test_sockets(guest: Guest, facts: Facts, check: Checks) -> None:
    _present(guest, check, facts.modules("socket"))


def _present(guest: Guest, check: Checks, wanted: list[str]) -> None:
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")
    for kernel in guest.kernels:
        check.empty(
            f"modules missing in {kernel.version}", observed=[name for name in wanted if not kernel.has(name)]
        )


@requirement("hyperv.framebuffer")
def test_console(guest: Guest, facts: Facts, check: Checks) -> None:
    wanted = facts.modules("framebuffer")
    for kernel in guest.kernels:
        found = [name for name in wanted if kernel.has(name)]
        check.true(
            f"console driver of {kernel.version}",
            observed=bool(found),
            expected=" or ".join(wanted),
            otherwise="none",
        )
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")


def _main_ramdisks(guest: Guest, check: Checks) -> list[RamDisk]:
    disks = [disk for disk in guest.initramfs_files if disk.kind == "main"]
    check.true("initramfs files", observed=bool(disks), expected="at least one", otherwise="none")
    return disks


@requirement("hyperv.initramfs-drivers")
def test_initramfs_drivers(guest: Guest, facts: Facts, check: Checks) -> None:
    _drivers(guest, check, facts.modules("initramfs"))


@requirement("hyperv.initramfs-input")
def test_initramfs_input(guest: Guest, facts: Facts, check: Checks) -> None:
    _drivers(guest, check, facts.modules("initramfs_input"))


def _drivers(guest: Guest, check: Checks, wanted: list[str]) -> None:
    kernels = {kernel.version: kernel for kernel in guest.kernels}
    for disk in _main_ramdisks(guest, check):
        try:
            modules = guest.initramfs(disk.path).modules().get(disk.version, frozenset())
        except HallmarkError as error:
            check.record(disk.path, expected="can be unpacked", observed=error.what, ok=False)
            continue
        builtin = kernels[disk.version].builtin if disk.version in kernels else frozenset()
        missing = [name for name in wanted if name not in modules and name not in builtin]
        check.empty(f"drivers missing in {disk.path}", observed=missing)


@requirement("hyperv.initramfs-per-kernel")
def test_initramfs_for_each_kernel(guest: Guest, check: Checks) -> None:
    kernels = {kernel.version for kernel in guest.kernels}
    disks = {disk.version: disk for disk in _main_ramdisks(guest, check)}
    check.equal("kernels with an initramfs", expected=kernels, observed=set(disks))
    for version in sorted(kernels & set(disks)):
        found = guest.initramfs(disks[version].path).modules()
        check.equal(
            f"kernels whose modules are in {disks[version].path}", expected=[version], observed=sorted(found)
        )


@requirement("hyperv.initramfs-generic")
def test_initramfs_is_generic(guest: Guest, check: Checks) -> None:
    settings: dict[str, str] = {}
    for path, content in guest.dracut_configuration:
        for value in re.findall(r"^\s*hostonly=[\"']?(\w+)", content, re.M):
            settings[path] = value
    generic = "dracut-config-generic" in guest.package_names or "no" in settings.values()
    check.true(
        "dracut builds for any machine",
        observed=generic,
        otherwise="no dracut-config-generic and no hostonly=no",
    )
    check.empty(
        "files that set hostonly=yes", observed=[path for path, value in settings.items() if value == "yes"]
    )
    for disk in _main_ramdisks(guest, check):
        archive = guest.initramfs(disk.path)
        waits = [
            name
            for name, data in archive.small.items()
            if re.match(
                r"(usr/)?(lib/dracut/hooks/(initqueue/finished|emergency)/\S*devexists|etc/cmdline\.d/)", name
            )
            and re.search(rb"by-uuid|root=|/dev/(sd|vd|nvme|loop|mapper)", data)
        ]
        check.empty(f"waits for the build host's disks in {disk.path}", observed=waits)
        modules = archive.modules().get(disk.version, frozenset())
        check.at_least(f"kernel modules in {disk.path}", expected=10, observed=len(modules))


@requirement("hyperv.dracut-persistent")
def test_next_initramfs(guest: Guest, facts: Facts, check: Checks) -> None:
    named: set[str] = set()
    generic = False
    for path, content in guest.dracut_configuration:
        for quoted in re.findall(r"^\s*(?:add|force)_drivers\+?=\"([^\"]*)\"", content, re.M):
            named |= set(quoted.replace("-", "_").split())
            blanks = quoted.startswith(" ") and quoted.endswith(" ")
            check.true(f"blanks inside the quotes in {path}", observed=blanks, otherwise=f'"{quoted}"')
        generic |= bool(re.search(r"^\s*hostonly=[\"']?no", content, re.M))
    missing = [name for name in facts.modules("initramfs") if name not in named]
    check.true(
        "the next initramfs has the drivers",
        observed=generic or not missing,
        expected="hostonly=no or add_drivers",
        otherwise=f"not named: {', '.join(missing)}",
    )


@requirement("hyperv.modules-not-disabled")
def test_nothing_disabled(guest: Guest, check: Checks) -> None:
    # Hyper-V's framebuffer driver may be switched off in favour of hyperv_drm.
    off = {
        name: path
        for name, path in guest.disabled_modules.items()
        if _DRIVER.fullmatch(name) and name != "hyperv_fb"
    }
    check.empty("drivers disabled by modprobe.d", observed=[f"{name} ({path})" for name, path in off.items()])
    check.true("boot entries", observed=bool(guest.command_lines), expected="at least one", otherwise="none")
    for origin, arguments in guest.command_lines:
        values = argument_values(arguments, "modprobe.blacklist") + argument_values(
            arguments, "rd.driver.blacklist"
        )
        names = [
            name for value in values for name in value.replace("-", "_").split(",") if _DRIVER.fullmatch(name)
        ]
        check.empty(f"drivers disabled in {origin}", observed=names)
    omitted = [
        f"{name} ({path})"
        for path, content in guest.dracut_configuration
        for quoted in re.findall(r"^\s*omit_drivers\+?=\"([^\"]*)\"", content, re.M)
        for name in quoted.replace("-", "_").split()
        if _DRIVER.fullmatch(name)
    ]
    check.empty("drivers left out of the initramfs", observed=omitted)


@requirement("hyperv.modules-signed")
def test_modules_signed(guest: Guest, facts: Facts, check: Checks) -> None:
    for kernel in guest.kernels:
        wanted = [*facts.modules("hyperv"), *facts.modules("pci")]
        paths = [kernel.modules[name] for name in wanted if name in kernel.modules]
        unsigned = [path for path in paths if not _signature(guest, path)]
        check.empty(f"Hyper-V drivers of {kernel.version} without a signature", observed=unsigned)
        check.at_least(f"drivers of {kernel.version} looked at", expected=1, observed=len(paths))
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")


def _signature(guest: Guest, path: str) -> bytes | None:
    import lzma
    import zlib

    import zstandard

    data = guest.access.read_bytes(path) or b""
    if path.endswith(".xz"):
        data = lzma.decompress(data)
    elif path.endswith(".zst"):
        data = zstandard.ZstdDecompressor().decompress(data, max_output_size=64 << 20)
    elif path.endswith(".gz"):
        data = zlib.decompress(data, 31)
    return binaries.module_signature(data)


@requirement("hyperv.no-external-lis")
def test_no_separate_bundle(guest: Guest, facts: Facts, check: Checks) -> None:
    found = guest.package_names & set(facts.package_names("external_hyperv"))
    check.empty("packages of Microsoft's driver bundle", observed=sorted(found))
    foreign = [p.nevra for p in guest.packages if p.name.startswith("hyperv") and "Microsoft" in p.vendor]
    check.empty("integration daemons of Microsoft", observed=foreign)
    strange = [
        path
        for kernel in guest.kernels
        for name, path in kernel.modules.items()
        if _DRIVER.fullmatch(name) and re.search(r"/(extra|updates|weak-updates)/", path)
    ]
    check.empty("drivers that replace the kernel's", observed=strange)


@requirement("hyperv.daemons-installed")
def test_daemons(guest: Guest, facts: Facts, check: Checks) -> None:
    wanted = facts.package_names("hyperv_daemons")
    check.contains_all("packages", expected=wanted, observed=guest.package_names)
    versions = {f"{p.version}-{p.release}" for name in wanted for p in guest.installed(name)}
    check.equal("versions", expected=1, observed=len(versions))


@requirement("hyperv.daemons-enabled")
def test_daemons_start(guest: Guest, check: Checks) -> None:
    rules = "\n".join(
        guest.content(path)
        for place in ("/etc/udev/rules.d", "/usr/lib/udev/rules.d")
        for path in guest.glob(f"{place}/*.rules")
        if "hv" in path or "hyperv" in path
    )
    for name in ("hypervkvpd.service", "hypervvssd.service"):
        unit = guest.unit(name)
        activated = unit.state not in ("masked", "missing") and name in rules
        check.true(
            f"{name} starts",
            observed=unit.starts or activated,
            expected="enabled, or started by udev",
            otherwise=unit.state,
        )


@requirement("hyperv.kernel-config")
def test_kernel_options(guest: Guest, facts: Facts, check: Checks) -> None:
    check.true("kernels", observed=bool(guest.kernels), expected="at least one", otherwise="none")
    for kernel in guest.kernels:
        values = guest.kernel_options(kernel.version)
        for option, allowed in facts.kernel_options:
            check.one_of(
                f"{option} of {kernel.version}", expected=allowed, observed=values.get(option, "not set")
            )
