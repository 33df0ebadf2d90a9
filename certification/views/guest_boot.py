"""How a guest boots: kernels, initramfs, boot entries, and the filesystems they name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from builder.errors import HallmarkError
from certification.parse import boot, initramfs, text
from certification.parse.superblock import Filesystem, probe
from certification.views.guest_files import FileGuest

__all__ = ["BootGuest", "Kernel", "RamDisk"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """An installed kernel: ``version`` as by uname -r, its images, and its modules (``_`` for ``-``)."""

    version: str
    images: tuple[str, ...]
    modules: Mapping[str, str]
    builtin: frozenset[str]

    def has(self, module: str) -> bool:
        """The driver is there, as a module or built in."""
        return module in self.modules or module in self.builtin


@dataclass(frozen=True, slots=True)
class RamDisk:
    """An initramfs in /boot: ``version`` as in its name, ``kind`` main, rescue or kdump."""

    path: str
    version: str
    kind: str


class BootGuest(FileGuest):
    """A guest's kernels and boot entries."""

    # Kernels and booting

    @cached_property
    def kernels(self) -> list[Kernel]:
        """Every kernel that could be booted: with an image in /usr/lib/modules or /boot."""
        images: dict[str, list[str]] = {}
        for path in self.glob("/usr/lib/modules/*/vmlinuz"):
            images.setdefault(path.split("/")[4], []).append(path)
        for path in self.glob("/boot/vmlinuz-*"):
            images.setdefault(posixpath.basename(path).removeprefix("vmlinuz-"), []).append(path)
        return [
            self._kernel(version, tuple(paths))
            for version, paths in sorted(images.items())
            if "rescue" not in version
        ]

    def _kernel(self, version: str, images: tuple[str, ...]) -> Kernel:
        directory = f"/usr/lib/modules/{version}"
        modules = {
            posixpath.basename(entry.path).split(".ko")[0].replace("-", "_"): entry.path
            for entry in self.inventory.below(directory)
            if re.search(r"\.ko(\.(xz|zst|gz))?$", entry.path)
        }
        builtin = frozenset(
            posixpath.basename(line).split(".ko")[0].replace("-", "_")
            for line in self.content(f"{directory}/modules.builtin").splitlines()
        )
        return Kernel(version, images, modules, builtin)

    def kernel_options(self, version: str) -> dict[str, str]:
        """The configuration that a kernel was built with: ``{"CONFIG_HYPERV": "m", …}``."""
        paths = [f"/usr/lib/modules/{version}/config", f"/boot/config-{version}"]
        content = next((found for path in paths if (found := self.read(path)) is not None), "")
        return dict(re.findall(r"^(CONFIG_\w+)=(\S+)", content, re.M))

    @cached_property
    def initramfs_files(self) -> list[RamDisk]:
        """Every initramfs in /boot; an ostree host has a directory there for each deployment's."""
        found = []
        for path in (*self.glob("/boot/initramfs-*.img"), *self.glob("/boot/ostree/*/initramfs-*")):
            # Behind .img there may be the digest of the deployment's kernel (ostree of release 7).
            version = posixpath.basename(path).removeprefix("initramfs-").partition(".img")[0]
            kind = "kdump" if version.endswith("kdump") else "rescue" if "rescue" in version else "main"
            found.append(RamDisk(path, version, kind))
        return found

    def initramfs(self, path: str) -> initramfs.Initramfs:
        """An initramfs, unpacked on this machine.

        :raises HallmarkError: it can't be unpacked.
        """
        if path not in self._ramdisks:
            self._ramdisks[path] = initramfs.read(self.fetch(path))
        return self._ramdisks[path]

    @cached_property
    def boot_entries(self) -> list[boot.BootEntry]:
        """Every entry on the disk: loader entries, and static ones of each grub.cfg."""
        variables: dict[str, str] = {}
        for path in ("/boot/grub2/grubenv", *self.glob("/boot/efi/EFI/*/grubenv")):
            variables = {**boot.grubenv(self.content(path)), **variables}
        configured = ["/boot/grub2/grub.cfg", "/boot/grub/grub.cfg", *self.glob("/boot/efi/EFI/*/grub.cfg")]
        for path in configured:
            for match in re.finditer(r'set kernelopts="([^"\n]*)"', self.content(path)):
                variables.setdefault("kernelopts", match[1])
        found = [
            boot.bls(self.content(path), origin=path, variables=variables)
            for path in self.glob("/boot/loader/entries/*.conf")
        ]
        for path in configured:
            found += boot.grub_cfg(self.content(path), origin=path, variables=variables)
        return found

    @cached_property
    def command_lines(self) -> list[tuple[str, tuple[str, ...]]]:
        """(origin, arguments): of every boot entry on a disk, of the running kernel on a machine."""
        if self.booted:
            return [("/proc/cmdline", boot.split_arguments(self.command("cat /proc/cmdline")))]
        return [(entry.origin, entry.arguments) for entry in self.boot_entries]

    @cached_property
    def future_command_lines(self) -> list[tuple[str, tuple[str, ...]]]:
        """(origin, arguments) of what the next kernel's entry is made from."""
        found = []
        line = self.read("/etc/kernel/cmdline")
        if line is not None:
            found.append(("/etc/kernel/cmdline", boot.split_arguments(line)))
        defaults = text.assignments(self.content("/etc/default/grub"))
        if defaults:
            words = (
                f"{defaults.get('GRUB_CMDLINE_LINUX', '')} {defaults.get('GRUB_CMDLINE_LINUX_DEFAULT', '')}"
            )
            found.append(("/etc/default/grub", boot.split_arguments(words)))
        return found

    @cached_property
    def disabled_modules(self) -> dict[str, str]:
        """Modules that modprobe's configuration keeps from loading, and the file that does so."""
        found: dict[str, str] = {}
        for path, content in self.configuration(
            ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d")
        ):
            for module in text.modprobe_disabled(content):
                found.setdefault(module, path)
        return found

    @cached_property
    def dracut_configuration(self) -> list[tuple[str, str]]:
        """dracut's configuration files in the order in which it reads them."""
        drop_ins = self.configuration(("/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d"))
        return [("/etc/dracut.conf", self.content("/etc/dracut.conf")), *drop_ins]

    # Filesystems

    @cached_property
    def fstab(self) -> tuple[text.Mount, ...]:
        return text.fstab(self.content("/etc/fstab"))

    @cached_property
    def filesystems(self) -> dict[str, Filesystem]:
        """What is on each partition of the disk, by its PARTUUID; logical volumes are not among them."""
        if self._image is None:
            raise HallmarkError("this view has no disk to look at")
        image = self._image()
        found: dict[str, Filesystem] = {}
        for part in sorted(image.partitions, key=lambda part: part.offset):
            begin, length = part.offset, part.length

            def read(offset: int, size: int, begin: int = begin, length: int = length) -> bytes:
                return image.read(begin + offset, max(0, min(size, length - offset)))

            filesystem = probe(read)
            if filesystem is not None:
                found[str(part.guid)] = filesystem
        return found

    @property
    def last_filesystem(self) -> Filesystem | None:
        """What is on the last partition of the disk, which alone can grow with it."""
        last = (
            max(self._image().partitions, key=lambda part: part.offset, default=None) if self._image else None
        )
        return self.filesystems.get(str(last.guid)) if last is not None else None

    @cached_property
    def has_lvm(self) -> bool:
        """There is an LVM physical volume."""
        return any(filesystem.type == "LVM2_member" for filesystem in self.filesystems.values())

    def filesystem(self, source: str) -> Filesystem | None:
        """The filesystem that fstab or a root= argument names; None when it isn't on this disk."""
        kind, _, value = source.partition("=")
        value = value.strip('"').lower()
        for guid, filesystem in self.filesystems.items():
            if (kind, value) in (
                ("UUID", filesystem.uuid.lower()),
                ("LABEL", filesystem.label.lower()),
                ("PARTUUID", guid.lower()),
            ):
                return filesystem
        if self.has_lvm:
            return self._logical(source)
        return None

    def _logical(self, source: str) -> Filesystem | None:
        if source.startswith("/dev/"):
            output = self.host.run("blkid -o export %s && blockdev --getsize64 %s", source, source)
        else:
            output = self.host.run("d=$(findfs %s) && blkid -o export $d && blockdev --getsize64 $d", source)
        values = text.key_values(output.stdout)
        if output.rc != 0 or "TYPE" not in values:
            return None
        size = int(output.stdout.split()[-1])
        return Filesystem(values["TYPE"], values.get("UUID", ""), values.get("LABEL", ""), size, 0, True)
