"""Which label a policy gives to a path: libselinux's file_contexts, read without libselinux.

The rules (selabel_file(5), libselinux/src/label_file.c): substitutions first, then of the patterns that
match the whole path and the file's type, one without wildcards beats one with them, and the last one in the
file wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["FileContexts", "type_of"]

_KINDS = {"--": "f", "-d": "d", "-l": "l", "-c": "c", "-b": "b", "-p": "p", "-s": "s"}
_META = re.compile(r"[.^$?*+|\[({]")


@dataclass(frozen=True, slots=True)
class _Spec:
    prefix: str
    pattern: re.Pattern[str]
    kind: str
    context: str | None


def type_of(context: str) -> str:
    """The type in a context: ``etc_t`` of ``system_u:object_r:etc_t:s0``."""
    return ([*context.split(":"), "", "", ""])[2]


class FileContexts:
    """A policy's labelling rules.

    :param texts: file_contexts, file_contexts.homedirs and file_contexts.local, in this order.
    :param substitutions: file_contexts.subs, then file_contexts.subs_dist.
    :raises ValueError: a line can't be understood.
    """

    def __init__(self, texts: Iterable[str], *, substitutions: Iterable[str] = ()) -> None:
        wild: dict[str, list[_Spec]] = {}
        exact: dict[str, list[_Spec]] = {}
        self.count = 0
        for text in texts:
            for line in text.splitlines():
                words = line.split()
                if not words or words[0].startswith("#"):
                    continue
                if len(words) not in (2, 3) or (len(words) == 3 and words[1] not in _KINDS):
                    raise ValueError(f"no labelling rule: {line}")
                self._add(words, wild, exact)
        # Looked at from the end: wildcards first in the list, exact paths last.
        self._wild, self._exact = wild, exact
        self._substitutions = [
            (words[0], words[1])
            for text in substitutions
            for line in text.splitlines()
            if len(words := line.split()) == 2 and not words[0].startswith("#")
        ]

    def _add(self, words: list[str], wild: dict[str, list[_Spec]], exact: dict[str, list[_Spec]]) -> None:
        self.count += 1
        source, kind = words[0], _KINDS[words[1]] if len(words) == 3 else ""
        context = None if words[-1] == "<<none>>" else words[-1]
        plain = re.sub(r"\\(.)", r"\1", source)
        if _META.search(re.sub(r"\\.", "", source)) is None:
            exact.setdefault(plain, []).append(_Spec(plain, re.compile(re.escape(plain)), kind, context))
            return
        prefix = _literal_prefix(source)
        try:
            spec = _Spec(prefix, re.compile(source, re.DOTALL), kind, context)
        except re.error as error:
            raise ValueError(f"the pattern {source} can't be understood: {error}") from None
        stem = prefix.split("/")[1] if prefix.count("/") > 1 else ""
        wild.setdefault(stem, []).append(spec)

    def expected(self, path: str, kind: str) -> str | None:
        """The context for ``path`` of type ``kind`` (find(1)'s letters); None: the policy leaves it alone."""
        for source, target in self._substitutions:
            if path == source or path.startswith(source + "/"):
                path = target + path[len(source) :]
                break
        for spec in reversed(self._exact.get(path, [])):
            if spec.kind in ("", kind):
                return spec.context
        best: _Spec | None = None
        stem = path.split("/")[1] if "/" in path else ""
        # Rules below one directory come after the general ones in a sorted policy, so that they win.
        for group in (self._wild.get(stem, []), self._wild.get("", []) if stem else []):
            for spec in reversed(group):
                if spec.kind in ("", kind) and path.startswith(spec.prefix) and spec.pattern.fullmatch(path):
                    if best is None or len(spec.prefix) > len(best.prefix):
                        best = spec
                    break
        return best.context if best is not None else None

    def mismatches(
        self, labels: Mapping[str, tuple[str, str]], *, customizable: frozenset[str] = frozenset()
    ) -> list[tuple[str, str, str]]:
        """(path, label, expected) where the type differs; ``labels`` gives (type letter, context) by path.

        As setfiles(8): only the type counts, and ``customizable`` types are left alone.
        """
        found = []
        for path, (kind, context) in labels.items():
            wanted = self.expected(path, kind)
            actual = type_of(context)
            if wanted is not None and actual != type_of(wanted) and actual not in customizable:
                found.append((path, context, wanted))
        return found


def _literal_prefix(source: str) -> str:
    """The start of a pattern that stands for itself."""
    result = ""
    index = 0
    while index < len(source):
        letter = source[index]
        if letter == "\\":
            literal, index = source[index + 1 : index + 2], index + 2
            if literal.isalnum():
                break
        elif _META.match(letter):
            break
        else:
            literal, index = letter, index + 1
        # A quantifier makes the letter before it optional.
        if source[index : index + 1] in ("?", "*", "{"):
            break
        result += literal
    # An alternative on the top level may start with something else.
    depth = 0
    for letter in re.sub(r"\\.", "", source):
        depth += (letter == "(") - (letter == ")")
        if letter == "|" and depth == 0:
            return ""
    return result
