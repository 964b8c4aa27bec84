"""The consoles of the command line."""

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

__all__ = ["command", "console", "errors", "progress_bars", "say", "warn"]

console = Console()
errors = Console(stderr=True)


def say(text: str, style: str | None = None) -> None:
    """Prints one message to standard error, without interpreting markup."""
    errors.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Prints a warning among the results."""
    console.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)


def command(name: str, path: Path) -> str:
    """A command to copy, escaped for the shell and for rich."""
    return escape(shlex.join(["onesided", name, str(path)]))


@contextlib.contextmanager
def progress_bars() -> Iterator[Progress]:
    """Shows one progress bar per task, with times and a note."""
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
