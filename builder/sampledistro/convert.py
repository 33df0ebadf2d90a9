"""A Debian package becomes one or several RPM packages."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from builder.sampledistro.bytecode import MODULE_TREES, compile_modules
from builder.sampledistro.content import Content, apply_change, finish
from builder.sampledistro.deb import Deb, Member
from builder.sampledistro.definition import Change, Definition, Handmade
from builder.sampledistro.paths import PathRules, merge_usr, relocate_target
from builder.sampledistro.rpm import Dependency, Entry, FileTrigger, PackageSpec, Scripts
from builder.sampledistro.translate import Version, dependencies, provides

__all__ = ["control_requires", "convert", "handmade"]

_COPYRIGHT = re.compile(r"^/usr/share/doc/[^/]+/copyright$")
_KERNEL = re.compile(r"^linux-image-(\d.*)$")


def convert(deb: Deb, *, definition: Definition, available: Collection[str]) -> list[PackageSpec]:
    """Translate a package; the first result is the main one, then what it is split into.

    :param available: see :func:`builder.sampledistro.translate.dependencies`.
    :raises HallmarkError: the package is damaged, or a change finds nothing to act on.
    """
    control = deb.control
    name = definition.names.rpm(control["Package"])
    version = Version.parse(control["Version"])
    release = version.release or "0"
    change = definition.changes.get(name, Change())
    content = _content(deb, package=name, definition=definition)
    apply_change(content, change, package=name, definition=definition)
    _compile(content)

    evr = f"{version.epoch}:{version.version}-{release}" if version.epoch else f"{version.version}-{release}"
    summary, _, long_text = control.get("Description", name).partition("\n")
    requires = [
        dependency
        for dependency in control_requires(control, definition=definition, available=available)
        if dependency.name not in (name, *change.drop_requires)
    ]
    offers = provides(control.get("Provides", ""))
    if name != control["Package"]:
        offers.append(Dependency(control["Package"], "=", evr))
    if match := _KERNEL.match(control["Package"]):
        # What `uname -r` says; Enterprise Linux kernels provide this name, and tools look for it.
        offers.append(Dependency("kernel-uname-r", "=", match[1]))
    common = {
        "version": version.version,
        "release": release,
        "epoch": version.epoch,
        "arch": "noarch" if control["Architecture"] == "all" else "x86_64",
        "url": control.get("Homepage", ""),
        "vendor": definition.identity.vendor,
    }
    specs = []
    whole = tuple(requires)
    for part, patterns in change.split.items():
        belongs = PathRules(patterns.paths, ()).compile()
        taken = {path: content.pop(path) for path in list(content) if belongs.match(path)}
        specs.append(
            PackageSpec(
                name=part,
                summary=patterns.summary,
                entries=finish(taken, package=part, definition=definition),
                requires=(*(whole if patterns.dependencies else ()), *_own(patterns.requires, evr)),
                **common,  # type: ignore[arg-type]  # the values are of different types, each right for its field
            )
        )
        if patterns.required:
            requires.append(Dependency(part, "=", evr))
    main = PackageSpec(
        name=name,
        summary=change.summary or summary,
        description=_description(long_text),
        license=change.license or "see /usr/share/licenses",
        entries=finish(content, package=name, definition=definition),
        requires=(*requires, *_own(change.requires, evr)),
        provides=(*offers, *_own(change.provides, evr)),
        obsoletes=tuple(map(Dependency.parse, change.obsoletes)),
        scripts=Scripts(change.scripts.pre, change.scripts.post, change.scripts.posttrans),
        triggers=tuple(FileTrigger(trigger.path, trigger.script) for trigger in change.triggers),
        **common,  # type: ignore[arg-type]  # see above
    )
    return [main, *specs]


def control_requires(
    control: Mapping[str, str], *, definition: Definition, available: Collection[str]
) -> list[Dependency]:
    """What a Debian package requires, translated; see :func:`builder.sampledistro.translate.dependencies`."""
    fields = ", ".join(filter(None, (control.get("Pre-Depends", ""), control.get("Depends", ""))))
    return dependencies(fields, names=definition.names, available=available)


def handmade(
    package: Handmade, *, name: str, definition: Definition, extra: Content | None = None
) -> PackageSpec:
    """A package that exists only here. ``extra``: content that is made at run time."""
    content: Content = dict(extra or {})
    apply_change(content, package, package=name, definition=definition)
    evr = f"{package.version}-{package.release}"
    return PackageSpec(
        name=name,
        version=package.version,
        release=package.release,
        summary=package.summary,
        license=package.license,
        arch=package.arch,
        url=definition.identity.url,
        vendor=definition.identity.vendor,
        entries=finish(content, package=name, definition=definition),
        requires=_own(package.requires, evr),
        provides=_own(package.provides, evr),
        obsoletes=tuple(map(Dependency.parse, package.obsoletes)),
        scripts=Scripts(package.scripts.pre, package.scripts.post, package.scripts.posttrans),
        triggers=tuple(FileTrigger(trigger.path, trigger.script) for trigger in package.triggers),
    )


def _own(texts: Collection[str], evr: str) -> tuple[Dependency, ...]:
    """Provided names; ``{evr}`` stands for the package's own version."""
    return tuple(Dependency.parse(text.replace("{evr}", evr)) for text in texts)


def _content(deb: Deb, *, package: str, definition: Definition) -> Content:
    rules, drop, keep = definition.rules, definition.rules.compile(), definition.keep
    content: Content = {}
    for member in deb.members():
        if member.path == "/":
            continue
        if _COPYRIGHT.match(member.path) and member.kind == "file":
            path = f"/usr/share/licenses/{package}/copyright"
            content[path] = Entry(path, "file", content=member.content, license=True)
            continue
        merged = merge_usr(member.path)
        if drop.match(merged) and not keep.match(merged):
            continue
        path = rules.place(member.path)
        if member.kind == "directory" and path in content:
            continue
        content[path] = _entry(member, path, rules)
    # A directory of which everything was dropped would only be litter: Debian's packages list every parent.
    used = {path for path, entry in content.items() if entry.kind != "directory"}
    return {
        path: entry for path, entry in content.items() if entry.kind != "directory" or _is_wanted(path, used)
    }


def _is_wanted(path: str, used: set[str]) -> bool:
    return path.startswith(("/etc/", "/var/")) or any(other.startswith(path + "/") for other in used)


def _entry(member: Member, path: str, rules: PathRules) -> Entry:
    if member.kind == "directory":
        return Entry(path, "directory", member.mode, member.user, member.group)
    if member.kind == "link":
        return Entry(path, "link", 0o777, target=relocate_target(member.path, member.target, rules=rules))
    if member.kind == "hardlink":
        target = relocate_target(member.path, member.target, rules=rules)
        return Entry(path, "link", 0o777, target=target)
    return Entry(
        path,
        "file",
        member.mode,
        member.user,
        member.group,
        content=member.content,
        config=path.startswith("/etc/"),
    )


def _compile(content: Content) -> None:
    sources = {
        path: entry.content
        for path, entry in content.items()
        if entry.kind == "file" and path.endswith(".py") and path.startswith(MODULE_TREES)
    }
    for path, data in compile_modules(sources).items() if sources else ():
        content[path] = Entry(path, "file", content=data)


def _description(text: str) -> str:
    return "\n".join("" if line == "." else line for line in text.splitlines())
