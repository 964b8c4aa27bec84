"""Checkpoints of one cell: Orbax arrays under our checksums, committed by one rename.

The only module that imports Orbax, through its v1 API.
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
from urllib.parse import quote

import jax
import numpy as np

from onesided_jax import processes
from onesided_jax.errors import short
from onesided_jax.players import PrimalDual, keys_like
from onesided_jax.runs.files import errno_of, flush, write_error

__all__ = ["CheckpointStore", "DamagedCheckpointError", "MissingCheckpointError", "pack", "unpack"]

_SUMS = "SHA256SUMS"
_ARRAYS = "arrays"
_INFO = "info.json"
_REPLACED = ".replaced"
# Orbax keeps state of its own for the process: of sweeps in several threads some files were lost.
_ORBAX = threading.RLock()


class DamagedCheckpointError(ValueError):
    """A checkpoint whose files do not match the checksums written with it."""


class MissingCheckpointError(DamagedCheckpointError):
    """A step that has no checkpoint."""


class CheckpointStore(NamedTuple):
    """The checkpoints of one cell, one folder per step.

    A folder ``T/`` holds ``arrays/`` (an Orbax checkpoint), ``info.json`` and ``SHA256SUMS`` of
    every file. It is written under a hidden name and renamed when complete and flushed, so a folder
    that is named by a step is whole, and a hidden one is left from a kill and ignored. There is one
    writer at a time: whoever holds the run directory's lock. If that is one of several processes,
    all of them call `write` together, and each writes its own runs into the one checkpoint.

    Attributes:
      path: the folder of the step folders; need not exist yet.
    """

    path: Path

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, ascending."""
        if not self.path.is_dir():
            return []
        names = [p.name for p in self.path.iterdir() if p.is_dir()]
        return sorted(int(name) for name in names if re.fullmatch("[0-9]+", name))

    def write(self, step: int, arrays: dict[str, Any], info: dict[str, Any]) -> None:
        """Writes a nested dict of NumPy arrays as the checkpoint of ``step``, all or nothing.

        Args:
          step: the step.
          arrays: with a leading run axis; those that several processes share are written by all.
          info: for `info`; ``runs`` says how many rows are runs, the rest being padding.

        Raises:
          WriteError: naming path and bytes, if the disk is full, read-only or broken; every other
            checkpoint is as it was.
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
        """Renames into place; a damaged checkpoint of the same step goes once it is replaced."""
        replaced = final.with_name(temporary.name + _REPLACED)
        if final.exists():
            final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)

    def _tidy(self) -> None:
        """Removes what kills have left: unfinished writes, and what has been replaced since."""
        for path in self.path.glob(".[0-9]*.*"):
            step = path.name.split(".")[1]
            if not path.name.endswith(_REPLACED) or (self.path / step).exists():
                shutil.rmtree(path, ignore_errors=True)

    def read(self, step: int) -> dict[str, Any]:
        """The nested dict of NumPy arrays of one checkpoint, after checking every file.

        Raises:
          MissingCheckpointError: naming the steps that there are; DamagedCheckpointError: naming
            the first file that is missing or altered; ValueError: if the files are whole and this
            version of Orbax cannot read them.
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
                    f"{str(folder)!r} is whole, but this version of orbax-checkpoint cannot read "
                    f"it: {error}; the versions it was written by are in manifest.json"
                ) from error
        runs = self.info(step).get("runs")
        if runs is None:
            return arrays
        return jax.tree.map(lambda rows: rows[:runs], arrays)  # below: to make shares equal

    def _folder(self, step: int) -> Path:
        folder = self.path / str(step)
        if not folder.is_dir():
            there = short(self.steps()) if self.steps() else "none"
            raise MissingCheckpointError(
                f"{self.path}: no checkpoint of step {short(step)}; there are {there}"
            )
        return folder

    def holds(self, step: int) -> bool:
        """Whether the checkpoint of a step is there and undamaged."""
        try:
            verify(self.path / str(step))
        except DamagedCheckpointError:
            return False
        return True

    def info(self, step: int) -> dict[str, Any]:
        """What was noted beside the arrays: ``runs``, and ``seconds`` of wall time so far.

        Raises:
          MissingCheckpointError: as `read`; DamagedCheckpointError: if it cannot be read.
        """
        path = self._folder(step) / _INFO
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DamagedCheckpointError(f"{path}: {error}") from None


def check_path(path: Path) -> None:
    """Raises ``ValueError`` for a path below which Orbax loses, or refuses, what it is given.

    It takes ``[...]`` anywhere in a path for a pattern, finds nothing there, and reports success.
    """
    absolute = str(path.absolute())
    found = re.search(r"[\[\\]|:(?=/|$)|[\ud800-\udfff]", absolute)
    if found:
        raise ValueError(
            f"{absolute!r}: no checkpoints can be kept below a folder with {found[0]!r} in its "
            "path: choose another"
        )


def verify(folder: Path) -> None:
    """Raises ``DamagedCheckpointError`` unless every file is as it was written."""
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
            raise  # permissions, too many open files: no damage, nothing to write anew
        raise DamagedCheckpointError(f"{error.filename or folder}: {error.strerror}") from None
    for name, digest in expected.items():
        if name not in found:
            raise DamagedCheckpointError(f"{folder / name}: file is missing")
        if found[name] != digest:
            raise DamagedCheckpointError(f"{folder / name}: file was altered (SHA-256 differs)")
    for name in found.keys() - expected.keys():
        raise DamagedCheckpointError(f"{folder / name}: file is not listed in {_SUMS}")


def pack(tree: Any, rows: int | None = None) -> dict[str, Any]:
    """A pytree as nested dicts of arrays, keyed by the names on the path to each leaf.

    Keys of ``jax.random`` are stored as their data; arrays without elements are left out (Orbax
    refuses them) and come back from the structure in :func:`unpack`.

    Args:
      tree: the pytree.
      rows: keep the first so many rows of each array; arrays that several processes share stay
        whole, and as they are.

    Returns:
      Arrays on the host, or those that several processes share.
    """
    packed: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        shared = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        array = leaf if shared else np.asarray(leaf)[slice(rows) if np.ndim(leaf) else ...]
        if array.size == 0:
            continue
        folder = packed
        *parents, name = _names(path)
        for parent in parents:
            folder = folder.setdefault(parent, {})
        folder[name] = array
    return packed


def unpack(packed: dict[str, Any], like: Any) -> Any:
    """The inverse of :func:`pack`; ``like`` gives structure, shapes and dtypes.

    Raises:
      DamagedCheckpointError: if an array is missing or has another shape or dtype.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    restored = []
    for path, leaf in leaves:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        expected = jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf
        name = "/".join(_names(path))
        if np.prod(expected.shape) == 0:
            array = np.zeros(expected.shape, expected.dtype)
        else:
            array = _look_up(packed, _names(path), name)
        if array.shape != expected.shape or array.dtype != expected.dtype:
            raise DamagedCheckpointError(
                f"{name}: expected {expected.dtype}{list(expected.shape)}, "
                f"found {array.dtype}{list(array.shape)}"
            )
        restored.append(keys_like(array, leaf) if is_key else array)
    return jax.tree_util.tree_unflatten(treedef, restored)


def _look_up(packed: dict[str, Any], names: list[str], name: str) -> np.ndarray:
    try:
        for part in names:
            if isinstance(packed, np.ndarray) and part in PrimalDual._fields:
                return packed  # version 0.1 had one count of both players
            packed = packed[part]
        return np.asarray(packed)
    except (KeyError, IndexError, TypeError):
        raise DamagedCheckpointError(f"{name}: not in the checkpoint") from None


def _names(path: Any) -> list[str]:
    """The path to a leaf as names that Orbax keeps apart: other paths have other names.

    Orbax joins names by dots and files by slashes, and takes the key 1 for the key "1". So a text
    escapes both, and its first character too if it reads like a number or is empty.
    """
    return [_name(entry) for entry in path] or ["value"]


def _name(entry: Any) -> str:
    key = getattr(entry, "key", None)
    if not isinstance(key, str):
        if isinstance(entry, jax.tree_util.DictKey) and type(key) is not int:
            return "%!" + quote(f"{type(key).__name__} {key!r}", safe="").replace(".", "%2E")
        return jax.tree_util.keystr((entry,), simple=True)
    if not key:
        return "%"
    name = re.sub(r"[%./\\\x00-\x1f]", lambda found: f"%{ord(found[0]):02X}", key)
    return f"%{ord(key[0]):02X}{key[1:]}" if re.fullmatch(r"-?[0-9]+", key) else name


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """``(name, SHA-256)`` of every file below a folder but the checksums themselves."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _SUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield path.relative_to(folder).as_posix(), digest


@contextlib.contextmanager
def without_tracebacks() -> Iterator[None]:
    """Keeps Orbax from printing tracebacks of errors that it raises as well; for programs."""
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
        # What other threads were still writing ends after the event loop that waited for it.
        if str(dropped.exc_value) != "Event loop is closed":
            before(dropped)

    for logger in loggers:
        logger.addFilter(keep)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        if failed:  # asyncio tells of the arrays after the first that failed when it drops them
            gc.collect()
        for logger in loggers:
            logger.removeFilter(keep)
        sys.unraisablehook = before


def _load(ocp: Any, path: Path) -> dict[str, Any]:
    """All of a checkpoint as NumPy arrays, whatever devices it was written from."""
    alone = ocp.Context()
    if processes.count() > 1:  # each reads for itself: Orbax would wait for all to join in
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
