"""From a plan to one generated diskimage-builder element.

Pure: the same plan and keys always give the same files, so golden tests can hold the result against the plan.
What the element says is done by the hooks of the elements beside this module (``elements/``).
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import yaml

from builder.errors import HallmarkError
from builder.recipe.lock import Lock, LockedPackage
from builder.recipe.model import Plan
from builder.recipe.packaging import PACKAGING
from builder.rootfs import bootfiles
from builder.rootfs.repositories import TrustedRepository

__all__ = [
    "ELEMENT",
    "PLAN_DIRECTORY",
    "Element",
    "ElementFile",
    "compile_element",
    "dnf_conf",
    "lock_orders",
    "rpmdb_path",
    "tls_files",
]

ELEMENT = "hallmark-recipe"
PLAN_DIRECTORY = "hallmark-plan"
_STATIC = f"{PLAN_DIRECTORY}/static"


@dataclass(frozen=True, slots=True)
class ElementFile:
    """A file of an element: its text and whether it is a program."""

    content: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Element:
    """A generated element: ``files`` by path relative to the element's directory."""

    name: str
    files: Mapping[str, ElementFile]

    def write(self, elements: Path) -> Path:
        """Write the element below the directory ``elements``; the element's own directory is returned."""
        root = elements / self.name
        for path, file in self.files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.content, encoding="utf-8")
            target.chmod(0o755 if file.executable else 0o644)
        return root


@dataclass(frozen=True, slots=True)
class _Installed:
    content: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


def rpmdb_path(plan: Plan) -> str:
    """The absolute path of the rpm database in the image.

    :raises HallmarkError: the release is unknown, or the host's rpm would have to write a database that only
        the release's own rpm can write.
    """
    system = f"{plan.distribution.name} {plan.distribution.release}"
    packaging = PACKAGING.get(plan.distribution.platform)
    if packaging is None:
        known = ", ".join(str(major) for major in PACKAGING)
        raise HallmarkError(
            f"cannot make a root filesystem of {system}",
            why="nobody has written down where its package database is",
            hint=f"build one of the major releases {known}",
        )
    if packaging.mode == "two-stage" and plan.bootstrap.mode == "direct":
        raise HallmarkError(
            f"cannot make a root filesystem of {system} directly",
            why="its rpm reads only databases that the build host's rpm cannot write",
            hint="leave `bootstrap: direct` out: the release is then made in two stages",
        )
    return packaging.rpmdb


def compile_element(
    plan: Plan, repositories: Sequence[TrustedRepository], *, lock: Lock | None = None
) -> Element:
    """Compile ``plan`` to the element ``hallmark-recipe``.

    :param lock: the exact package set; without it dnf takes the newest packages.
    :raises HallmarkError: the plan asks for something that no element can do.
    """
    installed = _installed_files(plan)
    files = {
        "element-deps": ElementFile("".join(f"{name}\n" for name in _elements(plan))),
        "package-installs.yaml": ElementFile(_package_installs(plan)),
        "environment.d/20-hallmark-plan.bash": ElementFile(_environment(plan)),
        f"{PLAN_DIRECTORY}/dnf.conf": ElementFile(dnf_conf(plan, repositories)),
        "install.d/40-hallmark-files": ElementFile(_install_script(plan, installed), executable=True),
    }
    if plan.container is None:
        files |= {
            f"{PLAN_DIRECTORY}/early.cfg": ElementFile(bootfiles.early_cfg(plan)),
            f"{PLAN_DIRECTORY}/esp.cfg": ElementFile(bootfiles.esp_cfg(plan)),
            f"{PLAN_DIRECTORY}/grub-head.cfg": ElementFile(bootfiles.grub_head(plan)),
            "post-install.d/80-hallmark-services": ElementFile(_services_script(plan), executable=True),
        }
    if lock is not None:
        files[f"{PLAN_DIRECTORY}/lock.json"] = ElementFile(lock_orders(lock.packages))
        files[f"{PLAN_DIRECTORY}/locked-packages"] = ElementFile(
            "".join(f"{item.nevra}\n" for item in lock.packages)
        )
    for repository in repositories:
        files[f"{PLAN_DIRECTORY}/keys/{repository.id}.asc"] = ElementFile(repository.key)
    for path, item in installed.items():
        files[_STATIC + path] = ElementFile(item.content)
    for number, script in enumerate(sorted(plan.scripts, key=lambda script: script.name)):
        # dib-run-parts runs only names of these characters.
        name = re.sub(r"[^0-9A-Za-z_-]", "-", script.name)
        files[f"post-install.d/50-hallmark-{number:03}-{name}"] = ElementFile(script.content, executable=True)
    return Element(ELEMENT, MappingProxyType(dict(sorted(files.items()))))


def _elements(plan: Plan) -> tuple[str, ...]:
    if plan.container is not None:
        return ("hallmark-container", "hallmark-generalise", "hallmark-root")
    return ("hallmark-boot", "hallmark-generalise", "hallmark-root", "hallmark-selinux")


def _package_installs(plan: Plan) -> str:
    names = dict.fromkeys(request.name for request in plan.packages.install)
    return yaml.safe_dump(dict.fromkeys(names), sort_keys=False, default_flow_style=False)


def lock_orders(packages: Sequence[LockedPackage], *, free: Collection[str] | None = None) -> str:
    """What dnf's plugin (``hallmark_transaction``) reads: exactly these packages, or, when ``free`` names are
    given (even none), these rather than others.
    """
    mode = "exact" if free is None else "prefer"
    orders = {"mode": mode, "free": sorted(free or ()), "packages": [item.model_dump() for item in packages]}
    return json.dumps(orders, indent=1) + "\n"


def dnf_conf(plan: Plan, repositories: Sequence[TrustedRepository]) -> str:
    """dnf's whole configuration: pinned keys only, nothing of the host.

    ``@KEYS@`` stands for the directory of ``<repository>.asc``, ``@PLUGINS@`` for that of
    ``hallmark_transaction.py``.
    """
    main = {
        "gpgcheck": "1",
        "localpkg_gpgcheck": "1",
        "best": "1",
        "install_weak_deps": "0",
        "skip_if_unavailable": "0",
        "plugins": "1",
        "pluginpath": "@PLUGINS@",
        "reposdir": "/dev/null",
        "varsdir": "/dev/null",
        "keepcache": "1",
        "metadata_expire": "0",
        "timeout": "30",
        "retries": "3",
        "max_parallel_downloads": "10",
        "module_platform_id": f"platform:el{plan.distribution.platform}",
        "pluginconfpath": "/dev/null",
    }
    if plan.container is not None:
        main["tsflags"] = "nodocs"
    if plan.packages.exclude:
        main["excludepkgs"] = ",".join(plan.packages.exclude)
    sections = ["[main]", *(f"{key}={value}" for key, value in main.items())]
    for repository in repositories:
        source = f"baseurl={repository.baseurl}" if repository.baseurl else f"metalink={repository.metalink}"
        sections += [
            "",
            f"[{repository.id}]",
            f"name={repository.name}",
            source,
            "enabled=1",
            "gpgcheck=1",
            # @KEYS@ becomes the directory of the keys when the hook runs.
            f"gpgkey=file://@KEYS@/{repository.id}.asc",
        ]
        # The files exist in the build's own mount namespace only, see shims/with-secrets.
        for option, name in tls_files(repository):
            sections.append(f"{option}=@SECRETS@/{name}")
    return "\n".join(sections) + "\n"


def tls_files(repository: TrustedRepository) -> tuple[tuple[str, str], ...]:
    """dnf's option and the file's name for everything that a repository's server asks of its client."""
    tls = repository.tls
    wanted = (
        ("sslclientcert", tls.certificate, "certificate"),
        ("sslclientkey", tls.key, "key"),
        ("sslcacert", tls.authority, "ca"),
    )
    return tuple((option, f"{repository.id}.{name}.pem") for option, given, name in wanted if given)


def _environment(plan: Plan) -> str:
    distribution = plan.distribution
    values = {
        "DISTRO_NAME": "rhel" if distribution.id == "rhel" else "centos",
        "DIB_RELEASE": str(distribution.major),
        "DIB_INIT_SYSTEM": "systemd",
        "DIB_PYTHON_VERSION": "3",
        "SOURCE_DATE_EPOCH": str(plan.source_date_epoch),
        "HALLMARK_ARCHITECTURE": plan.architecture,
        "HALLMARK_BOOTSTRAP": plan.bootstrap.mode,
        "HALLMARK_BOOT_UUID": str(plan.identifiers.boot_fs),
        "HALLMARK_BIOS_MODULES": " ".join(bootfiles.BIOS_MODULES),
        "HALLMARK_GENERATIONS": " ".join(str(generation) for generation in plan.disk.generations),
        "HALLMARK_DRACUT_COMPRESS": bootfiles.dracut_compressor(plan),
        "HALLMARK_EFI_VENDOR": plan.bootloader.vendor,
        "HALLMARK_KERNEL_OPTIONS": bootfiles.kernel_options(plan),
        "HALLMARK_OS_ID": distribution.id,
        "HALLMARK_OS_NAME": distribution.name,
        "HALLMARK_OS_RELEASE": distribution.release,
        "HALLMARK_RELEASEVER": distribution.releasever,
        "HALLMARK_RPMDB": rpmdb_path(plan),
        "HALLMARK_SELINUX_MODE": plan.selinux.mode,
        "HALLMARK_SELINUX_TYPE": plan.selinux.type,
        "HALLMARK_SYSTEM": "ostree" if plan.composed else "packages",
        "HALLMARK_STAGE_ONE": " ".join(plan.bootstrap.packages),
    }
    if plan.container is not None:
        values |= {
            "HALLMARK_CONTAINER_HOME": plan.container.home,
            "HALLMARK_CONTAINER_USER": str(plan.container.user),
            "HALLMARK_CONTAINER_WRITABLE": ":".join(plan.container.writable),
        }
    lines = [f"export {key}={shlex.quote(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _installed_files(plan: Plan) -> dict[str, _Installed]:
    files = {path: _Installed(content) for path, content in bootfiles.configuration(plan).items()}
    # What the recipe says wins over what is generated.
    for file in plan.files:
        if not file.path.startswith("/") or posixpath.normpath(file.path) != file.path:
            raise HallmarkError(
                f"{file.path!r} is not an absolute path without '.' and '..'",
                where=str(file.where),
                hint="write the place of the file in the image, such as /etc/motd",
            )
        files[file.path] = _Installed(file.content, file.mode, file.owner, file.group)
    return dict(sorted(files.items()))


def _install_script(plan: Plan, files: Mapping[str, _Installed]) -> str:
    lines = [
        "#!/bin/bash",
        "# Runs in the image's root, so that owners and groups are the image's.",
        "set -euo pipefail",
        "umask 022",
        f'static=$(dirname "$0")/../{_STATIC}',
        'put() { install -D -T -m "$1" -o "$2" -g "$3" -- "$static$4" "$4"; }',
    ]
    for path, item in files.items():
        put = shlex.join(("put", f"{item.mode:04o}", item.owner, item.group, path))
        lines.append(_or_complain(put, f"cannot install {path} for {item.owner}:{item.group}"))
    zone = f"/usr/share/zoneinfo/{plan.locale.timezone}"
    missing = f"the image has no time zone {plan.locale.timezone} (package tzdata)"
    lines.append(_or_complain(f"[ -e {shlex.quote(zone)} ]", missing))
    lines.append(f"ln -sfn {shlex.quote('..' + zone)} /etc/localtime")
    return "\n".join(lines) + "\n"


def _services_script(plan: Plan) -> str:
    lines = [
        "#!/bin/bash",
        "set -uo pipefail",
        "unit() {",
        '    systemctl --root=/ "$1" "$2" && return',
        '    echo "hallmark-error: cannot $1 the unit $2: does a package of the recipe have it?"',
        "    exit 1",
        "}",
    ]
    for verb, units in (
        ("disable", plan.services.disable),
        ("enable", plan.services.enable),
        ("mask", plan.services.mask),
        ("set-default", (plan.default_target,)),
    ):
        lines += [shlex.join(("unit", verb, unit)) for unit in units]
    return "\n".join(lines) + "\n"


def _or_complain(command: str, message: str) -> str:
    return f"{command} || {{ echo {shlex.quote('hallmark-error: ' + message)}; exit 1; }}"
