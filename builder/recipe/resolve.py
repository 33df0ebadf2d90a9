"""Recipe to plan: fill in the defaults, read the files it names, derive what follows from its choices."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from builder.errors import Where
from builder.recipe import containers, model, systems
from builder.recipe.edits import script_for
from builder.recipe.language import SECRETS
from builder.recipe.load import Recipe
from builder.recipe.lock import lock_path
from builder.recipe.merge import Item, Leaf, ListEdit, Tree, Value, settled
from builder.recipe.packaging import bootstrap as bootstrap_of
from builder.recipe.violations import RecipeError, Violation
from builder.workspace import digest_file

__all__ = ["default_processor", "identifiers", "origin", "plan"]

_NAMESPACE = uuid.UUID("8d0f4f5e-6f5b-5f0b-9a0c-5c1d2b7e9a41")
_DOTNET_PACKAGES = {
    "runtime": "dotnet-runtime-{channel}",
    "aspnetcore": "aspnetcore-runtime-{channel}",
    "sdk": "dotnet-sdk-{channel}",
}
Model = TypeVar("Model", bound=BaseModel)


def plan(
    recipe: Recipe,
    *,
    version: str,
    source_date_epoch: int,
    bootstrap: model.BootstrapMode | None = None,
) -> model.Plan:
    """Decide everything about one build.

    :param version: ``MAJOR.YYYYMMDD.N``; part of every identifier on the disk.
    :param source_date_epoch: seconds since 1970, the time that files in the image get.
    :param bootstrap: overrides what the recipe or the release's data say.
    :raises RecipeError: with every mistake that shows only now: values missing, files missing, text not
        UTF-8.
    """
    work = _Resolver(recipe)
    head = settled(recipe.tree)
    entry = head["distribution"]
    major, _, _ = str(entry["release"]).partition(".")
    distribution = model.Distribution(
        id=entry["id"],
        name=str(entry["name"]),
        release=str(entry["release"]),
        major=int(major),
        releasever=str(entry.get("releasever", entry["release"])),
        content=recipe.platform,
    )
    architecture = head.get("architecture", "x86_64")
    dotnet = tuple(work.dotnet())
    container, wrong = containers.container(recipe)
    work.violations += wrong
    pieces: dict[str, Any] = {
        "repositories": tuple(work.repositories(distribution, architecture)),
        "packages": work.packages(dotnet),
        "files": tuple(work.files()),
        "scripts": tuple(sorted([*work.edits(), *work.scripts()], key=lambda script: script.name)),
        **(work.machine() if container is None and not wrong else containers.NO_MACHINE),
        "locale": work.section("locale", model.Locale),
        "certification": work.section("certification", model.CertificationSpec),
        "ostree": work.ostree(distribution, architecture),
        "container": container,
    }
    if work.violations:
        raise RecipeError(recipe.name, work.violations)
    return model.Plan(
        recipe=recipe.name,
        variant=dict(recipe.values),
        title=recipe.title,
        summary=recipe.summary,
        version=version,
        source_date_epoch=source_date_epoch,
        architecture=architecture,
        distribution=distribution,
        licence=head.get("licence", "free"),
        visibility=head.get("visibility", "private"),
        security=head.get("security", "standard"),
        processor=head.get("processor") or default_processor(distribution.major, architecture),
        lock_digest=_lock_digest(recipe),
        bootstrap=bootstrap_of(distribution.platform, bootstrap or head.get("bootstrap")),
        default_target=head.get("default_target", "multi-user.target"),
        dotnet=dotnet,
        identifiers=identifiers(recipe.name, version),
        substitutions=recipe.substitutions,
        **pieces,
    )


def default_processor(major: int, architecture: str) -> model.Processor | None:
    """What a release's packages are compiled for: x86-64-v2 from Enterprise Linux 9 on, v3 from 10 on.

    Source: the releases' notes ("architectures"); 7 and 8 run on every x86_64 processor.
    """
    if architecture != "x86_64":
        return None
    return "x86-64-v3" if major >= 10 else "x86-64-v2" if major == 9 else "x86-64-v1"


def identifiers(recipe: str, version: str) -> model.Identifiers:
    """The identifiers of one version: distinct for every version, the same each time it is built."""

    def derive(what: str) -> uuid.UUID:
        return uuid.uuid5(_NAMESPACE, f"{recipe}/{version}/{what}")

    serial = derive("esp-serial").hex[:8].upper()
    names = ("disk_guid", "bios_guid", "esp_guid", "boot_guid", "root_guid", "boot_fs", "root_fs", "vhd")
    return model.Identifiers(
        esp_serial=f"{serial[:4]}-{serial[4:]}", **{name: derive(name) for name in names}
    )


def _lock_digest(recipe: Recipe) -> str | None:
    lock = lock_path(recipe.root, recipe.name)
    return digest_file(lock) if lock.is_file() else None


def origin(where: Where) -> model.Origin:
    """The place of a value as the plan keeps it."""
    return model.Origin(path=str(where.path), line=where.line)


class _Resolver:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.violations: list[Violation] = []

    def section(self, name: str, kind: type[Model]) -> Model:
        """One part of the plan; what the recipe leaves out takes the model's default."""
        value = self.recipe.tree.children.get(name)
        data = settled(value) if isinstance(value, Tree) else {}
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                dotted = ".".join((name, *(str(step) for step in problem["loc"])))
                missing = problem["type"] == "missing"
                self.violations.append(
                    Violation(
                        "HM007" if missing else "HM006",
                        _place(value) or self.recipe.where("recipe"),
                        f"{dotted} is missing" if missing else f"{dotted}: {problem['msg']}",
                        "neither the recipe nor one of its layers sets it" if missing else "",
                        "set it in the recipe or extend a layer that does" if missing else "",
                    )
                )
        return kind.model_construct()

    def machine(self) -> dict[str, Any]:
        """The parts of a plan that a container doesn't have."""
        return {
            "services": self.section("services", model.Services),
            "kernel": self.section("kernel", model.Kernel),
            "dracut": self.section("dracut", model.Dracut),
            "selinux": self.section("selinux", model.Selinux),
            "bootloader": self.section("bootloader", model.Bootloader),
            "disk": self.section("disk", model.DiskSpec),
            "outputs": self.outputs(),
        }

    def ostree(self, distribution: model.Distribution, architecture: str) -> model.Ostree | None:
        tree = self.recipe.tree.children.get("ostree")
        if not isinstance(tree, Tree):
            return None
        variables = _variables(distribution, architecture)
        made, wrong = systems.system(
            tree, distribution=distribution, replace=lambda text: _replaced(text, variables)
        )
        self.violations += wrong
        if made is not None and made.key is not None and not Path(made.key).is_absolute():
            self.inside(made.key, tree.children["key"])
        return made

    def repositories(self, distribution: model.Distribution, architecture: str) -> Iterator[model.Repository]:
        variables = _variables(distribution, architecture)
        for name, tree in self._trees("repositories"):
            data = settled(tree)
            sources = [key for key in ("embedded", "baseurl", "metalink") if key in data]
            if len(sources) != 1:
                self._wrong(
                    tree,
                    f"repository {name!r} has {' and '.join(sources) or 'no source'}",
                    "packages come from one place",
                    "set exactly one of embedded, baseurl and metalink",
                )
            for key in ("key", "fingerprint"):
                if key not in data:
                    self._wrong(
                        tree,
                        f"repository {name!r} has no {key}",
                        "packages of unknown origin must not get into an image",
                        "name the key file and pin its fingerprint",
                        code="HM007",
                    )
            if ("client_certificate" in data) != ("client_key" in data):
                missing = "client_key" if "client_certificate" in data else "client_certificate"
                self._wrong(
                    tree,
                    f"repository {name!r} has no {missing}",
                    "certificate and key are used together",
                    "name both, or neither; one PEM file may serve as both",
                    code="HM007",
                )
            for key in SECRETS & data.keys():
                data[key]["where"] = origin(tree.children[key].where)
            if len(sources) == 1 and "key" in data and "fingerprint" in data:
                # The language knows relative paths only: an absolute one is a mirrors file's own key.
                if not Path(str(data["key"])).is_absolute():
                    self.inside(str(data["key"]), tree.children["key"])
                for key in ("baseurl", "metalink"):
                    if key in data:
                        data[key] = _replaced(str(data[key]), variables)
                data.setdefault("name", name)
                yield model.Repository(id=name, where=origin(tree.where), **data)

    def packages(self, dotnet: tuple[model.DotnetRuntime, ...]) -> model.Packages:
        requests = [
            model.PackageRequest(name=str(item.value), where=origin(item.where))
            for item in self._items("packages", "install")
        ]
        held = {request.name for request in requests}
        channels = {str(item.value): item.where for item in self._items("dotnet", "runtimes")}
        for runtime in dotnet:
            name = _DOTNET_PACKAGES[runtime.kind].format(channel=runtime.channel)
            if name not in held:
                requests.append(model.PackageRequest(name=name, where=origin(channels[runtime.channel])))
        exclude = tuple(str(item.value) for item in self._items("packages", "exclude"))
        return model.Packages(install=tuple(requests), exclude=exclude)

    def dotnet(self) -> Iterator[model.DotnetRuntime]:
        tree = self.recipe.tree.children.get("dotnet")
        data: dict[str, Any] = settled(tree) if isinstance(tree, Tree) else {}
        kind = data.get("kind", "runtime")
        for item in self._items("dotnet", "runtimes"):
            yield model.DotnetRuntime(channel=str(item.value), kind=kind)

    def outputs(self) -> tuple[str, ...]:
        """The formats, the VHD first: it is always made, because the others are made from it."""
        return tuple(dict.fromkeys(("vhd", *(str(item.value) for item in self._items("outputs")))))

    def files(self) -> Iterator[model.InstalledFile]:
        for path, tree in self._trees("files"):
            data = settled(tree)
            content = self._content(tree, f"the file {path}")
            if content is not None:
                yield model.InstalledFile(
                    path=path,
                    content=content,
                    mode=int(str(data.get("mode", "0644")), 8),
                    owner=data.get("owner", "root"),
                    group=data.get("group", "root"),
                    where=origin(tree.where),
                )

    def scripts(self) -> Iterator[model.Script]:
        for name, tree in self._trees("scripts"):
            content = self._content(tree, f"the script {name!r}")
            if content is None:
                continue
            if not content.startswith("#!"):
                self._wrong(tree, f"the script {name!r} has no #! line", fix="start it with #!/bin/sh")
            yield model.Script(name=name, content=content, where=origin(tree.where))

    def edits(self) -> Iterator[model.Script]:
        for path, tree in self._trees("edit"):
            name = "10-edit" + path.replace("/", "-").replace(".", "-").lower()
            values = tree.children.get("set")
            pairs = {} if not isinstance(values, Tree) else {k: str(v) for k, v in settled(values).items()}
            lines = tuple(str(item.value) for item in self._items("edit", path, "lines"))
            if pairs or lines:
                content = script_for(path, pairs, lines)
                yield model.Script(name=name, content=content, where=origin(tree.where))

    def inside(self, text: str, value: Value) -> Path | None:
        """The path of a file that a recipe names, or None with a violation if it leads out of the tree."""
        path = (self.recipe.root / text).resolve()
        if path.is_relative_to(self.recipe.root):
            return path
        self.violations.append(
            Violation(
                "HM010",
                _place(value) or self.recipe.where("recipe"),
                f"the path {text!r} leads out of {self.recipe.root.name}/",
                "a recipe must be complete in its own tree",
                "copy the file into the tree",
            )
        )
        return None

    def _content(self, tree: Tree, what: str) -> str | None:
        content, source = tree.children.get("content"), tree.children.get("source")
        given = [item for item in (content, source) if isinstance(item, Leaf) and item.value is not None]
        if len(given) != 1:
            both = "both content and source" if given else "neither content nor source"
            self._wrong(tree, f"{what} has {both}", fix="set one of the two; null takes a lower layer's away")
            return None
        if given[0] is content:
            return str(given[0].value)
        path = self.inside(str(given[0].value), given[0])
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self.violations.append(
                Violation(
                    "HM010",
                    given[0].where,
                    f"cannot read the source of {what}: {why}",
                    str(path),
                    "put a text file there, or correct the path",
                )
            )
            return None

    def _trees(self, section: str) -> Iterator[tuple[str, Tree]]:
        value = self.recipe.tree.children.get(section)
        if isinstance(value, Tree):
            for name, child in value.children.items():
                if isinstance(child, Tree):
                    yield name, child

    def _items(self, *path: str) -> tuple[Item, ...]:
        value: Value | None = self.recipe.tree
        for step in path:
            value = value.children.get(step) if isinstance(value, Tree) else None
        return value.append if isinstance(value, ListEdit) else ()

    def _wrong(self, tree: Tree, what: str, why: str = "", fix: str = "", *, code: str = "HM006") -> None:
        self.violations.append(Violation(code, tree.where, what, why, fix))


def _variables(distribution: model.Distribution, architecture: str) -> dict[str, str]:
    return {
        "$releasever": distribution.releasever,
        "$major": str(distribution.major),
        "$basearch": architecture,
    }


def _replaced(text: str, variables: dict[str, str]) -> str:
    for word, value in variables.items():
        text = text.replace(word, value)
    return text


def _place(value: Value | None) -> Where | None:
    return value.where if value is not None else None
