"""Data sets as pure functions: where a GAN game draws its real samples from.

`load` finds a data set by name; `from_array` makes one of an array, `ring` a synthetic one. All
are a `Dataset`, whose ``sample(key, n)`` runs inside the compiled training step.

Example:
  >>> import jax
  >>> from onesided_jax.datasets import load
  >>> dataset = load("ring")
  >>> dataset.shape, dataset.sample(jax.random.key(0), 128).shape
  ((2,), (128, 2))
"""

from __future__ import annotations

import difflib

from onesided_jax.datasets.images import Dataset, from_array, mnist5k, npz, scale_pixels
from onesided_jax.datasets.synthetic import ring, ring_means

__all__ = [
    "DATASETS",
    "Dataset",
    "from_array",
    "load",
    "mnist5k",
    "npz",
    "ring",
    "ring_means",
    "scale_pixels",
]

DATASETS = {"mnist5k": mnist5k, "ring": ring}
"""The named data sets: name -> function without required arguments."""

_NPZ = "npz:"


def load(name: str) -> Dataset:
    """Load a data set by name: what recipes and the command line call.

    Args:
      name: ``"mnist5k"`` (5000 real digits, see `mnist5k`), ``"ring"`` (8 Gaussians on a circle,
        see `ring`), or ``"npz:PATH"`` (images of your own, see `npz`).

    Returns:
      The data set.

    Raises:
      ValueError: there is no such name, or the file at PATH is not what was expected.
      FileNotFoundError: there is no file at PATH.
      ImportError: ``"mnist5k"`` without the extra ``demo``.

    Example:
      >>> load("ring").name
      'ring'
      >>> load("mnist")
      Traceback (most recent call last):
      ...
      ValueError: unknown data set 'mnist', did you mean 'mnist5k'? Known: mnist5k, ring, npz:PATH
    """
    if name in DATASETS:
        return DATASETS[name]()
    if name.startswith(_NPZ):
        return npz(name.removeprefix(_NPZ))
    if name.endswith(".npz"):
        nearest = _NPZ + name
    else:
        head = name.partition(":")[0]
        nearest = difflib.get_close_matches(head, [*DATASETS, "npz"], n=1, cutoff=0.0)[0]
        nearest = "npz:PATH" if nearest == "npz" else nearest
    known = ", ".join([*DATASETS, "npz:PATH"])
    raise ValueError(f"unknown data set {name!r}, did you mean {nearest!r}? Known: {known}")
