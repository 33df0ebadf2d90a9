"""Progress for people and for machines.

On a terminal: coloured lines. Elsewhere: plain lines that begin with the seconds since the start. With
``--json``: one JSON object a line on stdout, for programs. Steps nest and say how long they took.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

from rich.console import Console
from rich.markup import escape

from builder.errors import HallmarkError
from builder.redaction import redact

__all__ = [
    "Mode",
    "StepTime",
    "about",
    "configure",
    "console",
    "debug",
    "error",
    "event",
    "info",
    "progress",
    "result",
    "step",
    "step_times",
    "verbose",
    "warn",
]

Mode = Literal["rich", "plain", "json"]


@dataclass(slots=True)
class StepTime:
    """A finished step: its ``title``, nesting ``depth`` (0 is outermost) and length in ``seconds``."""

    title: str
    depth: int
    seconds: float
    note: str = ""


@dataclass(slots=True)
class _State:
    mode: Mode = "plain"
    verbose: bool = False
    start: float = field(default_factory=time.monotonic)
    steps: list[StepTime] = field(default_factory=list)
    last_progress: float = 0.0


_state = _State()
_printing = Lock()  # looks run side by side, and a reader gets whole lines
_depth: ContextVar[int] = ContextVar("depth", default=0)
_about: ContextVar[str] = ContextVar("about", default="")
console = Console(stderr=True, highlight=False, soft_wrap=True)


def configure(*, mode: Mode | None = None, verbose: bool = False) -> None:
    """Choose how to report; ``None`` means rich on a terminal and plain lines elsewhere."""
    _state.mode = mode or ("rich" if console.is_terminal else "plain")
    _state.verbose = verbose


@contextmanager
def about(name: str) -> Iterator[None]:
    """What is told within, also in threads that get this context, is about the image ``name``: each line
    begins with it, each event has it as ``image``. "" changes nothing.
    """
    token = _about.set(name or _about.get())
    try:
        yield
    finally:
        _about.reset(token)


def error(problem: HallmarkError) -> None:
    """Tell the user why the work, or a part of it, could not be done."""
    event(
        "error",
        what=redact(problem.what),
        where=str(problem.where or ""),
        why=problem.why or "",
        fix=problem.hint or "",
    )
    _print(f"[bold red]error:[/bold red] {escape(redact(str(problem)))}")


def info(message: str) -> None:
    """Tell the user something worth a line."""
    _line("info", message)


def warn(message: str) -> None:
    """Tell the user something that may need attention but doesn't stop the work."""
    _line("warning", message)


def debug(message: str) -> None:
    """Tell what happens inside; shown with ``--verbose`` only."""
    if _state.verbose:
        _line("debug", message)


def verbose() -> bool:
    """Whether the user wants to see everything (``--verbose``)."""
    return _state.verbose


def event(kind: str, **fields: object) -> None:
    """A machine-readable event; printed in JSON mode only."""
    if _state.mode == "json":
        about = {"image": _about.get()} if _about.get() else {}
        shown = {key: redact(value) if isinstance(value, str) else value for key, value in fields.items()}
        record = {"time": round(time.time(), 3), "event": kind, **about, **shown}
        line = redact(json.dumps(record, default=str))
        with _printing:
            print(line, flush=True)


def result(text: object, *, kind: str, **fields: object) -> None:
    """What a verb was asked for, on standard output: ``text`` for people, an event in JSON mode."""
    if _state.mode == "json":
        event(kind, **fields)
    else:
        print(text)


def progress(
    what: str, done: float, total: float, *, unit: str = "", note: str = "", **fields: object
) -> None:
    """How far the running step is; at most one line in 2 s (plain) or event a second (JSON).

    ``note`` ends the line for people; ``fields`` go into the event for programs.
    """
    now = time.monotonic()
    if done < total and now - _state.last_progress < (1 if _state.mode == "json" else 2):
        return
    _state.last_progress = now
    if _state.mode == "json":
        event("progress", what=what, done=done, total=total, unit=unit, **fields)
        return
    share = f"{100 * done / total:3.0f} %" if total else ""
    _line(
        "progress",
        f"{what} {share} ({done:,.0f} of {total:,.0f}{' ' + unit if unit else ''})"
        + (f", {note}" if note else ""),
    )


@contextmanager
def step(title: str) -> Iterator[StepTime]:
    """A step of the work: announced, timed, and reported as failed when an exception leaves it.

    Set ``note`` on the yielded record to add a few words to the closing line.
    """
    depth = _depth.get()
    token = _depth.set(depth + 1)
    record = StepTime(title, depth, 0.0)
    title = redact(title)
    event("step-start", title=title, depth=depth)
    if _state.mode != "json":
        _print(f"{'  ' * depth}[bold]{escape(title)}[/bold] …")
    began = time.monotonic()
    try:
        yield record
    except BaseException as error:
        record.seconds = time.monotonic() - began
        event(
            "step-failed",
            title=title,
            depth=depth,
            seconds=round(record.seconds, 3),
            error=type(error).__name__,
        )
        if _state.mode != "json":
            _print(f"{'  ' * depth}[red]✗ {escape(title)}[/red] [dim]({record.seconds:.1f} s)[/dim]")
        raise
    else:
        record.seconds = time.monotonic() - began
        _state.steps.append(record)
        event("step-done", title=title, depth=depth, seconds=round(record.seconds, 3), note=record.note)
        if _state.mode != "json":
            note = f" — {escape(redact(record.note))}" if record.note else ""
            _print(
                f"{'  ' * depth}[green]✓[/green] {escape(title)}{note} [dim]({record.seconds:.1f} s)[/dim]"
            )
    finally:
        _depth.reset(token)


def step_times() -> list[StepTime]:
    """Every finished step of this process, in the order in which they ended."""
    return list(_state.steps)


def _line(kind: str, message: str) -> None:
    if _state.mode == "json":
        event(kind, message=message)
        return
    style = {"warning": "yellow", "debug": "dim", "progress": "dim"}.get(kind)
    text = escape(("warning: " if kind == "warning" else "") + redact(message))
    text = "  " * _depth.get() + text
    _print(f"[{style}]{text}[/{style}]" if style else text)


def _print(markup: str) -> None:
    if _about.get():
        markup = f"[cyan]{escape(_about.get())}:[/cyan] {markup}"
    if _state.mode == "plain":
        elapsed = time.monotonic() - _state.start
        console.print(f"[{elapsed:7.1f}s] ".replace("[", "\\["), markup, sep="")
    else:
        console.print(markup)
