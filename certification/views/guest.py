"""What tests ask about a guest, in the words of an operating system: packages, accounts, services.

The same helper serves a disk and a running machine. Where the two know different things (a disk has every
boot entry, a machine the one it booted) a property gives what its view can prove. Everything is read once
and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from builder.errors import HallmarkError
from certification.parse import cloudinit, sshd, text, units
from certification.parse.selinux import FileContexts
from certification.views import rpmdb
from certification.views.base import parse_os_release
from certification.views.dotnet import DotnetRoot, dotnet_roots
from certification.views.guest_boot import BootGuest

if TYPE_CHECKING:
    from certification.views.inventory import Entry

__all__ = ["Guest", "Repository"]


@dataclass(frozen=True, slots=True)
class Repository:
    """A section of a repository file, with dnf's main section below its options."""

    path: str
    name: str
    options: Mapping[str, str]

    @property
    def enabled(self) -> bool:
        return _truth(self.options.get("enabled", "1"))

    @property
    def urls(self) -> list[str]:
        keys = ("baseurl", "metalink", "mirrorlist")
        return [word for key in keys for word in self.options.get(key, "").replace(",", " ").split()]


class Guest(BootGuest):
    """One guest, in an operating system's words."""

    # Identity and packages

    @cached_property
    def os_release(self) -> dict[str, str]:
        return parse_os_release(self.read("/etc/os-release") or self.content("/usr/lib/os-release"))

    @cached_property
    def packages(self) -> tuple[rpmdb.InstalledPackage, ...]:
        """Every package of the rpm database."""
        return rpmdb.packages(self.access)

    @cached_property
    def package_names(self) -> frozenset[str]:
        return frozenset(package.name for package in self.packages)

    def provides(self, name: str) -> bool:
        """A package of that name is installed, or one that provides the name (as after a rename)."""
        return name in self.package_names or name in self._provided

    @cached_property
    def _provided(self) -> frozenset[str]:
        return frozenset(rpmdb.query(self.access, "[%{PROVIDENAME}\\n]").split("\n"))

    def installed(self, name: str) -> list[rpmdb.InstalledPackage]:
        """The packages of that name (kernels may be installed more than once)."""
        return [package for package in self.packages if package.name == name]

    @cached_property
    def owners(self) -> Mapping[str, str]:
        """The package that owns each path, links on the way followed (``/lib/x`` is ``/usr/lib/x``)."""
        owners: dict[str, str] = {}
        for item in rpmdb.files(self.access):
            real = self.inventory.resolve(item.path, follow=False)
            owners[real or item.path] = item.package
        return owners

    @cached_property
    def unmodified(self) -> frozenset[str]:
        """Paths of packaged files whose content is the package's."""
        changed = {item.path for item in rpmdb.verify(self.access) if {"5", "S"} & set(item.flags)}
        resolve = self.inventory.resolve
        return frozenset(
            resolve(item.path, follow=False) or item.path
            for item in rpmdb.files(self.access)
            if item.path not in changed and item.digest
        )

    @cached_property
    def machine(self) -> str:
        """The guest's architecture as rpm calls it."""
        names = [package.arch for package in self.packages if package.name in ("glibc", "systemd")]
        if not names:
            raise HallmarkError("the guest has no C library package: its architecture is unknown")
        return names[0]

    @cached_property
    def dnf_options(self) -> Mapping[str, str]:
        """The main section of dnf.conf, over that of yum.conf."""
        main: dict[str, str] = {}
        for path in ("/etc/yum.conf", "/etc/dnf/dnf.conf"):
            main |= text.ini(self.content(path)).get("main", {})
        return main

    @cached_property
    def repositories(self) -> list[Repository]:
        """Every repository section with the options of dnf's main section below its own."""
        found = []
        for path in self.glob("/etc/yum.repos.d/*.repo"):
            for name, options in text.ini(self.content(path)).items():
                if name != "main":
                    found.append(Repository(path, name, {**self.dnf_options, **options}))
        return found

    # Configuration

    @cached_property
    def waagent(self) -> dict[str, str]:
        return text.key_values(self.content("/etc/waagent.conf"))

    @cached_property
    def cloud_config(self) -> cloudinit.CloudConfig:
        """cloud.cfg and every file of cloud.cfg.d, merged as cloud-init does."""
        paths = ["/etc/cloud/cloud.cfg", *self.glob("/etc/cloud/cloud.cfg.d/*.cfg")]
        return cloudinit.merge(
            [(path, content) for path in paths if (content := self.read(path)) is not None]
        )

    @cached_property
    def sshd(self) -> sshd.SshdConfig:
        """The effective configuration: by reading files as sshd does, or from the machine's ``sshd -T``."""
        if self.booted:
            return sshd.from_dump(self.command("sshd -T"))
        return sshd.effective(self.read, self.glob)

    @cached_property
    def accounts(self) -> tuple[text.Account, ...]:
        return text.passwd(self.content("/etc/passwd"))

    @cached_property
    def shadow(self) -> dict[str, str]:
        return text.shadow(self.content("/etc/shadow"))

    @cached_property
    def groups(self) -> dict[str, int]:
        return text.group(self.content("/etc/group"))

    @cached_property
    def selinux(self) -> dict[str, str]:
        """/etc/selinux/config."""
        return text.key_values(self.content("/etc/selinux/config"))

    def mislabelled(self, entries: Iterable[Entry]) -> list[str]:
        """Files whose SELinux type isn't the one that the image's own policy gives them.

        :raises HallmarkError: the image has no labelling rules, or they can't be understood.
        """
        place = f"/etc/selinux/{self.selinux.get('SELINUXTYPE', 'targeted')}/contexts"
        names = ("file_contexts", "file_contexts.homedirs", "file_contexts.local")
        texts = [self.content(f"{place}/files/{name}") for name in names]
        substitutions = [
            self.content(f"{place}/files/file_contexts.{name}") for name in ("subs", "subs_dist")
        ]
        try:
            rules = FileContexts(texts, substitutions=substitutions)
        except ValueError as error:
            raise HallmarkError(f"the policy's labelling rules can't be read: {error}", where=place) from None
        if rules.count < 100:
            raise HallmarkError(f"the policy has only {rules.count} labelling rules", where=f"{place}/files")
        labels = {entry.path: (entry.type, entry.label) for entry in entries if entry.label is not None}
        kept = frozenset(self.content(f"{place}/customizable_types").split())
        return [
            f"{path} ({label}, expected {wanted})"
            for path, label, wanted in rules.mismatches(labels, customizable=kept)
        ]

    def unit(self, name: str) -> units.Unit:
        """A systemd unit and whether it starts with the system."""
        if name not in self._units:
            self._units[name] = self._ask_unit(name) if self.booted else self._find_unit(name)
        return self._units[name]

    def _find_unit(self, name: str) -> units.Unit:
        def link(path: str) -> str | None:
            entry = self.inventory.get(path, follow=False)
            return None if entry is None else entry.link

        return units.look_up(name, glob=self.glob, link=link, read=self.read)

    def _ask_unit(self, name: str) -> units.Unit:
        result = self.host.run("systemctl is-enabled -- %s", name)
        state = result.stdout.strip() or "missing"
        states: dict[str, units.State] = {
            "enabled": "enabled",
            "enabled-runtime": "enabled",
            "alias": "enabled",
            "generated": "static",
            "static": "static",
            "masked": "masked",
            "masked-runtime": "masked",
            "disabled": "disabled",
            "indirect": "disabled",
        }
        known = states.get(state, "missing")
        return units.Unit(name, "", known, known in ("enabled", "static"), ())

    @cached_property
    def dotnet(self) -> list[DotnetRoot]:
        """Every .NET root on the disk."""
        return dotnet_roots(self.inventory)


def _truth(value: str) -> bool:
    return value.strip().lower() in ("1", "yes", "true", "on", "enabled")
