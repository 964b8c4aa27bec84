"""Trained classifiers on disk: an ``.npz`` of plain arrays, named by what it was trained on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis._classifier import (
    ClassifierSettings,
    Trained,
    check_labels,
    network,
    train_classifier,
)
from onesided_jax.datasets._files import cache_directory
from onesided_jax.players import make_key
from onesided_jax.runs.files import write_bytes_atomically

__all__ = ["cached_classifier", "fingerprint"]

VERSION = 1  # of what is trained and how; raise it when `_classifier` changes


def cached_classifier(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    seed: int = 0,
    settings: ClassifierSettings | None = None,
) -> Trained:
    """The classifier of labelled images, from the cache or trained now; see `train_classifier`.

    The file is named by a hash of images, labels, seed, settings and version, and is written all at
    once; a damaged one is trained anew.

    Warns:
      RuntimeWarning: the cache cannot be written, so that the next call trains again.
    """
    images, labels, classes = check_labels(images, labels)
    settings = settings or ClassifierSettings()
    path = cache_directory() / "classifiers" / f"{_name(images, labels, seed, settings)}.npz"
    # Whatever is wrong with the cache, the cure is the same.
    with contextlib.suppress(Exception):
        return _read(path, images.shape[1:], classes, settings)
    trained = train_classifier(images, labels, seed=seed, settings=settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(path, _bytes(trained))
    except OSError as error:
        warnings.warn(
            f"cannot cache the classifier in {path} ({error}); "
            "set ONESIDED_CACHE to a writable directory",
            RuntimeWarning,
            stacklevel=2,
        )
    return trained


def fingerprint(trained: Trained) -> str:
    """Twelve hexadecimal digits that differ between any two classifiers."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(trained.params):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def _name(images: np.ndarray, labels: np.ndarray, seed: int, settings: ClassifierSettings) -> str:
    about = {"version": VERSION, "seed": seed, "shape": images.shape, **settings._asdict()}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    digest.update(np.ascontiguousarray(labels).tobytes())
    return digest.hexdigest()[:32]


def _bytes(trained: Trained) -> bytes:
    leaves = jax.tree_util.tree_leaves_with_path(trained.params)
    arrays = {_leaf_name(path): leaf for path, leaf in leaves}
    buffer = io.BytesIO()
    np.savez(buffer, accuracy=trained.accuracy, held_out=trained.held_out, **arrays)
    return buffer.getvalue()


def _read(
    path: Path, shape: tuple[int, ...], classes: int, settings: ClassifierSettings
) -> Trained:
    net = network(shape, classes, settings)
    like, _ = jax.eval_shape(net.init, make_key(0))
    # A zip: damaged bytes fail their CRC. Opened here, for np.load leaves damaged files open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:

        def leaf(where: Any, expected: jax.ShapeDtypeStruct) -> np.ndarray:
            array = archive[_leaf_name(where)]
            if array.shape != expected.shape or array.dtype != np.float32:
                raise ValueError(f"{path}: {_leaf_name(where)} is {array.dtype}{array.shape}")
            return array

        params = jax.tree_util.tree_map_with_path(leaf, like)
        return Trained(params, float(archive["accuracy"]), int(archive["held_out"]))


def _leaf_name(path: Any) -> str:
    return "params/" + jax.tree_util.keystr(path, simple=True, separator="/")
