"""Where the command line prints, and how."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["command", "console", "errors", "progress_bars", "say"]

console = Console()
errors = Console(stderr=True)


def say(text: str, style: str | None = None) -> None:
    """One message on standard error, whatever characters it is made of."""
    errors.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def command(name: str, path: Path) -> str:
    """A command to copy, safe for a shell and for rich."""
    return escape(shlex.join(["onesided", name, str(path)]))


@contextlib.contextmanager
def progress_bars() -> Iterator[Progress]:
    """A bar per task, with its times and a note."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield progress
