"""A process that kills itself at its n-th change to a file system: every crash point in turn."""

from __future__ import annotations

import builtins
import io
import os
import signal
import threading
from pathlib import Path
from typing import Any

__all__ = ["die_at", "sweep"]

# What Python code does to files; Orbax's arrays are written by C++ between two of these.
_CALLS = ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "link", "ftruncate", "pwrite")


def die_at(point: int, below: Path) -> None:
    """From now on the ``point``-th change below a folder is replaced by ``kill -9``.

    A file that is opened for writing counts as two: killed before, and with half of it written.

    Args:
      point: 0 for the first one; the count goes on until the process has died.
      below: changes elsewhere (a cache) are not counted.
    """
    remaining, lock, root = [point], threading.Lock(), str(below.resolve())

    def count(target: Any) -> bool:
        """Whether this is the one."""
        if isinstance(target, int):
            target = Path(f"/proc/self/fd/{target}").readlink()
        if not str(Path(target).absolute()).startswith(root):
            return False
        with lock:
            remaining[0] -= 1
            return remaining[0] < 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def wrap(name: str) -> None:
        original = getattr(os, name)

        def call(target: Any, *arguments: Any, **options: Any) -> Any:
            if options.get("dir_fd") is None and count(target):
                die()
            return original(target, *arguments, **options)

        setattr(os, name, call)

    for name in _CALLS:
        wrap(name)
    original_open = io.open

    def open_(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        writes = not isinstance(file, int) and set(mode) & set("wax+")
        if writes and count(file):
            die()
        opened = original_open(file, mode, *arguments, **options)
        if writes and count(file):
            opened.write("{" if "b" not in mode else b"{")
            opened.flush()
            die()
        return opened

    builtins.open = io.open = open_


def sweep(point: int, *arguments: str) -> int:
    """The command line in a process that dies on the way; the last argument is the folder."""
    from onesided_jax.cli import main

    die_at(point, Path(arguments[-1]))
    return main(list(arguments))
