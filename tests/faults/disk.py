"""Disks that are full, read-only or slow, by mounting one or by injecting what it would say."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import onesided_jax as osj
from onesided_jax.cli import main
from onesided_jax.runs import CheckpointStore, Recipe, WriteError

from .figures import Figures
from .workload import differences, leftovers

__all__ = ["ballast", "failing", "filling", "mounted", "refusing", "slow"]


@contextlib.contextmanager
def mounted(path: Path, size: int) -> Iterator[bool]:
    """A file system of ``size`` bytes on memory; yields False where none may be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


def remount(path: Path, how: str) -> None:
    """``"ro"`` or ``"rw"``."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(path)], check=True)


def ballast(path: Path, free: int) -> Path:
    """A file that leaves so many bytes of a file system free."""
    file, stat = path / "ballast", os.statvfs(path)
    with file.open("wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, max(stat.f_bavail * stat.f_frsize - free, 1))
    return file


@contextlib.contextmanager
def before_writes(action: Callable[[int, CheckpointStore, int], None]) -> Iterator[None]:
    """Calls ``action(n, store, step)`` before the n-th write of a checkpoint, from 0."""
    original, lock, count = CheckpointStore._write, threading.Lock(), [0]

    def write(self: CheckpointStore, final: Path, *arguments: Any) -> None:
        with lock:
            n, count[0] = count[0], count[0] + 1
        action(n, self, int(final.name))
        original(self, final, *arguments)

    CheckpointStore._write = write  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        CheckpointStore._write = original  # pyright: ignore[reportAttributeAccessIssue]


@contextlib.contextmanager
def refusing(*writes: int, code: int = errno.ENOSPC) -> Iterator[None]:
    """The writes of these numbers fail as on a full (or, by ``code``, another bad) disk.

    As with a real one, part of the checkpoint has been written by then.
    """

    def refuse(n: int, store: CheckpointStore, step: int) -> None:
        if n in writes:
            part = store.path / f".{step}.part"
            part.mkdir(parents=True, exist_ok=True)
            (part / "half").write_bytes(b"0" * 1000)
            raise OSError(code, os.strerror(code), str(part / "half"))

    with before_writes(refuse):
        yield


@contextlib.contextmanager
def slow(seconds: float) -> Iterator[list[int]]:
    """Every write takes so much longer; yields how many writes waited at the same time, at most."""
    waiting, most = [0], [0]

    def wait(n: int, store: CheckpointStore, step: int) -> None:
        waiting[0] += 1
        most[0] = max(most[0], waiting[0])
        time.sleep(seconds)
        waiting[0] -= 1

    with before_writes(wait):
        yield most


def sweep_filling(write: int, path: str, *arguments: str) -> int:
    """A victim: the command line, on a file system that is full from the n-th write on."""

    def fill(n: int, store: CheckpointStore, step: int) -> None:
        if n == write:
            ballast(Path(path), 4096)

    with before_writes(fill):
        return main(list(arguments))


def failing(
    folder: Path, recipe: Recipe, whole: Path, *, writes: Iterable[int], codes: Iterable[int]
) -> list[Figures]:
    """Lets single writes fail, then all from one on; the sweep ends each time and is resumed."""
    once, lasting = [0, 0, 0, 0], [0, 0, 0, 0]  # injected, survived, changed, stuck
    for i, (write, code) in enumerate((w, c) for w in writes for c in codes):
        for name, counts, last in (("once", once, write + 1), ("lasting", lasting, 10_000)):
            out, told = folder / f"{name}-{i}", False
            try:
                with refusing(*range(write, last), code=code):
                    osj.run(recipe, out)
            except WriteError as error:
                told = "cannot write" in str(error) and os.strerror(code) in str(error)
            osj.run(recipe, out)
            _count(counts, whole, out, told=told)
    return [
        Figures("a checkpoint write that fails once, then resumed", *once),
        Figures("a disk that stays full, read-only or broken, then resumed", *lasting),
    ]


def filling(folder: Path, recipe: Recipe, whole: Path, *, writes: Iterable[int]) -> Figures | None:
    """Fills a real file system before the n-th write; ``None`` where none can be mounted."""
    counts, path = [0, 0, 0, 0], folder / "disk"
    for write in writes:
        with mounted(path, 16_000_000) as can:
            if not can:
                return None
            out, told = path / "run", False

            def fill(n: int, store: CheckpointStore, step: int, write: int = write) -> None:
                if n == write:
                    ballast(path, 4096)

            try:
                with before_writes(fill):
                    osj.run(recipe, out, on_damage=[].append)
            except WriteError as error:
                told = "No space left on device" in str(error)
            (path / "ballast").unlink()
            osj.resume(out)
            _count(counts, whole, out, told=told)
        path.rmdir()
    return Figures("a file system that is full from one write on, then resumed", *counts)


def _count(counts: list[int], whole: Path, out: Path, *, told: bool) -> None:
    changed = len(differences(whole, out)) + len(leftovers(out))
    counts[0] += 1
    counts[1] += told and not changed
    counts[2] += changed
