"""Pytrees as nested dicts of arrays, which is what a checkpoint stores."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import jax
import numpy as np

from onesided_jax.players import PrimalDual, keys_like

__all__ = ["DamagedCheckpointError", "pack", "unpack"]


class DamagedCheckpointError(ValueError):
    """A checkpoint whose files do not match the checksums written with it."""


def pack(tree: Any, rows: int | None = None) -> dict[str, Any]:
    """Converts a pytree to nested dicts of arrays, keyed by the names on the path to each leaf.

    Keys of ``jax.random`` are stored as their data. Empty arrays are left out, because Orbax
    rejects them; :func:`unpack` makes them from the structure. Arrays become host arrays with at
    most ``rows`` rows; arrays that several processes share are unchanged.
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
    """The inverse of :func:`pack`; ``like`` has the structure, shapes and dtypes.

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
                return packed  # version 0.1 had one count for both players
            packed = packed[part]
        return np.asarray(packed)
    except (KeyError, IndexError, TypeError):
        raise DamagedCheckpointError(f"{name}: not in the checkpoint") from None


def _names(path: Any) -> list[str]:
    """The path to a leaf as names; Orbax keeps different paths apart by these names.

    Orbax joins names by dots and files by slashes, and does not tell the key 1 from the key "1".
    So string keys escape dots and slashes, and the first character if they look like a number.
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
