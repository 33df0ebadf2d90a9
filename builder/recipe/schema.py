"""The JSON schema of recipes and layers, for editors (``# yaml-language-server: $schema=…``)."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from builder.recipe.language import LayerDocument, RecipeDocument
from builder.workspace import PROJECT, atomic_file

__all__ = ["SCHEMA", "text", "write"]

SCHEMA = PROJECT / "images" / "recipe.schema.json"


def text() -> str:
    """The schema of a recipe or a layer."""
    adapter: TypeAdapter[RecipeDocument | LayerDocument] = TypeAdapter(RecipeDocument | LayerDocument)
    schema = adapter.json_schema()
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Hallmark recipe or layer",
        **schema,
    }
    return json.dumps(schema, indent=2) + "\n"


def write(path: Path = SCHEMA) -> Path:
    """Write the schema and return where it is."""
    with atomic_file(path) as temporary:
        temporary.write_text(text(), encoding="utf-8")
    return path
