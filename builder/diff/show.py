"""A difference for people: a table on standard output."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from builder.diff.model import Change, Difference

__all__ = ["show"]

#: Two releases differ in thousands of files; the first lines of a section say what it is about.
_MOST = 30
_PIPE_WIDTH = 160


def show(difference: Difference, *, whole: bool) -> None:
    """Print it.

    :param whole: print every line, not only the first of a long section.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    console.print(Text(f"- {difference.before}\n+ {difference.after}"))
    for section, change in difference.changes.items():
        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold", ratio=2)
        table.add_column(overflow="fold", ratio=3)
        rows = list(_rows(change))
        for mark, name, value, style in rows if whole else rows[:_MOST]:
            table.add_row(Text(mark, style), Text(name, style), Text(value))
        numbers = (
            (len(change.added), "added"),
            (len(change.removed), "removed"),
            (len(change.changed), "changed"),
        )
        counts = ", ".join(f"{number} {word}" for number, word in numbers if number)
        console.print(Text(f"\n{section}: {counts}", "bold"))
        console.print(table)
        if len(rows) > _MOST and not whole:
            console.print(Text(f"  … and {len(rows) - _MOST} more: --verbose or --json shows all", "dim"))
    if difference.equal:
        console.print("\nno difference")
    for section, reason in difference.not_compared.items():
        console.print(Text(f"\nnot compared: {section} ({reason})", "yellow"))


def _rows(change: Change) -> Iterator[tuple[str, str, str, str]]:
    for name, value in change.removed.items():
        yield "-", name, _short(value), "red"
    for name, value in change.added.items():
        yield "+", name, _short(value), "green"
    for name, (before, after) in change.changed.items():
        yield "~", name, _contrast(before, after), "yellow"


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
