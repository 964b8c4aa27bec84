"""`Dataset`, and data sets from arrays in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from onesided_jax.players import PRNGKey

__all__ = ["Dataset", "from_array", "scale_pixels"]

MIDDLE = np.float32(127.5)  # of the range 0..255


class Dataset(NamedTuple):
    """The data that a GAN imitates: a stored array of images or vectors, or a synthetic source.

    Attributes:
      name: the name given to `load`, or any other.
      shape: shape of one sample: ``(H, W, C)`` for images, ``(d,)`` for vectors.
      sample: ``sample(key, n) -> f32[n, *shape]``, ``n`` independent draws (with replacement from a
        stored array); a pure function for ``jit`` (``n`` static) and ``vmap``. Pixels lie in
        [-1, 1].
      data: the stored array on the host, images ``uint8[N, H, W, C]`` or vectors ``f32[N, d]``;
        ``None`` for a synthetic data set.
      labels: the class of each row of ``data``, on the host, ``int32[N]``; ``None`` without
        classes. Conditional GANs and sample-quality measures use them.

    Example:
      >>> import jax
      >>> def sample(key, n):
      ...     return jax.random.normal(key, (n, 2))
      >>> dataset = Dataset("normal", (2,), sample)
      >>> dataset.sample(jax.random.key(0), 5).shape
      (5, 2)
    """

    name: str
    shape: tuple[int, ...]
    sample: Callable[[PRNGKey, int], jax.Array]
    data: np.ndarray | None = None
    labels: np.ndarray | None = None

    def labelled(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        """Like ``sample``, with labels: ``(key, n) -> (f32[n, ...], int32[n])``.

        Raises:
          ValueError: if the data set has no labels.
        """
        if self.data is None or self.labels is None:
            raise ValueError(f"{self.name} has no labels")
        return _LabelledRows((self.data, self.labels))


def scale_pixels(pixels: ArrayLike) -> jax.Array:
    """Converts bytes to the range [-1, 1] of a tanh generator.

    Args:
      pixels: ``uint8[...]``.

    Returns:
      ``f32[...]``: ``(pixels - 127.5) / 127.5``; 0 and 255 map to exactly -1 and 1.

    Example:
      >>> import numpy as np
      >>> scale_pixels(np.array([0, 255], np.uint8)).tolist()
      [-1.0, 1.0]
    """
    # Subtract first, because XLA turns x / 127.5 - 1 into a product that maps 255 to 1.0000001.
    return (jnp.asarray(pixels).astype(jnp.float32) - MIDDLE) * (1 / MIDDLE)


def from_array(array: ArrayLike, name: str = "array", labels: ArrayLike | None = None) -> Dataset:
    """Makes a data set from images or vectors in memory.

    The array is copied. Images stay bytes on the device; only minibatches become floats.

    Args:
      array: images ``uint8[N, H, W]`` or ``uint8[N, H, W, C]``, or vectors, float ``[N, d]``.
      name: name for reports.
      labels: the class of each row, whole numbers or booleans ``[N]`` or ``[N, 1]``; ``None``
        without classes.

    Returns:
      The data set. In its ``data`` images have a channel axis and vectors are float32; ``labels``
      are ``int32[N]``.

    Raises:
      ValueError: for another dtype or rank, an empty array, images with channels first, or vectors
        with inf or nan. Also for labels that are not one whole number per row.

    Example:
      >>> import jax, numpy as np
      >>> images = np.random.default_rng(0).integers(0, 256, (10, 8, 8), np.uint8)
      >>> dataset = from_array(images, name="noise")
      >>> dataset.shape, dataset.sample(jax.random.key(0), 3).shape
      ((8, 8, 1), (3, 8, 8, 1))
    """
    data = np.array(array, order="C")
    got = f"{data.dtype}{list(data.shape)}"
    is_image = data.dtype == np.uint8
    is_vector = np.issubdtype(data.dtype, np.floating)
    ranks = (3, 4) if is_image else (2,)
    if not (is_image or is_vector) or data.ndim not in ranks or data.size == 0:
        raise ValueError(
            f"{name}: expected images uint8[N, H, W] or uint8[N, H, W, C], or vectors float[N, d], "
            f"none of these sizes zero; got {got}"
        )
    if is_vector:
        with np.errstate(over="ignore"):
            data = data.astype(np.float32, copy=False)
        if not np.isfinite(data).all():
            raise ValueError(f"{name}: expected finite float32 vectors; got inf or nan in {got}")
    elif data.ndim == 3:
        data = data[..., None]
    elif data.shape[1] in (1, 3) and min(data.shape[2:]) >= 8:  # too many for channels last
        raise ValueError(
            f"{name}: expected images with their channels last, uint8[N, H, W, C]; got {got}, "
            "whose channels are first: array.transpose(0, 2, 3, 1) puts them last"
        )
    classes = None if labels is None else _classes(np.asarray(labels), len(data), name)

    return Dataset(name, data.shape[1:], _Rows(data), data, classes)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The `sample` of a stored array; compiled programs pass it: ``sample(key, n, data)``."""

    data: np.ndarray

    def __call__(self, key: PRNGKey, n: int, data: ArrayLike | None = None) -> jax.Array:
        """Draws ``n`` rows with replacement; bytes become pixels in [-1, 1]."""
        return _draw(key, n, jnp.asarray(self.data if data is None else data))[0]


@dataclass(frozen=True, eq=False)
class _LabelledRows:
    """Draws the same rows as `_Rows`, with labels: ``sample(key, n, (data, labels))``."""

    data: tuple[np.ndarray, np.ndarray]

    def __call__(
        self, key: PRNGKey, n: int, data: tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[jax.Array, jax.Array]:
        array, labels = map(jnp.asarray, self.data if data is None else data)
        samples, rows = _draw(key, n, array)
        return samples, labels[rows]


def _draw(key: PRNGKey, n: int, array: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows = jax.random.randint(key, (n,), 0, len(array), jnp.int32)
    return scale_pixels(array[rows]) if array.dtype == jnp.uint8 else array[rows], rows


def _classes(labels: np.ndarray, rows: int, name: str) -> np.ndarray:
    flat = labels.reshape(-1) if labels.shape == (rows, 1) else labels
    if flat.dtype.kind in "biuf" and flat.shape == (rows,):
        with np.errstate(invalid="ignore"):
            classes = flat.astype(np.int32)
        if np.array_equal(classes, flat):
            return classes
    raise ValueError(
        f"{name}: expected labels that are one whole number per row, int[{rows}]; "
        f"got {labels.dtype}{list(labels.shape)}"
    )
