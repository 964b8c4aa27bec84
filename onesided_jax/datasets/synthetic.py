"""Synthetic data sets with a known distribution."""

from __future__ import annotations

import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.datasets.images import Dataset
from onesided_jax.errors import check_integers
from onesided_jax.players import PRNGKey

__all__ = ["grid", "grid_means", "ring", "ring_means"]


def ring_means(modes: int = 8, radius: float = 2.0) -> np.ndarray:
    """Means of `ring`, to count the modes that a generator covers.

    Args:
      modes: number of Gaussians, at least 1.
      radius: radius of the circle of means, at least 0.

    Returns:
      ``f32[modes, 2]``, anticlockwise from ``(radius, 0)``.

    Example:
      >>> ring_means(4, radius=1.0).round(6).tolist()
      [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-0.0, -1.0]]
    """
    angles = 2 * math.pi * np.arange(modes) / modes
    return (radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def ring(modes: int = 8, radius: float = 2.0, std: float = 0.02) -> Dataset:
    """Makes a ring of Gaussians, the standard test for mode collapse.

    A mixture of equally likely isotropic Gaussians with means evenly spaced on a circle. The
    defaults are those of the unrolled-GAN paper.

    Args:
      modes: number of Gaussians, at least 1.
      radius: radius of the circle of means, finite, at least 0.
      std: standard deviation of each coordinate around its mean, finite, at least 0.

    Returns:
      A data set of ``(2,)`` vectors, with no stored array.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import jax
      >>> samples = ring(std=0.0).sample(jax.random.key(0), 100)
      >>> samples.shape, round(float((samples**2).sum(1).max()), 3)
      ((100, 2), 4.0)

    References:
      Metz, Poole, Pfau, Sohl-Dickstein, Unrolled generative adversarial networks, ICLR 2017,
      arXiv:1611.02163, section 3.1 and appendix A.
    """
    check_integers(modes=modes)
    _check_finite(radius=radius, std=std)
    return _mixture("ring", ring_means(modes, radius), std)


def grid_means(side: int = 5, spacing: float = 2.0) -> np.ndarray:
    """Means of `grid`, to count the modes that a generator covers.

    Args:
      side: Gaussians in each row and column, at least 1.
      spacing: distance between neighbours, at least 0.

    Returns:
      ``f32[side**2, 2]``, row by row from the lower left, centred at the origin.

    Example:
      >>> grid_means(2).tolist()
      [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """
    places = spacing * (np.arange(side) - (side - 1) / 2)
    return np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2).astype(np.float32)


def grid(side: int = 5, spacing: float = 2.0, std: float = 0.05) -> Dataset:
    """Makes a grid of Gaussians, with more modes than `ring`.

    A mixture of equally likely isotropic Gaussians with means on a square grid around the origin.
    The defaults are those of the PacGAN paper: 25 modes at -4, -2, 0, 2 and 4.

    Args:
      side: Gaussians in each row and column, at least 1.
      spacing: distance between neighbours, finite, at least 0.
      std: standard deviation of each coordinate around its mean, finite, at least 0.

    Returns:
      A data set of ``(2,)`` vectors, with no stored array.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import jax
      >>> samples = grid(std=0.0).sample(jax.random.key(0), 100)
      >>> samples.shape, sorted(set(samples[:, 0].tolist()))
      ((100, 2), [-4.0, -2.0, 0.0, 2.0, 4.0])

    References:
      Lin, Khetan, Fanti, Oh, PacGAN: the power of two samples in generative adversarial networks,
      NeurIPS 2018, arXiv:1712.04086, section 4.1.
    """
    check_integers(side=side)
    _check_finite(spacing=spacing, std=std)
    return _mixture("grid", grid_means(side, spacing), std)


def _mixture(name: str, means: np.ndarray, std: float) -> Dataset:
    def sample(key: PRNGKey, n: int) -> jax.Array:
        mode_key, noise_key = jax.random.split(key)
        chosen = jax.random.randint(mode_key, (n,), 0, len(means), jnp.int32)
        # Drawn as a vector: the same numbers as the matrix, twice as fast on XLA:CPU.
        noise = jax.random.normal(noise_key, (2 * n,), jnp.float32).reshape(n, 2)
        return jnp.asarray(means)[chosen] + jnp.float32(std) * noise

    return Dataset(name, (2,), sample)


def _check_finite(**values: float) -> None:
    for name, value in values.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number of at least 0; got {value!r}")
