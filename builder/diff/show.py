"""A difference for people: a table on standard output."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from builder.diff.model import Change, Difference

__all__ = ["show"]

#: Two releases differ in thousands of files; the first of each kind say what a section is about.
_MOST = 12
_PIPE_WIDTH = 160

_Row = tuple[str, str]


def show(difference: Difference, *, whole: bool) -> None:
    """Print it.

    :param whole: print every line, not only the first of a long section.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    console.print(Text(f"- {difference.before}\n+ {difference.after}"))
    for section, change in difference.changes.items():
        _section(console, section, change, most=None if whole else _MOST)
    if difference.equal:
        console.print("\nno difference")
    for section, reason in difference.not_compared.items():
        console.print(Text(f"\nnot compared: {section} — {reason}", "yellow"))


def _section(console: Console, title: str, change: Change, *, most: int | None) -> None:
    kinds: tuple[tuple[str, str, str, Sequence[_Row]], ...] = (
        ("removed", "-", "red", [(name, _short(value)) for name, value in change.removed.items()]),
        ("added", "+", "green", [(name, _short(value)) for name, value in change.added.items()]),
        ("changed", "~", "yellow", [(name, _contrast(*pair)) for name, pair in change.changed.items()]),
    )
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=2)
    table.add_column(overflow="fold", ratio=3)
    for word, mark, style, rows in kinds:
        for name, value in rows[:most]:
            table.add_row(Text(mark, style), Text(name, style), Text(value))
        if most is not None and len(rows) > most:
            text = f"… and {len(rows) - most} more {word}: --verbose or --json shows all"
            table.add_row("", Text(text, "dim"), "")
    counts = ", ".join(f"{len(rows)} {word}" for word, _, _, rows in kinds if rows)
    console.print(Text(f"\n{title}: {counts}", "bold"))
    console.print(table)


def _contrast(before: str, after: str) -> str:
    """Both values; of words such as ``mode=0644`` only those that differ."""
    one, two = before.split(" "), after.split(" ")
    if len(one) == len(two) and all("=" in word for word in (*one[1:], *two[1:])):
        pairs = [(old, new) for old, new in zip(one, two, strict=True) if old != new]
        one, two = [old for old, _ in pairs], [new for _, new in pairs]
    return f"{_short(' '.join(one)) or '(nothing)'} → {_short(' '.join(two)) or '(nothing)'}"


def _short(value: str) -> str:
    """Digests by their first digits, as people compare them."""
    words = (word[:19] if word.startswith("sha256=") else word for word in value.split(" "))
    return " ".join(words)
