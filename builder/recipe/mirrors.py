"""Other places for the content that recipes ask for: ``--repositories FILE``.

A mirrors file maps repository ids to a Satellite, a Pulp, an air-gapped mirror or the sample distribution,
and ostree remotes to a copy of the vendor's repository. It may put packages in the place of others and change
what depends on that. Whatever it changes is a substitution: it is printed, and it is part of the plan and of
the certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from builder import log
from builder.errors import HallmarkError, Where
from builder.recipe import merge, syntax
from builder.recipe.check import violations_of
from builder.recipe.language import Overlay, RepositoryEntry, SecretEntry, Window
from builder.recipe.load import Document, Recipe, expand, find, load, names, overlays, shown
from builder.recipe.model import Origin, Plan, Substitution
from builder.recipe.shape import is_list
from builder.recipe.terms import Entry, Fingerprint, KeyFile, PackageName, Text, Url
from builder.recipe.violations import RecipeError, Violation, did_you_mean

__all__ = ["SETTING", "MirrorsDocument", "substitute", "tell"]

#: The environment variable that names a mirrors file for every command.
SETTING = "HALLMARK_REPOSITORIES"
_KEPT = ("name", "key", "fingerprint")
_TLS = ("client_certificate", "client_key", "ca")
_SHOWN = 90


class MirrorEntry(RepositoryEntry):
    """Where a repository is read from instead. Name, key and fingerprint stay the recipe's unless they are
    given; the recipe's client certificate does not: it is meant for another server.
    """

    key: KeyFile | None = Field(None, description="public key file, relative to the mirrors file")


class SystemEntry(Entry):
    """Where the commits of a remote are kept here, and where machines are told to look for updates. Key and
    fingerprint stay the recipe's unless they are given; the recipe's client certificate does not.
    """

    source: Url | None = Field(None, description="where builds take the commit from: https:, http: or file:")
    url: Url | None = Field(None, description="the ostree repository that machines are updated from")
    key: KeyFile | None = Field(None, description="public key file, relative to the mirrors file")
    fingerprint: Fingerprint | None = Field(None, description="of the key: 40 hexadecimal digits, upper case")
    client_certificate: SecretEntry | None = Field(None, description="PEM; for the source")
    client_key: SecretEntry | None = Field(None, description="PEM; belongs to client_certificate")
    ca: SecretEntry | None = Field(None, description="PEM; who vouches for the source's server")


class Changes(Overlay):
    """What else must differ: laid on the recipe like one more layer, and told as substitutions."""

    windows: list[Window] | None = None


class MirrorsDocument(BaseModel):
    """A mirrors file."""

    model_config = RepositoryEntry.model_config

    summary: Text | None = None
    repositories: dict[str, MirrorEntry] | None = None
    ostree: dict[str, SystemEntry] | None = Field(None, description="by the name of the remote")
    packages: dict[PackageName, PackageName | None] | None = Field(
        None, description="a package and what is installed in its place; null: nothing"
    )
    platform: Annotated[int, Field(ge=7, le=99)] | None = Field(
        None, description="the major release that the packages are made for, if not the recipe's"
    )
    changes: Changes | None = None


def substitute(recipe: Recipe, file: Path | None) -> Recipe:
    """The recipe as this site's mirrors make it.

    Without a file, or if the file maps none of the recipe's repositories and not its remote, it is the recipe
    itself.

    :raises HallmarkError: the file can't be read.
    :raises RecipeError: every mistake in it with its line; an id or a package that no recipe knows is one.
    """
    if file is None:
        return recipe
    file = file.resolve()
    node = _read(file)
    violations = list(violations_of(node, MirrorsDocument))
    if not violations:
        violations += _unknown(node, recipe)
    if violations:
        raise RecipeError(file.name, violations)
    if not any(own(recipe).intersection(_entries(node, key).entries) for key, own in _PLACES.items()):
        return recipe
    changes = node.entries.get("changes")
    tree = recipe.tree
    if isinstance(changes, syntax.Mapping):
        for part in overlays(Document(file.stem, file, shown(file), changes), recipe.context):
            laid = merge.merge(tree, part)
            assert isinstance(laid, merge.Tree), "maps merge to maps"
            tree = laid
    found = list(_changed(recipe.tree, tree, node))
    tree, more = _packages(tree, _entries(node, "packages"))
    found += more
    tree, more = _repositories(tree, _entries(node, "repositories"), file=file, root=recipe.root)
    found += more
    tree, more = _system(tree, _entries(node, "ostree"), file=file, root=recipe.root)
    found += more
    platform = node.entries.get("platform")
    number = int(str(platform.value)) if isinstance(platform, syntax.Scalar) and platform.value else None
    if number is not None and number != int(recipe.context.release.partition(".")[0]):
        place = node.keys["platform"]
        found.append(_record("platform", recipe.context.release.partition(".")[0], str(number), place))
    return replace(recipe, tree=tree, substitutions=tuple(found), platform=number)


def tell(plan: Plan) -> None:
    """Print every substitution of a plan."""
    for item in plan.substitutions:
        log.info(f"substituted {item}  ({item.where})")


def _read(file: Path) -> syntax.Mapping:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise HallmarkError(
            f"cannot read the mirrors file: {error.strerror}",
            where=file,
            why=f"--repositories or {SETTING} names it",
            hint="check the path; images/README.md shows what such a file looks like",
        ) from None
    node, violations = syntax.parse(data, path=shown(file))
    if node is None or violations:
        raise RecipeError(file.name, violations)
    return node


def _entries(node: syntax.Mapping, key: str) -> syntax.Mapping:
    value = node.entries.get(key)
    return value if isinstance(value, syntax.Mapping) else syntax.Mapping({}, {}, node.where)


def _unknown(node: syntax.Mapping, recipe: Recipe) -> Iterator[Violation]:
    """Ids and packages that no variant of this recipe or of one beside it names: most often misspelt."""
    if not _PLACES.keys() & node.entries.keys():
        yield Violation(
            "HM007",
            node.where,
            "the mirrors file has neither repositories nor ostree",
            "what it changes, it changes for recipes whose places it maps",
            "map repositories by their ids, or ostree remotes by their names",
        )
    for key, kind, own in (
        ("repositories", "repository", _repository_ids),
        ("ostree", "ostree remote", _remotes),
        ("packages", "package", _package_names),
    ):
        strange = {name: place for name, place in _entries(node, key).keys.items() if name not in own(recipe)}
        if not strange:
            continue
        known = own(recipe) | _of_others(recipe, own)
        for name, place in strange.items():
            if name not in known:
                yield Violation(
                    "HM005",
                    place,
                    f"no recipe has the {kind} {name!r}",
                    "nothing would be substituted, and nobody would notice",
                    did_you_mean(name, sorted(known)),
                )
    mapped = [(kind, *item) for kind in _PLACES for item in _entries(node, kind).entries.items()]
    for section, name, entry in mapped:
        given = entry.entries if isinstance(entry, syntax.Mapping) else {}
        place = _entries(node, section).keys[name]
        for key, value in given.items():
            if syntax.plain(value) is None:
                yield Violation(
                    "HM006",
                    value.where,
                    f"the mirror of {name!r} has no {key}",
                    fix="leave the key out: null says nothing here",
                )
        sources = given.keys() & {"embedded", "baseurl", "metalink"}
        if section == "repositories" and len(sources) != 1:
            yield Violation(
                "HM006",
                place,
                f"the mirror of {name!r} has {' and '.join(sorted(sources)) or 'no address'}",
                "packages come from one place",
                "set exactly one of embedded, baseurl and metalink",
            )
        if section == "ostree" and not given.keys() & {"source", "url"}:
            yield Violation(
                "HM006",
                place,
                f"the mirror of {name!r} has no address",
                "nothing would be taken from elsewhere",
                "set source, url or both",
            )
        if ("key" in given) != ("fingerprint" in given):
            yield Violation(
                "HM007",
                place,
                f"the mirror of {name!r} has {'a key' if 'key' in given else 'a fingerprint'} only",
                "another key is trusted by its fingerprint alone",
                "give both, or neither to keep the recipe's",
            )


def _of_others(recipe: Recipe, own: Callable[[Recipe], set[str]]) -> frozenset[str]:
    files = sorted([*recipe.root.glob("*.yaml"), *(recipe.root / "layers").glob("*.yaml")])
    return _of_all(recipe.root, own, tuple((path, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=8)
def _of_all(
    root: Path, own: Callable[[Recipe], set[str]], state: tuple[tuple[Path, int], ...]
) -> frozenset[str]:
    """What all variants of all recipes in a directory name; read once as long as its files stay the same."""
    found: set[str] = set()
    for name in names(root):
        try:
            for reference in expand(find(name, images=root)):
                found |= own(load(reference))
        except RecipeError:
            continue  # its own mistakes are told when it is asked for
    return frozenset(found)


def _repository_ids(recipe: Recipe) -> set[str]:
    section = recipe.tree.children.get("repositories")
    return set(section.children) if isinstance(section, merge.Tree) else set()


def _remotes(recipe: Recipe) -> set[str]:
    section = recipe.tree.children.get("ostree")
    remote = section.children.get("remote") if isinstance(section, merge.Tree) else None
    return {str(remote.value)} if isinstance(remote, merge.Leaf) else set()


#: The sections that map places, with what a recipe calls these.
_PLACES: dict[str, Callable[[Recipe], set[str]]] = {"repositories": _repository_ids, "ostree": _remotes}


def _package_names(recipe: Recipe) -> set[str]:
    return {str(item.value) for item in _install(recipe.tree).append}


def _install(tree: merge.Tree) -> merge.ListEdit:
    section = tree.children.get("packages")
    found = section.children.get("install") if isinstance(section, merge.Tree) else None
    return found if isinstance(found, merge.ListEdit) else merge.ListEdit((), tree.where)


def _packages(tree: merge.Tree, wanted: syntax.Mapping) -> tuple[merge.Tree, list[Substitution]]:
    found: list[Substitution] = []
    items: dict[str, merge.Item] = {}
    for item in _install(tree).append:
        name = str(item.value)
        if name in wanted.entries:
            other = syntax.plain(wanted.entries[name])
            place = wanted.keys[name]
            found.append(_record(f"package {name}", name, other, place))
            if other is None:
                continue
            item, name = merge.Item(str(other), place), str(other)
        items.setdefault(name, item)
    if not found:
        return tree, []
    section = tree.children["packages"]
    assert isinstance(section, merge.Tree), "a list was found in it"
    install = replace(_install(tree), append=tuple(items.values()))
    packages = replace(section, children={**section.children, "install": install})
    return replace(tree, children={**tree.children, "packages": packages}), found


def _repositories(
    tree: merge.Tree, wanted: syntax.Mapping, *, file: Path, root: Path
) -> tuple[merge.Tree, list[Substitution]]:
    section = tree.children.get("repositories")
    if not isinstance(section, merge.Tree):
        return tree, []
    found: list[Substitution] = []
    children = dict(section.children)
    for name, entry in wanted.entries.items():
        old = children.get(name)
        if not isinstance(old, merge.Tree) or not isinstance(entry, syntax.Mapping):
            continue
        place = wanted.keys[name]
        new = merge.from_node(entry, is_list=is_list, path=("repositories", name))
        assert isinstance(new, merge.Tree), "a map was read"
        merged = {key: value for key, value in old.children.items() if key in _KEPT}
        children[name] = merge.Tree(merged | _own_key(new, name, file=file, root=root), place)
        found.append(_record(f"repository {name}", _address(old), _address(children[name]), place))
        found += _other_key(f"repository {name}", old, new, place)
    repositories = replace(section, children=children)
    return replace(tree, children={**tree.children, "repositories": repositories}), found


def _system(
    tree: merge.Tree, wanted: syntax.Mapping, *, file: Path, root: Path
) -> tuple[merge.Tree, list[Substitution]]:
    old = tree.children.get("ostree")
    name = str(merge.settled(old).get("remote")) if isinstance(old, merge.Tree) else ""
    entry = wanted.entries.get(name)
    if not isinstance(old, merge.Tree) or not isinstance(entry, syntax.Mapping):
        return tree, []
    place = wanted.keys[name]
    new = merge.from_node(entry, is_list=is_list, path=("ostree", name))
    assert isinstance(new, merge.Tree), "a map was read"
    # A client certificate is meant for the server that the recipe names.
    kept = {
        key: value for key, value in old.children.items() if key not in _TLS or "source" not in new.children
    }
    made = replace(old, children=kept | _own_key(new, name, file=file, root=root))
    was, now = merge.settled(old), merge.settled(made)
    found = []
    if "source" in new.children:
        found.append(_record(f"commits of {name}", was.get("source") or was.get("url"), now["source"], place))
    if "url" in new.children:
        found.append(_record(f"updates of {name}", was.get("url"), now["url"], place))
    found += _other_key(f"remote {name}", old, new, place)
    return replace(tree, children={**tree.children, "ostree": made}), found


def _own_key(new: merge.Tree, name: str, *, file: Path, root: Path) -> dict[str, merge.Value]:
    """What a mirror says, with its key as the plan names it."""
    key = new.children.get("key")
    if not isinstance(key, merge.Leaf):
        return dict(new.children)
    try:
        path = _key_path(str(key.value), file=file, root=root)
    except (OSError, RuntimeError) as error:  # RuntimeError: no such user, or links in a circle
        raise HallmarkError(
            f"the key of the mirror of {name!r} can't be looked for: {error}",
            where=key.where,
            why="what comes from the mirror is checked with it",
            hint="write its path, relative to the mirrors file",
        ) from None
    return {**new.children, "key": replace(key, value=path)}


def _other_key(what: str, old: merge.Tree, new: merge.Tree, place: Where) -> list[Substitution]:
    was, now = (merge.settled(tree).get("fingerprint") for tree in (old, new))
    return [_record(f"key of {what}", was, now, place)] if now not in (None, was) else []


def _key_path(text: str, *, file: Path, root: Path) -> str:
    """A key of a mirrors file as the plan names it: relative to the recipes if it is among them."""
    path = (file.parent / Path(text).expanduser()).resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _address(value: merge.Value) -> str:
    data = merge.settled(value)
    if "embedded" in data:
        return f"embedded {data['embedded']}"
    return str(data.get("baseurl") or data.get("metalink") or "nowhere")


def _changed(before: merge.Tree, after: merge.Tree, node: syntax.Mapping) -> Iterator[Substitution]:
    """What laying the changes on the recipe really changed: single values, and items of lists."""
    old, new = _by_path(before), _by_path(after)
    for path in dict.fromkeys((*old, *new)):
        gone = [value for value in old.get(path, {}) if value not in new.get(path, {})]
        come = [value for value in new.get(path, {}) if value not in old.get(path, {})]
        if gone or come:
            place = new[path][come[0]] if come else syntax.locate(node, ("changes", *path), key=True)
            yield _record(".".join(path), ", ".join(gone) or None, ", ".join(come) or None, place)


def _by_path(tree: merge.Tree) -> dict[tuple[str, ...], dict[str, Where]]:
    found: dict[tuple[str, ...], dict[str, Where]] = {}
    for path, leaf in merge.leaves(tree):
        found.setdefault(path, {})[str(leaf.value)] = leaf.where
    return found


def _record(what: str, was: object, now: object, where: Where) -> Substitution:
    return Substitution(
        what=what, was=_short(was), now=_short(now), where=Origin(path=str(where.path), line=where.line)
    )


def _short(value: object) -> str | None:
    if value is None:
        return None
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
