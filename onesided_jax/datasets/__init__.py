"""Data sets as pure functions, the source of a GAN game's real samples.

`load` finds a data set by name, `from_array` makes one from an array, and `ring` and `grid` make
synthetic ones. Each is a `Dataset`, whose ``sample(key, n)`` runs inside the compiled training
step.

Example:
  >>> import jax
  >>> from onesided_jax.datasets import load
  >>> dataset = load("ring")
  >>> dataset.shape, dataset.sample(jax.random.key(0), 128).shape
  ((2,), (128, 2))
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence

from onesided_jax.datasets.archives import npz
from onesided_jax.datasets.cifar import cifar10
from onesided_jax.datasets.digits import mnist5k
from onesided_jax.datasets.folders import image_folder
from onesided_jax.datasets.idx import fashion_mnist, mnist
from onesided_jax.datasets.images import Dataset, from_array, scale_pixels
from onesided_jax.datasets.synthetic import grid, grid_means, ring, ring_means

__all__ = [
    "DATASETS",
    "Dataset",
    "cifar10",
    "fashion_mnist",
    "from_array",
    "grid",
    "grid_means",
    "image_folder",
    "load",
    "mnist",
    "mnist5k",
    "npz",
    "ring",
    "ring_means",
    "scale_pixels",
]

WITH_FILES = {"mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10}
"""Data sets that are read from official files."""

DATASETS = {"mnist5k": mnist5k, "ring": ring, "grid": grid, **WITH_FILES}
"""Name to function without required arguments."""


def load(
    name: str,
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    size: int | Sequence[int] | None = None,
) -> Dataset:
    """Loads a data set by name, for recipes and the command line.

    Args:
      name: one of

        - ``"mnist5k"`` (5000 real digits without a download), ``"mnist"``, ``"fashion_mnist"``,
          ``"cifar10"``, ``"ring"`` (8 Gaussians on a circle) or ``"grid"`` (25 Gaussians);
        - ``"npz:PATH"`` or ``"images:FOLDER"``, your own images, see `npz` and `image_folder`;
        - ``"mnist:PATH"``, ``"fashion_mnist:PATH"`` or ``"cifar10:PATH"``, with the directory of
          the official files.
      split: ``"train"``; or ``"test"``, for ``mnist``, ``fashion_mnist``, ``cifar10`` and archives
        with the key ``x_test``.
      data_dir: directory of the official files, the same as ``PATH``.
      size: image size for ``"images:FOLDER"``, 64 by default; see `image_folder`.

    Returns:
      The data set, with this name.

    Raises:
      ValueError: for an unknown name or split, or a file with unexpected content.
      FileNotFoundError: if a file is missing at PATH.
      OSError: if a data set could not be downloaded.
      ImportError: for ``"mnist5k"`` without the extra ``demo``, or ``"images:FOLDER"`` without
        pillow.

    Example:
      >>> load("ring").name
      'ring'
      >>> load("mnist5")
      Traceback (most recent call last):
      ...
      ValueError: unknown data set 'mnist5', did you mean 'mnist5k'? Known: mnist5k, ring, grid,
      mnist, fashion_mnist, cifar10, npz:PATH, mnist:PATH, fashion_mnist:PATH, cifar10:PATH,
      images:FOLDER
    """
    if not isinstance(name, str):
        raise ValueError(f"unknown data set {name!r}: expected a name, one of {list(DATASETS)}")
    head, colon, path = name.partition(":")
    if size is not None and head != "images":
        raise ValueError(f"size={size!r}: {name!r} takes none, only images:FOLDER does")
    if head in WITH_FILES and (path or not colon):
        if path and data_dir is not None:
            raise ValueError(f"data_dir={str(data_dir)!r}: {name!r} names its directory already")
        return WITH_FILES[head](split, path or data_dir)._replace(name=name)
    if data_dir is not None and (name in DATASETS or head in ("npz", "images")):
        raise ValueError(
            f"data_dir={str(data_dir)!r}: {name!r} takes none, only {', '.join(WITH_FILES)} do"
        )
    if head == "npz" and colon:
        return npz(path, split)
    if head == "images":
        if split != "train" or not path:
            given = f"split={split!r}: {name!r} has only 'train'" if path else "images: no folder"
            raise ValueError(f"{given}; expected images:FOLDER, a folder of PNG or JPEG files")
        return image_folder(path, 64 if size is None else size)
    if name in DATASETS:
        if split != "train":
            raise ValueError(
                f"split={split!r}: {name!r} has no held-out part, only 'train'; "
                f"{', '.join(WITH_FILES)} have 'test'"
            )
        return DATASETS[name]()
    known = [*DATASETS, "npz:PATH", *(f"{known}:PATH" for known in WITH_FILES)]
    known.append("images:FOLDER")
    raise ValueError(
        f"unknown data set {name!r}, did you mean {_nearest(name)!r}? Known: {', '.join(known)}"
    )


def _nearest(name: str) -> str:
    if name.endswith(".npz"):
        return f"npz:{name}"
    head, colon, _ = name.partition(":")
    with_path = ["npz", *WITH_FILES, "images"]
    choices = with_path if colon else [*DATASETS, "npz", "images"]
    close = difflib.get_close_matches(head.lower(), choices, n=1, cutoff=0.0)[0]
    if close == "images":
        return "images:FOLDER"
    return f"{close}:PATH" if colon or close == "npz" else close
