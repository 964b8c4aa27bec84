"""Images in an ``.npz`` file, such as Keras distributes; pickles are never loaded."""

from __future__ import annotations

import difflib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from onesided_jax.datasets.files import check_split, expand_user
from onesided_jax.datasets.images import Dataset, from_array

__all__ = ["npz"]

KEYS = {  # split -> possible keys of the images, each with possible keys of the labels
    "train": {
        "x_train": ("y_train", "labels", "label"),
        "images": ("labels", "label", "y_train"),
    },
    "test": {"x_test": ("y_test",)},
}
EXPECTED = (
    "expected an .npz archive holding uint8 images [N, H, W] or [N, H, W, C] "
    "under the key x_train or images, or as its only array"
)
EXPECTED_TEST = (
    "expected an .npz archive holding uint8 images [N, H, W] or [N, H, W, C] under the key x_test"
)


def npz(path: str | os.PathLike[str], split: str = "train") -> Dataset:
    """Makes a data set from the images in an ``.npz`` file.

    Args:
      path: the file; ``~`` is expanded. It holds images ``uint8[N, H, W]`` or ``uint8[N, H, W, C]``
        under the key ``x_train`` or ``images``, or as its only array. It may hold their classes
        under ``y_train``, ``labels`` or ``label``. Pickled arrays are refused.
      split: ``"train"``, or ``"test"`` for the arrays under ``x_test`` and ``y_test``.

    Returns:
      The data set, named ``npz:PATH``.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file has unexpected content; the message describes it.

    Example:
      >>> import pathlib, tempfile, numpy as np
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "tiny.npz"
      ...     np.savez(path, x_train=np.zeros((10, 8, 8, 3), np.uint8), y_train=np.arange(10))
      ...     dataset = npz(path)
      >>> dataset.shape, dataset.labels.shape
      ((8, 8, 3), (10,))
    """
    check_split("an .npz file", split)
    expected = EXPECTED if split == "train" else EXPECTED_TEST
    file = expand_user(path)
    if not file.exists():
        siblings = [p.name for p in file.parent.glob("*.npz")]
        close = difflib.get_close_matches(file.name, siblings, n=1)
        hint = f"; did you mean {file.parent / close[0]}?" if close else ""
        raise FileNotFoundError(f"{file}: no such file; {expected}{hint}")
    try:
        images, labels = read_npz(file, split)
    except Exception as error:  # a damaged file can raise anything, from zlib.error to SyntaxError
        raise ValueError(f"{file}: {error or type(error).__name__}; {expected}") from error
    return from_array(images, name=f"npz:{path}", labels=labels)


def read_npz(path: Path, split: str = "train") -> tuple[np.ndarray, np.ndarray | None]:
    """Reads images and labels; the zip format's CRC of each array detects damaged bytes."""
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError(f"found a bare .npy array, {archive.dtype}{list(archive.shape)}")
        with archive:
            known = KEYS[split]
            keys = [key for key in known if key in archive.files][:1]
            for_test = split == "train" and "x_test" in archive.files
            if not keys and split == "train" and not for_test:
                keys = archive.files
            if len(keys) != 1:
                names = f": {', '.join(archive.files)}" if archive.files else ""
                hint = " (x_test is for split='test')" if for_test else ""
                raise ValueError(f"found {len(archive.files)} arrays{names}{hint}")
            images = archive[keys[0]]
            of_labels = [key for key in known.get(keys[0], ()) if key in archive.files][:1]
            labels = _read_labels(archive, *of_labels)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.size == 0:
        raise ValueError(f"found {images.dtype}{list(images.shape)} under the key {keys[0]}")
    return images, labels


def _read_labels(archive: Any, key: str | None = None) -> np.ndarray | None:
    try:
        return None if key is None else archive[key]
    except Exception as error:  # as in `npz`
        raise ValueError(f"cannot read the labels under the key {key}: {error}") from error


def write_npz(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, images=images, labels=labels)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
