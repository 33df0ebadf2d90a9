"""What the language of recipes is made of: texts with their patterns, and lists that layers edit."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from builder.recipe.conditions import check_specifier
from builder.secrets import REFERENCE

__all__ = [
    "MEANINGS",
    "AbsolutePath",
    "Argument",
    "Arguments",
    "Channel",
    "Channels",
    "Commit",
    "Digest",
    "Entry",
    "Fingerprint",
    "Generations",
    "Given",
    "ImagePath",
    "KeyFile",
    "Label",
    "Line",
    "Lines",
    "ListEdit",
    "Mode",
    "Module",
    "Modules",
    "Name",
    "Names",
    "Outputs",
    "PackageName",
    "Paths",
    "Policies",
    "Port",
    "Ports",
    "Reference",
    "RelativePath",
    "Release",
    "ReleaseVariable",
    "Specifier",
    "Targets",
    "Text",
    "TimeZone",
    "Unit",
    "Units",
    "Url",
    "Variable",
    "VariantValue",
    "Words",
]

Item = TypeVar("Item")

# What a pattern means, for people; ``load`` looks the broken pattern up here.
MEANINGS: dict[str, str] = {}


def _pattern(pattern: str, meaning: str, *, longest: int | None = None) -> StringConstraints:
    MEANINGS[pattern] = meaning
    return StringConstraints(pattern=pattern, max_length=longest)


#: NAME_MAX and PATH_MAX of Linux, in bytes: no file system call takes more.
_LONGEST_PART, _LONGEST_PATH = 255, 4095
#: What stands before the first slash of an address, scheme or not. curl forgives one slash or three, and
#: backslashes, and schemes in capitals.
_CREDENTIALS = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?[/\\]*[^/\\?#]*@", re.IGNORECASE)
_UNIT = r"^[A-Za-z0-9:_.@\\-]+\.(service|socket|timer|target|mount|path|slice|automount|swap)$"

Name = Annotated[
    str, _pattern(r"^[a-z0-9]+(-[a-z0-9]+)*$", "small letters, digits and single hyphens", longest=60)
]
Text = Annotated[str, StringConstraints(min_length=1)]
Line = Annotated[str, _pattern(r"^[^\x00\r\n]+$", "one line of text")]
Release = Annotated[str, _pattern(r"^[0-9]{1,4}(\.[0-9]{1,4})?$", "a release such as '9' or '9.6'")]
#: It is put into addresses, which must not get credentials by it.
ReleaseVariable = Annotated[
    str, _pattern(r"^[A-Za-z0-9._-]+$", "letters, digits, dots, hyphens and underscores")
]
TimeZone = Annotated[
    str, _pattern(r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$", "a time zone such as Europe/Berlin")
]
Channel = Annotated[str, _pattern(r"^[0-9]+\.[0-9]+$", "a .NET channel such as '10.0'")]
Unit = Annotated[str, _pattern(_UNIT, "a systemd unit with its suffix, such as sshd.service")]
PackageName = Annotated[
    str, _pattern(r"^@?[A-Za-z0-9][A-Za-z0-9+._*?\[\]^-]*$", "a package name, a glob or a @group")
]
Module = Annotated[str, _pattern(r"^[A-Za-z0-9_-]+$", "a name of letters, digits, hyphens and underscores")]
Argument = Annotated[str, _pattern(r"^[^\s\"']+$", "one argument, without spaces and quotes")]
Mode = Annotated[str, _pattern(r"^0?[0-7]{3,4}$", "octal permission bits such as '0644'")]
Fingerprint = Annotated[str, _pattern(r"^[0-9A-F]{40}$", "40 hexadecimal digits in upper case")]
Commit = Annotated[str, _pattern(r"^[0-9a-f]{64}$", "an ostree commit: 64 hexadecimal digits")]
Digest = Annotated[str, _pattern(r"^sha256:[0-9a-f]{64}$", "a digest such as 'sha256:…' with 64 digits")]
VariantValue = Annotated[
    str,
    _pattern(r"^[a-z0-9]+([-_][a-z0-9]+)*$", "small letters, digits, hyphens and underscores", longest=30),
]
Specifier = Annotated[str, AfterValidator(check_specifier)]
Variable = Annotated[str, _pattern(r"^[A-Za-z_][A-Za-z0-9_]*$", "the name of an environment variable")]
Label = Annotated[
    str, _pattern(r"^[a-z0-9]+([._/-][a-z0-9]+)*$", "a label such as io.k8s.description", longest=128)
]
Port = Annotated[int, Field(ge=1024, le=65535)]
Reference = Annotated[str, _pattern(REFERENCE, "env:NAME or file:/absolute/path, never the secret itself")]


def _no_dots(path: str) -> str:
    if any(part in (".", "..") for part in path.split("/")):
        raise ValueError("a path must not contain '.' or '..'")
    return path


def _short(path: str) -> str:
    parts = path.split("/")
    if len(path.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_PART for part in parts):
        raise ValueError(f"no file name is longer than {_LONGEST_PART} bytes, no path than {_LONGEST_PATH}")
    return path


def _no_password(url: str) -> str:
    if _CREDENTIALS.match(url):
        raise ValueError("a password in an address would be written into plans and logs")
    return url


def _words(line: str) -> str:
    try:
        shlex.split(line)
    except ValueError as error:
        raise ValueError(f"it is split as a shell does: {str(error).lower()}") from None
    return line


#: A program with its arguments, which a shell's quotes may hold together; upper layers replace it as a whole.
Words = Annotated[Line, AfterValidator(_words)]
AbsolutePath = Annotated[
    str,
    _pattern(r"^(/[^/\x00\r\n]+)+$", "an absolute path without a slash at its end"),
    AfterValidator(_short),
]
RelativePath = Annotated[
    str, _pattern(r"^[^/\x00\r\n][^\x00\r\n]*$", "a relative path"), AfterValidator(_short)
]
#: A file beside a mirrors file, or anywhere.
KeyFile = Annotated[Line, AfterValidator(_short)]
ImagePath = Annotated[AbsolutePath, AfterValidator(_no_dots)]
Url = Annotated[Line, AfterValidator(_no_password)]


class Entry(BaseModel):
    """A map of the language: no unknown keys, and numbers where text is asked for are text."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, strict=False)


def _not_null(value: Any) -> Any:
    if value is None:
        raise ValueError("null says nothing here; leave the key out")
    return value


class _Given:
    """Marks the keys that may be left out but not be null, and tells editors so."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_not_null, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        given: JsonSchemaValue = handler(schema)["anyOf"][0]
        return given


#: A key of a map where null has no meaning: nothing below it could be put back.
Given = Annotated[Item | None, _Given()]


def _as_edit(value: Any) -> Any:
    return {"append": value} if isinstance(value, list) else value


class ListEdit(Entry, Generic[Item]):
    """A list in a document: the items to append, or a map that says more."""

    replace: list[Item] | None = None
    append: list[Item] | None = None
    remove: list[str] | None = None


class _List:
    """Marks the fields that are lists in the language and describes them to editors."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        edit = handler.resolve_ref_schema(handler(core_schema)["anyOf"][0])
        array = {"type": "array", "items": edit["properties"]["append"]["anyOf"][0]["items"]}
        words = dict.fromkeys(("replace", "append", "remove"), array)
        words["remove"] = {"type": "array", "items": {"type": "string"}}
        return {
            "oneOf": [
                array,
                {"type": "object", "additionalProperties": False, "properties": words},
                {"type": "null"},
            ]
        }


Names = Annotated[ListEdit[PackageName] | None, BeforeValidator(_as_edit), _List()]
Arguments = Annotated[ListEdit[Argument] | None, BeforeValidator(_as_edit), _List()]
Modules = Annotated[ListEdit[Module] | None, BeforeValidator(_as_edit), _List()]
Units = Annotated[ListEdit[Unit] | None, BeforeValidator(_as_edit), _List()]
Channels = Annotated[ListEdit[Channel] | None, BeforeValidator(_as_edit), _List()]
Lines = Annotated[ListEdit[Line] | None, BeforeValidator(_as_edit), _List()]
Policies = Annotated[ListEdit[Name] | None, BeforeValidator(_as_edit), _List()]
Generations = Annotated[ListEdit[Literal[1, 2]] | None, BeforeValidator(_as_edit), _List()]
Outputs = Annotated[
    ListEdit[Literal["vhd", "vhdx", "qcow2", "oci"]] | None, BeforeValidator(_as_edit), _List()
]
Paths = Annotated[ListEdit[ImagePath] | None, BeforeValidator(_as_edit), _List()]
Ports = Annotated[ListEdit[Port] | None, BeforeValidator(_as_edit), _List()]
Targets = Annotated[ListEdit[Literal["azure", "hyperv"]] | None, BeforeValidator(_as_edit), _List()]
