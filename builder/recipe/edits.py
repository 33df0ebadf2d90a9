"""Changes of configuration files that packages own, as shell programs that fail rather than do nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

__all__ = ["script_for"]

_HEAD = """\
#!/bin/sh
# Changes {path}.
set -eu
file={quoted}
if [ ! -f "$file" ]; then
    echo "$file does not exist: the package that owns it is missing" >&2
    exit 1
fi
"""

# The first line that sets the key, active or commented out, gets the value; further active ones go away, so
# that none of them can win. A key that the file doesn't know is a mistake: programs ignore such lines.
_SET = """\
set_value() {
    awk -v key="$1" -v value="$2" '
        { line = $0; sub(/^[ \\t]*/, "", line); active = 1
          if (sub(/^#[# \\t]*/, "", line)) active = 0
          end = index(line, "="); name = substr(line, 1, end - 1); sub(/[ \\t]*$/, "", name)
          hit = end > 0 && name == key
          lines[NR] = $0; hits[NR] = hit ? (active ? 2 : 1) : 0
          if (hit && active && !best) best = NR
          if (hit && !active && !spare) spare = NR }
        END { if (!best) best = spare
              if (!best) exit 3
              for (i = 1; i <= NR; i++)
                  if (i == best) print key "=" value
                  else if (hits[i] != 2) print lines[i] }
    ' "$file" >"$file.hallmark" || {
        echo "$file does not know the key $1" >&2
        rm -f "$file.hallmark"
        exit 1
    }
    cat "$file.hallmark" >"$file"
    rm -f "$file.hallmark"
}
"""

_ADD = """\
add_line() {
    [ -z "$(tail -c 1 "$file")" ] || echo >>"$file"
    grep -qxF -e "$1" "$file" || printf '%s\\n' "$1" >>"$file"
}
"""


def script_for(path: str, values: Mapping[str, str], lines: Sequence[str]) -> str:
    """The program that makes one file say what a recipe wants.

    :param values: KEY=VALUE pairs; each key must be in the file, active or commented out.
    :param lines: whole lines, appended unless they are there.
    """
    text = _HEAD.format(path=path, quoted=shlex.quote(path))
    if values:
        text += _SET + "".join(
            f"set_value {shlex.quote(key)} {shlex.quote(value)}\n" for key, value in values.items()
        )
    if lines:
        text += _ADD + "".join(f"add_line {shlex.quote(line)}\n" for line in lines)
    return text
