"""The tree of an ostree host: layout, /etc and /var, kernel, drivers, containers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from certification.checks import not_applicable, requirement
from certification.parse import initramfs, text

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.guest import Guest


_LINKS = {
    "/ostree": "sysroot/ostree",
    "/home": "var/home",
    "/opt": "var/opt",
    "/srv": "var/srv",
    "/root": "var/roothome",
    "/mnt": "var/mnt",
}


@requirement("atomic.root-layout")
def test_layout(guest: Guest, check: Checks) -> None:
    for path, target in _LINKS.items():
        entry = guest.inventory.get(path, follow=False)
        seen = entry.link.strip("/") if entry is not None and entry.type == "l" else "no link"
        check.equal(path, expected=target, observed=seen)
    for path in ("/sysroot", "/proc", "/sys", "/dev", "/run", "/usr", "/etc", "/var"):
        entry = guest.inventory.get(path, follow=False)
        check.equal(path, expected="d", observed=entry.type if entry else "missing")
    run = guest.inventory.get("/var/run", follow=False)
    if run is not None:
        check.equal("/var/run", expected="run", observed=run.link.removeprefix("..").strip("/"))


@requirement("atomic.etc-merge")
def test_configuration(guest: Guest, facts: Facts, check: Checks) -> None:
    defaults = [e for e in guest.inventory.below("/usr/etc") if e.type in ("f", "l")]
    check.at_least("files in the tree's usr/etc", expected=10, observed=len(defaults))
    allowed = [re.compile(str(row["path"])) for row in facts.rows("atomic", "local_configuration")]
    there = {e.path: e for e in guest.inventory.below("/etc") if e.type in ("f", "l")}
    changed = []
    for default in defaults:
        entry = there.pop(default.path.removeprefix("/usr"), None)
        if entry is None:
            changed.append(f"{default.path.removeprefix('/usr')} (removed)")
        elif (entry.type, entry.link, entry.size, entry.sha256) != (
            default.type,
            default.link,
            default.size,
            default.sha256,
        ):
            changed.append(f"{entry.path} (changed)")
    changed += [f"{path} (added)" for path in there]
    strange = [line for line in sorted(changed) if not any(p.match(line) for p in allowed)]
    check.empty("local configuration that nobody named", observed=strange)


@requirement("atomic.var-content")
def test_var(guest: Guest, check: Checks) -> None:
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    known = re.compile(r"/var/(lib/(selinux|rpm|rpm-state|systemd/catalog)|cache/ldconfig)/.*|/var/\.updated")
    left = [
        e.path
        for e in guest.inventory.below("/var")
        if e.type == "f"
        and not known.fullmatch(e.path)
        # The mark that ostree has labelled this /var; without it, it would do so again at each update
        # (ostree, ostree-sysroot-deploy.c). It says nothing more: it is empty.
        and (e.path, e.size) != ("/var/.ostree-selabeled", 0)
    ]
    if left:  # the rules are many small files, each a question to the appliance
        files = guest.glob("/usr/lib/tmpfiles.d/*.conf") + guest.glob("/etc/tmpfiles.d/*.conf")
        rules = text.significant("\n".join(guest.content(path) for path in files))
        made = {fields[1] for line in rules if len(fields := line.split()) > 1}
        left = [path for path in left if path not in made]
    check.empty("files in /var", observed=left)


@requirement("atomic.single-kernel")
def test_one_kernel(guest: Guest, check: Checks) -> None:
    kernels = guest.glob("/usr/lib/modules/*/vmlinuz") + guest.glob("/usr/lib/ostree-boot/vmlinuz-*")
    check.equal("kernels in the tree", expected=1, observed=len(kernels))
    for path in kernels:
        beside = guest.glob(f"{path.rsplit('/', 1)[0]}/initramfs*")
        check.equal(f"initramfs beside {path}", expected=1, observed=len(beside))
        tree = guest.inventory.get(path)
        copies = [e for e in guest.inventory.below("/boot/ostree") if "/vmlinuz" in e.path]
        check.true("copies in /boot", observed=bool(copies), expected="at least one", otherwise="none")
        check.empty(
            "copies that differ", observed=[e.path for e in copies if tree is None or e.sha256 != tree.sha256]
        )


@requirement("atomic.initramfs-hyperv")
def test_drivers(guest: Guest, facts: Facts, check: Checks) -> None:
    paths = guest.glob("/usr/lib/modules/*/initramfs.img") + guest.glob("/boot/ostree/*/initramfs*")
    check.at_least("initramfs files in tree and /boot", expected=2, observed=len(paths))
    for path in paths:
        modules = initramfs.read(guest.fetch(path)).modules()
        names = {name for found in modules.values() for name in found}
        builtin = {name for kernel in guest.kernels for name in kernel.builtin}
        check.empty(
            f"drivers missing in {path}",
            observed=[n for n in facts.modules("initramfs") if n not in names | builtin],
        )


@requirement("atomic.hyperv-daemons")
def test_daemons(guest: Guest, check: Checks) -> None:
    wanted = ["hyperv-daemons", "cloud-init", "WALinuxAgent"]
    check.contains_all("packages of the tree", expected=wanted, observed=guest.package_names)


@requirement("atomic.container-engine")
def test_engine(guest: Guest, check: Checks) -> None:
    engines = [name for name in ("podman", "docker", "moby-engine") if name in guest.package_names]
    check.true("container engine", observed=bool(engines), expected="podman or docker", otherwise="none")
    if engines and engines[0] != "podman":
        check.true("docker starts with the system", observed=guest.unit("docker.service").starts)


@requirement("atomic.container-storage")
def test_storage(guest: Guest, check: Checks) -> None:
    places = ("/var/lib/containers", "/var/lib/docker")
    check.empty(
        "content",
        observed=[e.path for place in places for e in guest.inventory.below(place) if e.type == "f"],
    )
    kinds = {found.type for found in guest.filesystems.values()}
    check.true(
        "a filesystem for overlay", observed=bool(kinds & {"xfs", "ext4"}), otherwise=", ".join(sorted(kinds))
    )
    names = (
        "/etc/sysconfig/docker-storage",
        "/etc/sysconfig/docker-storage-setup",
        "/etc/containers/storage.conf",
    )
    content = "\n".join(guest.content(path) for path in names)
    check.true(
        "no loopback storage",
        observed=re.search(r"^[^#\n]*(loop-lvm|dm\.loop|data-loop)", content, re.M) is None,
    )
    driver = re.search(r"^\s*(?:driver|STORAGE_DRIVER)\s*=\s*[\"']?([\w-]+)", content, re.M)
    check.one_of("driver", expected=("overlay", "overlay2"), observed=driver[1] if driver else "overlay")


@requirement("atomic.container-policy")
def test_registries(guest: Guest, check: Checks) -> None:
    policy = guest.read("/etc/containers/policy.json")
    if policy is None and not guest.exists("/etc/containers"):
        not_applicable("there is no container configuration in the image")
    check.true("/etc/containers/policy.json", observed=bool(policy), expected="there", otherwise="missing")
    paths = ["/etc/containers/registries.conf", *guest.glob("/etc/containers/registries.conf.d/*.conf")]
    content = "\n".join(guest.content(path) for path in paths)
    check.empty("insecure registries", observed=re.findall(r"^\s*insecure\s*=\s*true.*", content, re.M))
    listed = re.findall(r"^\s*unqualified-search-registries\s*=\s*\[([^\]]*)\]", content, re.M)
    names = {name.strip("\"' ") for row in listed for name in row.split(",")} - {""}
    vendors = {
        "registry.access.redhat.com",
        "registry.redhat.io",
        "quay.io",
        "registry.centos.org",
        "registry.fedoraproject.org",
    }
    check.empty("registries for short names that aren't the vendor's", observed=sorted(names - vendors))


@requirement("atomic.bootc-lints")
def test_lints(guest: Guest, check: Checks) -> None:
    check.at_least("files in the image", expected=1000, observed=len(guest.inventory))
    strange = [e.path for e in guest.inventory if any("\udc80" <= letter <= "\udcff" for letter in e.path)]
    check.empty("names that are no UTF-8", observed=[ascii(path) for path in strange])
    run = guest.inventory.get("/var/run", follow=False)
    check.one_of("/var/run", expected=("missing", "l"), observed=run.type if run else "missing")
    check.at_least("kernels", expected=1, observed=len(guest.glob("/usr/lib/modules/*/vmlinuz")))
    check.empty("files that buildah injected", observed=guest.glob("/run/.containerenv"))


@requirement("atomic.admin-tools")
def test_tools(guest: Guest, check: Checks) -> None:
    old = guest.os_release.get("VERSION_ID", "").startswith("7")
    wanted = ["atomic", "docker", "ostree", "rpm-ostree"] if old else ["ostree", "podman", "skopeo"]
    check.contains_all("packages", expected=wanted, observed=guest.package_names)
