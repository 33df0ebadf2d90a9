"""Configuration that the typed parts of a plan stand for: generated text, nothing else.

Sources: GRUB and BLS layout as Enterprise Linux 9 installs it, /etc/default/grub as Red Hat's own Azure
images have it (osbuild/image-builder, data/distrodefs/rhel-9/imagetypes.yaml).
"""

from __future__ import annotations

from builder.recipe.model import Plan

__all__ = [
    "BIOS_MODULES",
    "configuration",
    "dracut_compressor",
    "early_cfg",
    "esp_cfg",
    "fstab",
    "grub_head",
    "grubenv",
    "kernel_options",
]

#: GRUB's modules in the BIOS core image; those that a GRUB doesn't have are left out.
BIOS_MODULES = (
    *("biosdisk", "part_gpt", "part_msdos", "ext2", "xfs", "fat", "lvm"),
    *("search", "search_fs_uuid", "search_label", "configfile", "normal", "linux", "serial", "terminal"),
    *("echo", "test", "true", "loadenv", "gzio", "ls", "cat", "reboot", "halt", "sleep", "minicmd"),
    *("blscfg", "increment"),
)

_SERIAL = "serial --speed=115200 --unit=0 --word=8 --parity=no --stop=1"


def kernel_options(plan: Plan) -> str:
    """The kernel command line, ``root=`` and ``ro`` included."""
    arguments = [argument for argument in plan.kernel.arguments if argument != "ro"]
    return " ".join((f"root=UUID={plan.identifiers.root_fs}", "ro", *arguments))


def configuration(plan: Plan) -> dict[str, str]:
    """Files of the image by absolute path, for the typed parts of the plan."""
    everywhere = {
        # In os-release's words; that file itself belongs to the distribution's package.
        "/etc/image-release": f"IMAGE_ID={plan.recipe}\nIMAGE_VERSION={plan.version}\n",
        "/etc/locale.conf": f"LANG={plan.locale.language}\n",
    }
    if plan.container is not None:
        return everywhere
    files = everywhere | {
        "/etc/default/grub": _default_grub(plan),
        "/etc/dracut.conf.d/50-hallmark.conf": _dracut_conf(plan),
        "/etc/selinux/config": f"SELINUX={plan.selinux.mode}\nSELINUXTYPE={plan.selinux.type}\n",
    }
    if not plan.composed:
        # They name this disk; a commit goes to many, and gets them where it is deployed.
        files |= {
            "/etc/fstab": fstab(plan),
            "/etc/kernel/cmdline": kernel_options(plan) + "\n",
            "/boot/grub2/grubenv": grubenv(),
        }
    presets = [
        *(f"disable {unit}" for unit in (*plan.services.disable, *plan.services.mask)),
        *(f"enable {unit}" for unit in plan.services.enable),
    ]
    if presets:
        # systemd applies presets on the first boot of an image without a machine id: they must say the same.
        files["/etc/systemd/system-preset/00-hallmark.preset"] = "\n".join(presets) + "\n"
    for module in plan.kernel.blacklist:
        files[f"/etc/modprobe.d/blacklist-{module}.conf"] = f"blacklist {module}\n"
    return files


def early_cfg(plan: Plan) -> str:
    """What the BIOS core image runs: find /boot by its UUID, go on with its configuration."""
    find = f"search.fs_uuid {plan.identifiers.boot_fs} root"
    return f"{find}\nset prefix=($root)/grub2\nconfigfile $prefix/grub.cfg\n"


def esp_cfg(plan: Plan) -> str:
    """The grub.cfg on the EFI system partition, as Enterprise Linux writes it."""
    return (
        f"search --no-floppy --fs-uuid --set=dev {plan.identifiers.boot_fs}\n"
        "set prefix=($dev)/grub2\n"
        "export prefix\n"
        "configfile $prefix/grub.cfg\n"
    )


def dracut_compressor(plan: Plan) -> str:
    """The compression command of the initramfs made here.

    dracut runs zstd at level 15: 12 s instead of 3 s, for an initramfs a tenth smaller. The image's own
    configuration keeps the plain name, so kernels installed later get dracut's default.
    """
    return "zstd -3 -q -T0" if plan.dracut.compress == "zstd" else plan.dracut.compress


def grub_head(plan: Plan) -> str:
    """The part of /boot/grub2/grub.cfg before the entries."""
    lines = [
        "# Written when the image was built; grub2-mkconfig makes an equivalent one.",
        f"search --no-floppy --fs-uuid --set=root {plan.identifiers.boot_fs}",
        "if [ -s $prefix/grubenv ]; then",
        "  load_env",
        "fi",
        'if [ -n "${saved_entry}" ]; then',
        '  set default="${saved_entry}"',
        "else",
        "  set default=0",
        "fi",
    ]
    if plan.bootloader.serial and plan.architecture != "aarch64":
        lines += [
            # A generation 2 machine need not have a serial port: keep the screen then.
            f"if {_SERIAL}; then",
            "  terminal_input serial console",
            "  terminal_output serial console",
            "fi",
        ]
    lines += [f"set timeout={plan.bootloader.timeout}", "set timeout_style=countdown", ""]
    return "\n".join(lines)


def _default_grub(plan: Plan) -> str:
    arguments = " ".join(argument for argument in plan.kernel.arguments if argument != "ro")
    lines = [
        f"GRUB_TIMEOUT={plan.bootloader.timeout}",
        "GRUB_TIMEOUT_STYLE=countdown",
        "GRUB_DISTRIBUTOR=\"$(sed 's, release .*$,,g' /etc/system-release)\"",
        "GRUB_DEFAULT=saved",
        "GRUB_DISABLE_SUBMENU=true",
        "GRUB_DISABLE_RECOVERY=true",
        # Entries as files came with 8.
        *(["GRUB_ENABLE_BLSCFG=true"] if plan.distribution.major >= 8 else []),
        f'GRUB_CMDLINE_LINUX="{arguments}"',
    ]
    if plan.bootloader.serial and plan.architecture == "aarch64":
        # The firmware's console is the serial port there (osbuild/image-builder, rhel-9 and rhel-10).
        lines.append('GRUB_TERMINAL="console"')
    elif plan.bootloader.serial:
        lines += ['GRUB_TERMINAL="serial console"', f'GRUB_SERIAL_COMMAND="{_SERIAL}"']
    return "\n".join(lines) + "\n"


def _dracut_conf(plan: Plan) -> str:
    lines = [
        # Built away from the machine that will boot it: anything host-specific drops hv_storvsc.
        'hostonly="no"',
        'hostonly_cmdline="no"',
        'reproducible="yes"',
        f'compress="{plan.dracut.compress}"',
    ]
    if plan.kernel.drivers:
        lines.append(f'add_drivers+=" {" ".join(plan.kernel.drivers)} "')
    if plan.dracut.omit:
        lines.append(f'omit_dracutmodules+=" {" ".join(plan.dracut.omit)} "')
    return "\n".join(lines) + "\n"


def fstab(plan: Plan) -> str:
    """/etc/fstab of the disk that the plan describes."""
    identifiers, filesystem = plan.identifiers, plan.disk.filesystem
    # XFS checks itself at mount; fsck.xfs does nothing.
    root_pass, boot_pass = (1, 2) if filesystem == "ext4" else (0, 0)
    return (
        f"UUID={identifiers.root_fs} / {filesystem} defaults 0 {root_pass}\n"
        f"UUID={identifiers.boot_fs} /boot {filesystem} defaults 0 {boot_pass}\n"
        # A damaged ESP must not keep a machine from coming up.
        f"UUID={identifiers.esp_serial} /boot/efi vfat "
        "defaults,uid=0,gid=0,umask=077,shortname=winnt,nofail,x-systemd.device-timeout=90s 0 2\n"
    )


def grubenv() -> str:
    """GRUB's empty environment block."""
    # grub-editenv insists on exactly 1024 bytes.
    return "# GRUB Environment Block\n".ljust(1024, "#")
