"""A container image as engines, OpenShift and Red Hat's container certification want it: its documents."""

from __future__ import annotations

import fnmatch
import json
import posixpath
import re
import shlex
from typing import TYPE_CHECKING

from certification.checks import not_applicable, requirement

if TYPE_CHECKING:
    from certification.checks import Checks
    from certification.expectations import Facts
    from certification.views.container import ContainerImage
    from certification.views.guest import Guest

#: openshift-preflight: acceptableLayerMax, requiredLabels, prohibitedPackageList.
_LAYERS = 40
_LABELS = ("name", "vendor", "version", "release", "summary", "description", "maintainer")
_PROHIBITED = (
    *("grub", "grub2", "grub2-*", "kernel", "kernel-core", "kernel-modules*", "kernel-debug*"),
    *("kernel-devel", "kernel-doc", "kernel-tools*", "kmod-kvdo", "linux-firmware", "kpatch*"),
    *("shim-*", "dracut*"),
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SECRET_NAME = re.compile(r"(?i)(passw(or)?d|secret|token|api[-_]?key|private[-_]?key|credential)")
_SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|(?i:password|secret|token)\s*[=:]\s*\S+|[?&]sig=|AccountKey="
)
_S2I = "io.openshift.s2i.scripts-url"


@requirement("container.layers-intact")
def test_layers(image: ContainerImage, check: Checks) -> None:
    check.at_least("layers", expected=1, observed=len(image.layers))
    for number, layer in enumerate(image.layers):
        check.equal(f"tar of layer {number}", expected=layer["diff_id"], observed=layer["found"])
        check.at_least(f"bytes of layer {number}", expected=1024, observed=layer["unpacked"])


@requirement("container.nothing-hidden")
def test_strangers(image: ContainerImage, check: Checks) -> None:
    check.empty("files that no document names", observed=image.strangers)


@requirement("container.layer-count")
def test_layer_count(image: ContainerImage, check: Checks) -> None:
    check.at_least("layers", expected=1, observed=len(image.layers))
    check.at_most("layers", expected=_LAYERS, observed=len(image.layers))


@requirement("container.platform")
def test_platform(image: ContainerImage, guest: Guest, check: Checks) -> None:
    check.equal("os", expected="linux", observed=image.config.get("os"))
    wanted = _ARCHITECTURES.get(guest.machine, guest.machine)
    check.equal("architecture", expected=wanted, observed=image.config.get("architecture"))


@requirement("container.unique-tag")
def test_tag(image: ContainerImage, check: Checks) -> None:
    check.matches("tag", pattern=r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", observed=image.reference)
    check.differs("tag", unwanted="latest", observed=image.reference)


@requirement("container.required-labels")
def test_labels(image: ContainerImage, check: Checks) -> None:
    present = [label for label in _LABELS if image.labels.get(label, "").strip()]
    check.contains_all("labels", expected=_LABELS, observed=present)


@requirement("container.openshift-labels")
def test_openshift_labels(image: ContainerImage, check: Checks) -> None:
    wanted = ["io.k8s.description", "io.k8s.display-name", "io.openshift.tags"]
    wanted += ["io.openshift.expose-services"] if image.ports else []
    present = [label for label in wanted if image.labels.get(label, "").strip()]
    check.contains_all("labels", expected=wanted, observed=present)
    services = [word for word in image.labels.get("io.openshift.expose-services", "").split(",") if word]
    named = [f"{service.partition(':')[0].removesuffix('/tcp')}/tcp" for service in services]
    check.excludes(
        "services that the image doesn't expose",
        unwanted=[port for port in named if port not in image.ports],
        observed=named,
    )


@requirement("container.non-root")
def test_user(image: ContainerImage, check: Checks) -> None:
    check.matches("user", pattern=r"[1-9][0-9]*", observed=image.user or "root, because none is named")


@requirement("container.arbitrary-user")
def test_arbitrary_user(image: ContainerImage, guest: Guest, check: Checks) -> None:
    check.one_of("group of the user", expected=("0", ""), observed=image.group)
    if not image.group:
        own = [account.gid for account in guest.accounts if str(account.uid) == image.user]
        check.equal("group of the user in /etc/passwd", expected=[0], observed=own)
    home = image.environment.get("HOME", "")
    check.matches("HOME", pattern=r"/.+", observed=home)
    for directory in dict.fromkeys(path for path in (home, image.directory) if path not in ("", "/")):
        top = guest.inventory.get(directory)
        check.equal(f"{directory}", expected="d", observed=top.type if top else "missing")
        if top is None:
            continue
        check.true(f"group 0 writes {directory}", observed=top.gid == 0 and top.mode & 0o070 == 0o070,
                   otherwise=f"group {top.gid}, mode {top.mode:04o}")  # fmt: skip
        private = [
            f"{entry.path} (group {entry.gid}, mode {entry.mode:04o})"
            for entry in guest.inventory.below(directory)
            if entry.type in "fd" and (entry.gid != 0 or entry.mode >> 3 & 0o7 != entry.mode >> 6 & 0o7)
        ]
        check.empty(f"what group 0 may not do as its owner below {directory}", observed=private)


@requirement("container.entry-point")
def test_program(image: ContainerImage, guest: Guest, check: Checks) -> None:
    words = [*image.process.get("Entrypoint", ())[:1], *image.process.get("Cmd", ())[:1]]
    check.at_least("words that are run", expected=1, observed=len(words))
    for word in words:
        path = _found(word, image, guest)
        if not check.true(word, observed=path is not None, expected="found", otherwise="not on the PATH"):
            continue
        assert path is not None
        _runnable(path, guest, check)


@requirement("container.s2i-scripts")
def test_s2i(image: ContainerImage, guest: Guest, check: Checks) -> None:
    if not (image.labels.get(_S2I) or guest.inventory.get("/usr/libexec/s2i")):
        not_applicable("the image is none for source-to-image: it has neither the label nor the scripts")
    check.matches(_S2I, pattern=r"image:///.+", observed=image.labels.get(_S2I, ""))
    place = image.labels.get(_S2I, "").removeprefix("image://")
    for name in ("assemble", "run", "usage"):
        _runnable(posixpath.join(place, name), guest, check)


@requirement("container.unprivileged-ports")
def test_ports(image: ContainerImage, check: Checks) -> None:
    if not image.ports:
        not_applicable("the image exposes no port")
    for port in image.ports:
        number, _, protocol = port.partition("/")
        check.one_of(f"protocol of {port}", expected=("tcp", "udp", ""), observed=protocol)
        check.at_least(port, expected=1024, observed=int(number) if number.isdigit() else 0)


@requirement("container.prohibited-packages")
def test_packages(guest: Guest, check: Checks) -> None:
    check.at_least("packages", expected=5, observed=len(guest.packages))
    found = [p.nevra for p in guest.packages if any(fnmatch.fnmatchcase(p.name, n) for n in _PROHIBITED)]
    check.empty("packages of a machine", observed=found)


@requirement("container.packages-signed")
def test_signatures(guest: Guest, facts: Facts, check: Checks) -> None:
    check.at_least("packages", expected=5, observed=len(guest.packages))
    others = [f"{p.nevra}: {p.key or 'not signed'}" for p in guest.packages if p.key not in facts.key_ids]
    check.empty("packages that the distribution didn't sign", observed=others)


@requirement("container.no-secrets")
def test_secrets(image: ContainerImage, check: Checks) -> None:
    values = {**image.environment, **image.labels}
    check.at_least("variables and labels", expected=1, observed=len(values))
    named = [name for name, value in values.items() if value and _SECRET_NAME.search(name)]
    check.empty("variables and labels that are called like a secret", observed=named)
    texts = {"environment and labels": values, "history": image.config.get("history", [])}
    check.empty(
        "texts that hold one",
        observed=[name for name, value in texts.items() if _SECRET_TEXT.search(json.dumps(value))],
    )


@requirement("container.dotnet-environment")
def test_dotnet(image: ContainerImage, guest: Guest, check: Checks) -> None:
    if not guest.dotnet:
        not_applicable("no .NET root is in the image")
    variables = image.environment
    running = "DOTNET_RUNNING_IN_CONTAINER"
    check.equal(running, expected="true", observed=variables.get(running, ""))
    urls = re.split(r"[;,]", variables.get("ASPNETCORE_URLS", ""))
    ports = [url.rpartition(":")[2].strip("/") for url in urls if url]
    ports += [port for port in re.split(r"[;,]", variables.get("ASPNETCORE_HTTP_PORTS", "")) if port]
    check.at_least("addresses that ASP.NET Core is told", expected=1, observed=len(ports))
    for port in ports:
        check.contains(f"port {port}", expected=f"{port}/tcp", observed=image.ports)


def _found(word: str, image: ContainerImage, guest: Guest) -> str | None:
    """The path of a program that is named by its path or found on the image's PATH."""
    if "/" in word:
        return posixpath.join(image.directory, word)
    places = image.environment.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").split(":")
    candidates = (posixpath.join(place, word) for place in places)
    return next((path for path in candidates if guest.inventory.get(path) is not None), None)


def _runnable(path: str, guest: Guest, check: Checks) -> None:
    """A file that everybody may run, and so its interpreter."""
    entry = guest.inventory.get(path)
    anybody = entry is not None and entry.type == "f" and entry.mode & 0o555 == 0o555
    seen = f"{entry.type}, mode {entry.mode:04o}" if entry else "missing"
    if check.true(path, observed=anybody, expected="anybody runs it", otherwise=seen):
        first = (guest.access.read_bytes(path) or b"")[:256].partition(b"\n")[0].decode(errors="replace")
        if first.startswith("#!"):
            interpreter = (shlex.split(first[2:]) or [""])[0]
            found = guest.inventory.get(interpreter)
            check.true(f"interpreter of {path}", observed=found is not None and bool(found.mode & 0o001),
                       expected=interpreter, otherwise=f"{interpreter} is missing")  # fmt: skip
