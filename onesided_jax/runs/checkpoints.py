"""Checkpoints of one cell: Orbax arrays under our checksums, committed by one rename.

The only module that imports Orbax, through its v1 API.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from onesided_jax.runs._words import fsync_folder

__all__ = ["CheckpointStore", "DamagedCheckpointError", "pack", "unpack"]

_SUMS = "SHA256SUMS"
_ARRAYS = "arrays"
_INFO = "info.json"


class DamagedCheckpointError(ValueError):
    """A checkpoint whose files do not match the checksums written with it."""


class CheckpointStore(NamedTuple):
    """The checkpoints of one cell, one folder per step.

    A folder ``T/`` holds ``arrays/`` (an Orbax checkpoint), ``info.json`` and ``SHA256SUMS`` of
    every file. It is written under a temporary name and renamed when complete, so a folder that
    is named by a step is whole, and one that is not is left from a kill and ignored.

    Attributes:
      path: the folder of the step folders; need not exist yet.
    """

    path: Path

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, ascending."""
        if not self.path.is_dir():
            return []
        return sorted(int(p.name) for p in self.path.iterdir() if p.name.isdigit())

    def write(self, step: int, arrays: dict[str, Any], info: dict[str, Any]) -> None:
        """Writes a nested dict of NumPy arrays as the checkpoint of ``step``, all or nothing."""
        ocp = _orbax()
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{step}.{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            ocp.save((temporary / _ARRAYS).resolve(), arrays)
            (temporary / _INFO).write_text(json.dumps(info) + "\n")
            sums = "".join(f"{digest}  {name}\n" for name, digest in _digests(temporary))
            (temporary / _SUMS).write_text(sums)
            for folder in [p for p in temporary.rglob("*") if p.is_dir()] + [temporary]:
                fsync_folder(folder)
            self._commit(temporary, self.path / str(step))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(self.path)

    @staticmethod
    def _commit(temporary: Path, final: Path) -> None:
        """Renames into place; a damaged checkpoint of the same step goes once it is replaced."""
        replaced = final.with_name(f"{temporary.name}.replaced")
        if final.exists():
            final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)

    def read(self, step: int) -> dict[str, Any]:
        """The nested dict of NumPy arrays of one checkpoint, after checking every file.

        Raises:
          DamagedCheckpointError: naming the first file that is missing or altered.
        """
        folder = self.path / str(step)
        verify(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _orbax().load((folder / _ARRAYS).resolve())

    def holds(self, step: int) -> bool:
        """Whether the checkpoint of a step is there and undamaged."""
        try:
            verify(self.path / str(step))
        except DamagedCheckpointError:
            return False
        return True

    def info(self, step: int) -> dict[str, Any]:
        """What was noted beside the arrays (wall seconds so far)."""
        return json.loads((self.path / str(step) / _INFO).read_text())


def verify(folder: Path) -> None:
    """Raises ``DamagedCheckpointError`` unless every file is as it was written."""
    try:
        *lines, end = (folder / _SUMS).read_text().split("\n")
        expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        if end or not expected:
            raise ValueError("cut off")
    except (OSError, ValueError):
        raise DamagedCheckpointError(f"{folder}: {_SUMS} is missing or unreadable") from None
    found = dict(_digests(folder))
    for name, digest in expected.items():
        if name not in found:
            raise DamagedCheckpointError(f"{folder / name}: file is missing")
        if found[name] != digest:
            raise DamagedCheckpointError(f"{folder / name}: file was altered (SHA-256 differs)")
    for name in found.keys() - expected.keys():
        raise DamagedCheckpointError(f"{folder / name}: file is not listed in {_SUMS}")


def pack(tree: Any) -> dict[str, Any]:
    """A pytree as nested dicts of host arrays, keyed by the names on the path to each leaf.

    Keys of ``jax.random`` are stored as their data; arrays without elements are left out (Orbax
    refuses them) and come back from the structure in :func:`unpack`.
    """
    packed: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.array(leaf)  # a copy: the buffer may be donated to the next step
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
        restored.append(jax.random.wrap_key_data(jax.numpy.asarray(array)) if is_key else array)
    return jax.tree_util.tree_unflatten(treedef, restored)


def _look_up(packed: dict[str, Any], names: list[str], name: str) -> np.ndarray:
    try:
        for part in names:
            packed = packed[part]
        return np.asarray(packed)
    except (KeyError, IndexError, TypeError):
        raise DamagedCheckpointError(f"{name}: not in the checkpoint") from None


def _names(path: Any) -> list[str]:
    return [jax.tree_util.keystr((entry,), simple=True) for entry in path] or ["value"]


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """``(name, SHA-256)`` of every file below a folder but the checksums themselves."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _SUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield path.relative_to(folder).as_posix(), digest


def _orbax() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from orbax.checkpoint import v1 as ocp
    return ocp
