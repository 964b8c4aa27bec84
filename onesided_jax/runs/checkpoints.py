"""Checkpoints of one cell: Orbax arrays with checksums, committed by one rename.

Only this module imports Orbax, through its v1 API.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import json
import logging
import re
import shutil
import sys
import threading
import traceback
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from onesided_jax import processes
from onesided_jax.errors import short
from onesided_jax.runs.files import errno_of, flush, write_error
from onesided_jax.runs.packing import DamagedCheckpointError

__all__ = ["CheckpointStore", "MissingCheckpointError"]

_SUMS = "SHA256SUMS"
_ARRAYS = "arrays"
_INFO = "info.json"
_REPLACED = ".replaced"
# Orbax has global state: without a lock, sweeps in several threads lost files.
_ORBAX = threading.RLock()


class MissingCheckpointError(DamagedCheckpointError):
    """A step that has no checkpoint."""


class CheckpointStore(NamedTuple):
    """The checkpoints of one cell, one folder per step.

    The folder of a step holds ``arrays/`` (an Orbax checkpoint), ``info.json``, and ``SHA256SUMS``
    of every file. It is written under a hidden name, flushed, and then renamed. So a folder named
    by a step is complete; a hidden folder is left by a kill and is ignored. Only the holder of the
    run directory's lock writes. Several processes call `write` together, and each writes its own
    runs into the same checkpoint.

    Attributes:
      path: the parent of the step folders; need not exist yet.
    """

    path: Path

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, ascending."""
        if not self.path.is_dir():
            return []
        names = [p.name for p in self.path.iterdir() if p.is_dir()]
        return sorted(int(name) for name in names if re.fullmatch("[0-9]+", name))

    def write(self, step: int, arrays: dict[str, Any], info: dict[str, Any]) -> None:
        """Writes a nested dict of NumPy arrays as the checkpoint of ``step``, atomically.

        Args:
          step: the step.
          arrays: arrays with a leading run axis; all processes write the arrays that they share.
          info: content of `info`; ``runs`` is the number of rows that are runs, not padding.

        Raises:
          WriteError: if the disk is full, read-only or broken; names path and bytes. All other
            checkpoints stay as they were.
        """
        final = self.path / str(step)
        try:
            self._write(final, arrays, info)
        except Exception as error:
            if errno_of(error) is None:
                raise  # nothing to do with the file system
            size = sum(array.nbytes for array in jax.tree.leaves(arrays))
            raise write_error(final, size, error) from error

    def _write(self, final: Path, arrays: dict[str, Any], info: dict[str, Any]) -> None:
        ocp = _orbax()

        def begin() -> str:
            self.path.mkdir(parents=True, exist_ok=True)
            self._tidy()
            name = f".{final.name}.{uuid.uuid4().hex[:8]}"
            (self.path / name).mkdir()
            return name

        def commit() -> None:
            (temporary / _INFO).write_text(json.dumps(info) + "\n")
            sums = "".join(f"{digest}  {name}\n" for name, digest in _digests(temporary))
            (temporary / _SUMS).write_text(sums)
            for path in [*temporary.rglob("*"), temporary]:
                flush(path)
            self._commit(temporary, final)
            flush(self.path)

        temporary = self.path / processes.first(begin)
        try:
            with _ORBAX:
                target = (temporary / _ARRAYS).resolve()
                processes.together(lambda: ocp.save(target, arrays))
            processes.first(commit)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    @staticmethod
    def _commit(temporary: Path, final: Path) -> None:
        """Renames into place, then removes a damaged checkpoint of the same step."""
        replaced = final.with_name(temporary.name + _REPLACED)
        if final.exists():
            final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)

    def _tidy(self) -> None:
        """Removes folders that kills have left: unfinished writes and replaced checkpoints."""
        for path in self.path.glob(".[0-9]*.*"):
            step = path.name.split(".")[1]
            if not path.name.endswith(_REPLACED) or (self.path / step).exists():
                shutil.rmtree(path, ignore_errors=True)

    def read(self, step: int) -> dict[str, Any]:
        """Verifies every file of a checkpoint, and returns its nested dict of NumPy arrays.

        Raises:
          MissingCheckpointError: if there is no such step; names the existing steps.
          DamagedCheckpointError: names the first file that is missing or altered.
          ValueError: if the files are undamaged, but this version of Orbax cannot read them.
        """
        folder = self._folder(step)
        verify(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ocp = _orbax()
            try:
                with _ORBAX:
                    arrays = _load(ocp, (folder / _ARRAYS).resolve())
            except Exception as error:
                raise ValueError(
                    f"{str(folder)!r} is undamaged, but this version of orbax-checkpoint cannot "
                    f"read it: {error}; install the version named in manifest.json"
                ) from error
        runs = self.info(step).get("runs")
        if runs is None:
            return arrays
        return jax.tree.map(lambda rows: rows[:runs], arrays)  # the rest pads to equal shares

    def _folder(self, step: int) -> Path:
        folder = self.path / str(step)
        if not folder.is_dir():
            there = short(self.steps()) if self.steps() else "none"
            raise MissingCheckpointError(
                f"{self.path}: no checkpoint of step {short(step)}; existing steps: {there}"
            )
        return folder

    def holds(self, step: int) -> bool:
        """Whether the checkpoint of a step exists and is undamaged."""
        try:
            verify(self.path / str(step))
        except DamagedCheckpointError:
            return False
        return True

    def info(self, step: int) -> dict[str, Any]:
        """The number of ``runs``, and the ``seconds`` of wall time so far.

        Raises:
          MissingCheckpointError: if there is no such step.
          DamagedCheckpointError: if the file cannot be read.
        """
        path = self._folder(step) / _INFO
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DamagedCheckpointError(f"{path}: {error}") from None


def check_path(path: Path) -> None:
    """Raises ``ValueError`` for a path in which Orbax loses or rejects checkpoints.

    Orbax treats ``[...]`` anywhere in a path as a pattern, finds no match, and reports success.
    """
    absolute = str(path.absolute())
    found = re.search(r"[\[\\]|:(?=/|$)|[\ud800-\udfff]", absolute)
    if found:
        raise ValueError(
            f"{absolute!r}: checkpoints cannot be stored under a path that contains "
            f"{found[0]!r}: choose another"
        )


def verify(folder: Path) -> None:
    """Raises ``DamagedCheckpointError`` unless every file matches its checksum."""
    try:
        *lines, end = (folder / _SUMS).read_text().split("\n")
        expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        if end or not expected:
            raise ValueError("cut off")
    except (OSError, ValueError):
        raise DamagedCheckpointError(f"{folder}: {_SUMS} is missing or unreadable") from None
    try:
        found = dict(_digests(folder))
    except OSError as error:
        if error.errno != errno.EIO:
            raise  # permissions or too many open files: the checkpoint is not damaged
        raise DamagedCheckpointError(f"{error.filename or folder}: {error.strerror}") from None
    for name, digest in expected.items():
        if name not in found:
            raise DamagedCheckpointError(f"{folder / name}: file is missing")
        if found[name] != digest:
            raise DamagedCheckpointError(f"{folder / name}: file was altered (SHA-256 differs)")
    for name in found.keys() - expected.keys():
        raise DamagedCheckpointError(f"{folder / name}: file is not listed in {_SUMS}")


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields ``(name, SHA-256)`` of every file in a folder, except the file of checksums."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _SUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield path.relative_to(folder).as_posix(), digest


@contextlib.contextmanager
def without_tracebacks() -> Iterator[None]:
    """For programs: keeps Orbax from printing tracebacks of errors that it also raises."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before, failed = sys.unraisablehook, False

    def keep(record: logging.LogRecord) -> bool:
        nonlocal failed
        if not record.exc_info:
            return True
        frames = traceback.walk_tb(record.exc_info[2])
        files = [record.pathname, *(frame.f_code.co_filename for frame, _ in frames)]
        theirs = any("orbax" in file for file in files)
        failed = failed or theirs
        return not theirs

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        # Threads that are still writing end after the event loop that waited for them.
        if str(dropped.exc_value) != "Event loop is closed":
            before(dropped)

    for logger in loggers:
        logger.addFilter(keep)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        if failed:  # asyncio logs the errors of further arrays when it drops their tasks
            gc.collect()
        for logger in loggers:
            logger.removeFilter(keep)
        sys.unraisablehook = before


def _load(ocp: Any, path: Path) -> dict[str, Any]:
    """Loads a checkpoint as NumPy arrays, whatever devices wrote it."""
    alone = ocp.Context()
    if processes.count() > 1:  # each process reads alone: otherwise Orbax waits for all to join
        alone.multiprocessing.primary_host = processes.index()
        alone.multiprocessing.active_processes = {processes.index()}
    with alone:
        found = ocp.metadata(path).metadata
        return ocp.load(path, jax.tree.map(lambda leaf: np.empty((), leaf.dtype), found))


def _orbax() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from orbax.checkpoint import v1 as ocp
    return ocp
