"""The shape of the language: where its lists are, and which model describes the map at a path."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any

from pydantic import BaseModel

from builder.recipe.language import Overlay
from builder.recipe.terms import ListEdit

__all__ = ["is_list", "model_at"]


def is_list(path: tuple[str, ...]) -> bool:
    """Whether the value at this path of a document is a list that layers append to."""
    return ".".join(path) in _LISTS or (len(path) == 3 and path[0] == "edit" and path[2] == "lines")


def model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that describes the map at a path of a document, or None."""
    current: type[BaseModel] | None = model
    annotation: Any = model
    for step in path:
        if current is not None and str(step) in current.model_fields:
            annotation = current.model_fields[str(step)].annotation
        else:
            inner = [argument for argument in _arguments(annotation) if argument is not str]
            if not inner:
                return None
            annotation = inner[-1]
        current = _model(annotation)
    return current


def _arguments(annotation: Any) -> list[Any]:
    """The element types of the first list or dict in an annotation."""
    for part in _parts(annotation):
        if typing.get_origin(part) in (list, dict):
            return list(typing.get_args(part))
    return []


def _model(annotation: Any) -> type[BaseModel] | None:
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, without ``Annotated`` around them."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _parts(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(annotation) for part in _parts(member)]
    return [annotation]


def _list_paths(model: type[BaseModel], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
        if inner is not None and issubclass(inner, ListEdit):
            found.add(prefix + name)
        elif inner is not None:
            found |= _list_paths(inner, f"{prefix}{name}.")
    return found


_LISTS = frozenset(_list_paths(Overlay))
