"""What must be there, per release: reads ``facts/*.yaml``.

The facts come from the vendors' sources, never from a recipe: an image is not measured by its own wishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from builder.errors import HallmarkError
from certification.catalogue import load_yaml

__all__ = ["FACTS", "EndOfSupport", "Facts"]

_NEWEST = 1 << 30
FACTS = Path(__file__).resolve().parent / "facts"


@dataclass(frozen=True, slots=True)
class EndOfSupport:
    """The last day of support of something; ``note`` explains it, "" when there is nothing to say."""

    what: str
    ends: date
    note: str = ""

    def over(self, today: date) -> bool:
        """The last day has passed."""
        return today > self.ends


class Facts:
    """The facts for one guest.

    :param os_id: ID of its os-release, ``version``: VERSION_ID, ``machine``: ``x86_64`` or ``aarch64``.
    :raises HallmarkError: the facts know no such distribution, or a file of them can't be read.
    """

    def __init__(self, *, os_id: str, version: str, machine: str = "x86_64", directory: Path = FACTS) -> None:
        self.os_id, self.version, self.machine = os_id, version, machine
        self._directory = directory
        known = self._file("distributions")["distributions"]
        if os_id not in known:
            raise HallmarkError(
                f"nothing is known about the distribution {os_id!r}",
                where=directory / "distributions.yaml",
                why="without its vendor, keys and kernel line nothing in it could be told from a forgery",
                hint=f"add it there; known are {', '.join(sorted(known))}",
            )
        self._distribution: Mapping[str, Any] = known[os_id]

    @classmethod
    def of(cls, os_release: Mapping[str, str], *, claim: str | None, machine: str = "x86_64") -> Facts:
        """The facts that an image is measured by.

        An image that may choose its measure passes as whatever it likes. So the claim decides whose keys and
        kernels are looked for; the guest's own VERSION_ID counts within the claimed major release only.

        :param os_release: the fields of the guest's os-release(5).
        :param claim: ``ID:RELEASE``; None: what the guest says.
        """
        os_id, version = os_release.get("ID", ""), os_release.get("VERSION_ID", "")
        if claim is not None:
            claimed, _, release = claim.partition(":")
            same = claimed == os_id and version.partition(".")[0] == release.partition(".")[0]
            os_id, version = claimed, version if same else release
        return cls(os_id=os_id, version=version, machine=machine)

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row's ``when`` and ``arch`` include this guest."""
        if "arch" in row and self.machine not in row["arch"]:
            return False
        when = row.get("when", "*")
        if when == "*":
            return True
        # A release without a minor number (CentOS Stream) is the newest of its major, as in recipes.
        version = f"{self.version}.{_NEWEST}" if self.version.isdigit() else self.version
        try:
            return Version(version) in SpecifierSet(when)
        except InvalidVersion:
            raise HallmarkError(f"VERSION_ID {self.version!r} of the guest is no version") from None

    @property
    def name(self) -> str:
        return str(self._distribution["name"])

    @property
    def vendors(self) -> list[str]:
        """The Vendor tags of the distribution's packages."""
        return list(self._distribution["vendor"])

    @property
    def key_ids(self) -> list[str]:
        """Long ids (16 hex digits, lower case) of the keys that sign them."""
        return [_key_id(fingerprint) for fingerprint in self._distribution["keys"]]

    @property
    def key_fingerprints(self) -> list[str]:
        """The same keys by their whole fingerprints, upper case."""
        return [str(fingerprint).upper() for fingerprint in self._distribution["keys"]]

    @property
    def release_packages(self) -> list[str]:
        return list(self._distribution["release_packages"])

    @property
    def foreign_release_packages(self) -> list[str]:
        return list(self._distribution["foreign_release_packages"])

    @property
    def repositories(self) -> int:
        """How many enabled repositories the distribution needs at least."""
        return int(self._distribution["repositories"])

    @property
    def subscription_client(self) -> str | None:
        """The package that writes a subscribed machine's repositories; None where the image brings them."""
        name: str | None = self._distribution.get("subscription_client")
        return name

    def declared(self, package: str, *, key: str | None) -> str | None:
        """The reason why a package of another vendor may be in an image; None when there is none.

        :param key: long id of the key that signed it. The name alone declares nothing: anybody can take it.
        """
        for row in self._declared(package):
            if key is not None and key in map(_key_id, row["keys"]):
                return str(row["reason"])
        return None

    def declared_key_ids(self, packages: Iterable[str]) -> list[str]:
        """Long ids of the keys that sign those of these packages that are declared."""
        return sorted(
            {_key_id(key) for package in packages for row in self._declared(package) for key in row["keys"]}
        )

    def _declared(self, package: str) -> list[Mapping[str, Any]]:
        rows = self._distribution["declared_packages"]
        return [row for row in rows if self.holds(row) and fnmatchcase(package, row["name"])]

    @property
    def secure_boot_signers(self) -> list[str]:
        """Words in the certificate names of those who may sign GRUB and the kernel."""
        return [str(row["signer"]) for row in self._distribution["secure_boot"]]

    @property
    def kernels(self) -> list[Mapping[str, str]]:
        """The kernel lines of this release: ``version`` prefix and ``dist`` tag."""
        return [row for row in self._distribution["kernels"] if self.holds(row)]

    def arguments(self, kind: str, requirement: str) -> list[str]:
        """Kernel arguments that are ``required`` or ``forbidden`` by a requirement."""
        rows = self._file("kernel")["arguments"][kind]
        return [str(row["argument"]) for row in rows if row["requirement"] == requirement and self.holds(row)]

    @property
    def required_arguments(self) -> list[str]:
        """Every required kernel argument."""
        return [
            str(row["argument"]) for row in self._file("kernel")["arguments"]["required"] if self.holds(row)
        ]

    @property
    def console(self) -> str:
        return str(self._file("kernel")["console"][self.machine])

    def modules(self, purpose: str) -> list[str]:
        """Kernel modules by purpose, see facts/kernel.yaml."""
        return list(self._file("kernel")["modules"][purpose])

    @property
    def blacklisted_modules(self) -> list[str]:
        return [str(row["module"]) for row in self._file("kernel")["modules"]["blacklist"] if self.holds(row)]

    @property
    def kernel_options(self) -> list[tuple[str, list[str]]]:
        """Kernel configuration options and the values that will do."""
        rows = self._file("kernel")["config"]
        return [
            (str(row["option"]), [str(value) for value in row["values"]]) for row in rows if self.holds(row)
        ]

    @property
    def sack_floors(self) -> list[tuple[str, str]]:
        """(kernel line, first fixed build), most specific first."""
        return [(str(row["line"]), str(row["fixed"])) for row in self._file("kernel")["sack_floors"]]

    @property
    def sack_fixed_since(self) -> str:
        return str(self._file("kernel")["sack_fixed_since"])

    def package_sets(self, kind: str) -> list[Sequence[str]]:
        """Alternatives: one package of each inner list must be there; ``kind`` is minimal or cloud."""
        found: list[Sequence[str]] = []
        for row in self._file("packages")[kind]:
            if self.holds(row):
                found += [list(row["any"])] if "any" in row else [[name] for name in row["packages"]]
        return found

    @property
    def services(self) -> list[list[str]]:
        """Alternatives: of each inner list one unit must start with the system."""
        return [list(row["units"]) for row in self._file("packages")["services"] if self.holds(row)]

    def package_names(self, kind: str) -> list[str]:
        """A plain list of packages: ``legacy``, ``external_hyperv``, ``hyperv_daemons``."""
        return list(self._file("packages")[kind])

    def may_differ(self, path: str) -> str | None:
        """The reason why a packaged file may differ from its package; None when it may not."""
        for row in self._file("packages")["may_differ"]:
            allowed = str(row["path"])
            if path == allowed or (allowed.endswith("/") and path.startswith(allowed)):
                return str(row["reason"])
        return None

    @property
    def mode_exempt(self) -> tuple[str, ...]:
        """Directories on filesystems that know no owners and modes."""
        return tuple(self._file("packages")["ghost_modes"])

    def rows(self, file: str, key: str) -> list[Mapping[str, Any]]:
        """The rows of a list in ``facts/<file>.yaml`` that are about this guest."""
        return [row for row in self._file(file)[key] if self.holds(row)]

    def allowed_unowned(self, path: str, *, link: bool) -> str | None:
        """The reason why a file that no package owns may be in an image; None when there is none."""
        for pattern, only_links, reason in self._unowned:
            if (link or not only_links) and pattern.fullmatch(path):
                return reason
        return None

    @cached_property
    def _unowned(self) -> list[tuple[re.Pattern[str], bool, str]]:
        return [
            (_path_pattern(str(row["path"])), row.get("only") == "link", str(row["reason"]))
            for row in self._file("files")["unowned"]
        ]

    @property
    def hyperv_hosts(self) -> list[str]:
        """The hosts for which Microsoft supports this release; a distribution that is only like RHEL is
        judged as RHEL.
        """
        table = self._file("hyperv")["hosts"]
        rows = table.get(self.os_id, table["rhel"])
        return [str(host) for row in rows if self.holds(row) for host in row["hosts"]]

    def current_hosts(self, today: date) -> list[str]:
        """Hosts that Microsoft itself still supports on that day."""
        return [str(name) for name, ends in self._file("hyperv")["current"].items() if today <= ends]

    def excused(self, kind: str, today: date) -> list[re.Pattern[str]]:
        """Lines that a boot may log until a day that isn't over; ``kind`` is errors or denials."""
        return [
            re.compile(row["pattern"])
            for row in self._file("journal")[kind]
            if row.get("os", self.os_id) == self.os_id and today <= row["until"]
        ]

    @property
    def os_support(self) -> EndOfSupport | None:
        """When this release's support ends; None: the facts don't know."""
        for row in self._file("support")["operating_systems"].get(self.os_id, []):
            if self.holds(row):
                return EndOfSupport(f"{self.name} {self.version}", row["ends"], row.get("note", ""))
        return None

    def dotnet(self, channel: str) -> Mapping[str, Any] | None:
        """``ends``, ``glibc`` and ``releases`` of a .NET channel such as ``8.0``; None when unknown."""
        found: Mapping[str, Any] | None = self._file("support")["dotnet"].get(channel)
        return found

    def dotnet_support(self, channel: str) -> EndOfSupport | None:
        row = self.dotnet(channel)
        return None if row is None else EndOfSupport(f".NET {channel}", row["ends"])

    def profile(self, name: str) -> Mapping[str, Any] | None:
        """How a SCAP profile is judged on this release, see facts/openscap.yaml; None when nobody knows."""
        rows = self.rows("openscap", name)
        return next((row for row in rows if self.os_id in row["os"]), None)

    def listed(self, file: str, key: str) -> list[str]:
        """A plain list of words in ``facts/<file>.yaml``."""
        return [str(word) for word in self._file(file)[key]]

    def _file(self, stem: str) -> Any:
        return self._files[stem]

    @cached_property
    def _files(self) -> Mapping[str, Any]:
        return {path.stem: load_yaml(path)[0] for path in sorted(self._directory.glob("*.yaml"))}


def _key_id(fingerprint: str) -> str:
    return fingerprint[-16:].lower()


def _path_pattern(shell: str) -> re.Pattern[str]:
    """A shell pattern over paths: ``*`` stops at a slash, ``**`` doesn't."""
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(words.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*|\?)", shell))
    )
