"""A cache of trained classifiers: ``.npz`` files, named by a hash of the training set."""

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
from onesided_jax.datasets.files import cache_directory
from onesided_jax.players import make_key
from onesided_jax.runs.files import write_bytes_atomically

__all__ = ["cached_classifier"]

VERSION = 1  # raise it when `_classifier` changes


def cached_classifier(
    images: ArrayLike, labels: ArrayLike, *, seed: int, settings: ClassifierSettings
) -> Trained:
    """Reads the classifier of labelled images from the cache, or trains it (`train_classifier`).

    If the cached file is damaged, the classifier is trained again.

    Warns:
      RuntimeWarning: if the cache cannot be written, so that the next call trains again.
    """
    images, labels, classes = check_labels(images, labels)
    about = {"version": VERSION, "seed": seed, "shape": images.shape, **settings._asdict()}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    digest.update(np.ascontiguousarray(labels).tobytes())
    path = cache_directory() / "classifiers" / f"{digest.hexdigest()[:32]}.npz"
    like, _ = jax.eval_shape(network(images.shape[1:], classes, settings).init, make_key(0))
    with contextlib.suppress(Exception):  # a missing or damaged file is replaced by training
        return _read(path, jax.tree.structure(like))
    trained = train_classifier(images, labels, seed=seed, settings=settings)
    buffer = io.BytesIO()
    leaves = jax.tree.leaves(trained.params)
    np.savez(buffer, *leaves, accuracy=trained.accuracy, held_out=trained.held_out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(path, buffer.getvalue())
    except OSError as error:
        warnings.warn(
            f"cannot cache the classifier in {path} ({error}); "
            "set ONESIDED_CACHE to a writable directory",
            RuntimeWarning,
            stacklevel=2,
        )
    return trained


def _read(path: Path, structure: Any) -> Trained:
    # A zip detects damaged bytes by its CRC. Open it here: np.load leaves damaged files open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        leaves = [archive[f"arr_{i}"] for i in range(structure.num_leaves)]
        accuracy, held_out = float(archive["accuracy"]), int(archive["held_out"])
    return Trained(jax.tree.unflatten(structure, leaves), accuracy, held_out)
