"""The part of a plan that says where a system comes from that is deployed as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from builder.recipe import model
from builder.recipe.language import SECRETS
from builder.recipe.merge import Tree, settled
from builder.recipe.violations import Violation

__all__ = ["system"]

_ADDRESSES = ("url", "source")
_WITH_VARIABLES = (*_ADDRESSES, "ref", "image")


def system(
    tree: Tree, *, distribution: model.Distribution, replace: Callable[[str], str]
) -> tuple[model.Ostree | None, list[Violation]]:
    """The system that the section ``ostree`` of a recipe describes, and what is wrong with it.

    :param replace: puts values in the place of ``$major`` and the like.
    """
    data = settled(tree)
    for key in _WITH_VARIABLES:
        if key in data:
            data[key] = replace(str(data[key]))
    wrong = list(_wrong(tree, data))
    if wrong:
        return None, wrong
    for key in SECRETS & data.keys():
        data[key]["where"] = _origin(tree.children[key])
    data.setdefault("stateroot", distribution.id)
    return model.Ostree(where=_origin(tree), **data), []


def _wrong(tree: Tree, data: dict[str, Any]) -> Iterator[Violation]:
    def missing(key: str, why: str, fix: str) -> Violation:
        return Violation("HM007", tree.where, f"ostree has no {key}", why, fix)

    if ("image" in data) == ("url" in data):
        both = "both image and url" if "image" in data else "neither image nor url"
        yield Violation(
            "HM006", tree.where, f"ostree has {both}", "a system comes from one place", "set one of the two"
        )
        return
    if "url" in data:
        for key in ("remote", "ref"):
            if key not in data:
                why = "without it the machine could not update itself"
                yield missing(key, why, "set remote, url and ref")
        if ("key" in data) != ("fingerprint" in data):
            one = "fingerprint" if "key" in data else "key"
            yield missing(one, "a key is trusted by its fingerprint alone", "set key and fingerprint")
        elif "key" not in data and ("commit" not in data or data.get("compose", False)):
            yield missing(
                "key",
                "nobody would know whose system it is",
                "set key and fingerprint of who signs the commits; or, where nobody signs them, `commit`: "
                "exactly that one is taken",
            )
    if ("client_certificate" in data) != ("client_key" in data):
        one = "client_key" if "client_certificate" in data else "client_certificate"
        yield missing(one, "certificate and key are used together", "name both, or neither")
    signing = data.get("signing_key")
    if data.get("compose", False) != (signing is not None) or (signing is not None and len(signing) != 1):
        yield Violation(
            "HM006",
            tree.where,
            "ostree.compose and ostree.signing_key don't go together",
            "a commit that is made here is signed here, one that is fetched has its signature",
            "set `compose: true` with a signing_key of `secret` or `embedded`, or neither of them",
        )
    for key in _ADDRESSES:
        problem = _bad_address(data[key]) if key in data else None
        if problem:
            yield Violation(
                "HM006",
                tree.children[key].where,
                f"ostree.{key} is no address of a repository: {problem}",
                # The address itself isn't repeated: what is too much in it may be a secret.
                "ostree reads https:, http: and file: only",
                "https://HOST/PATH, or file:///ABSOLUTE/PATH of a repository"
                + (" or of a tar of one" if key == "source" else ""),
            )


def _bad_address(text: str) -> str | None:
    try:
        address = urlsplit(text)
        netloc, _ = address.netloc, address.port
    except ValueError:
        return "it can't be taken apart"
    if address.query or address.fragment:
        return "it has a query or a fragment"
    if address.scheme in ("http", "https"):
        return None if address.hostname else "it names no host"
    if address.scheme == "file":
        path = PurePosixPath(address.path)
        return None if not netloc and path.is_absolute() else "its path must be absolute: three slashes"
    return f"the scheme {address.scheme}:" if address.scheme else "it has no scheme"


def _origin(value: Any) -> model.Origin:
    return model.Origin(path=str(value.where.path), line=value.where.line)
