"""Synthetic data sets, whose distribution is known exactly."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.datasets.images import Dataset
from onesided_jax.players import PRNGKey

__all__ = ["ring", "ring_means"]


def ring_means(modes: int = 8, radius: float = 2.0) -> np.ndarray:
    """Place the means of `ring`: the reference for counting the modes a generator covers.

    Args:
      modes: number of Gaussians, at least 1.
      radius: of the circle their means lie on, at least 0.

    Returns:
      ``f32[modes, 2]``, anticlockwise from ``(radius, 0)``.

    Example:
      >>> ring_means(4, radius=1.0).round(6).tolist()
      [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-0.0, -1.0]]
    """
    angles = 2 * math.pi * np.arange(modes) / modes
    return (radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def ring(modes: int = 8, radius: float = 2.0, std: float = 0.02) -> Dataset:
    """Make the ring of Gaussians: the standard picture of mode collapse.

    A mixture of equally likely isotropic Gaussians with means evenly spaced on a circle, by default
    the one of the unrolled-GAN paper.

    Args:
      modes: number of Gaussians, at least 1.
      radius: of the circle, finite, at least 0.
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
    if not isinstance(modes, int) or modes < 1:
        raise ValueError(f"modes must be an integer of at least 1; got {modes!r}, nearest valid: 1")
    for name, value in {"radius": radius, "std": std}.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and at least 0; got {value!r}")
    means = ring_means(modes, radius)

    def sample(key: PRNGKey, n: int) -> jax.Array:
        mode_key, noise_key = jax.random.split(key)
        chosen = jax.random.randint(mode_key, (n,), 0, modes, jnp.int32)
        noise = jax.random.normal(noise_key, (n, 2), jnp.float32)
        return jnp.asarray(means)[chosen] + jnp.float32(std) * noise

    return Dataset("ring", (2,), sample)
