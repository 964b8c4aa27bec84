"""Spectral normalisation without state: the spectral norm of a weight as a smooth function.

One step of power iteration per training step gives a discriminator a state that lags behind its
weights. Its gradients are then not derivatives of any function. Here each call computes the norm:
it squares the weight's Gram matrix ten times, so singular values enter with power 2048. This costs
a few small matrix products, works under ``vmap``, and has exact derivatives of every order.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["spectral_norm", "spectral_normalize"]

SQUARINGS = 10


def spectral_norm(kernel: jax.Array) -> jax.Array:
    r"""The largest singular value of a weight, at most 0.3 % too large.

    Computes the Schatten norm :math:`(\sum_i \sigma_i^p)^{1/p}` with :math:`p = 2^{11}`. It lies
    between :math:`\sigma_1` and :math:`r^{1/p} \sigma_1` for rank r (0.3 % more for r = 512 equal
    singular values). If the second singular value is 1 % smaller than the first, it equals
    :math:`\sigma_1` to 1e-12.

    Args:
      kernel: ``f[..., F]``; leading axes are merged into one, as in Miyato et al.

    Returns:
      ``f[]``, ``>= 0``. The zero kernel has norm 0 and gradient 0.

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(spectral_norm(jnp.diag(jnp.array([3.0, -4.0, 1.0])))), 5)
      4.0
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    # Scaled to entries of order 1, so that squares neither overflow nor underflow.
    scale = jnp.max(jnp.abs(jax.lax.stop_gradient(matrix)))
    safe = jnp.where(scale > 0, scale, 1.0)
    matrix = matrix / safe
    power = matrix.T @ matrix
    logarithm = jnp.zeros((), matrix.dtype)
    for i in range(SQUARINGS + 1):
        trace = jnp.where(scale > 0, jnp.trace(power), 1.0)
        logarithm += jnp.log(trace) / 2**i
        power = power / trace
        if i < SQUARINGS:
            power = power @ power
    return jnp.where(scale > 0, safe * jnp.exp(logarithm / 2), 0.0)


def spectral_normalize(kernel: jax.Array) -> jax.Array:
    """The kernel divided by its `spectral_norm`; the zero kernel stays zero."""
    norm = spectral_norm(kernel)
    return kernel / jnp.where(norm > 0, norm, 1.0)
