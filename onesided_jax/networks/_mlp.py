"""Fully connected GANs: for vectors, mixtures of Gaussians and small images."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from onesided_jax.errors import check_integers
from onesided_jax.networks._classes import Head, check_classes, embedding, join_class
from onesided_jax.networks.network import Network, from_nnx

__all__ = ["mlp"]

LEAK = 0.2  # slope of the discriminator's leaky ReLU, as in DCGAN


def mlp(
    sample_shape: tuple[int, ...],
    latent_dim: int = 16,
    width: int = 64,
    depth: int = 2,
    *,
    classes: int | None = None,
) -> tuple[Network, Network]:
    """Builds a fully connected generator and discriminator.

    The generator's hidden layers use ReLU, the discriminator's leaky ReLU (slope 0.2). Weights are
    initialised as in flax (LeCun normal), biases with zero. The generator's output is linear for
    vectors (``sample_shape`` of length 1) and tanh for images, whose pixels lie in [-1, 1].

    Args:
      sample_shape: shape of one sample, ``(d,)`` or ``(H, W, C)``.
      latent_dim: length of the generator's input, at least 1.
      width: units in each hidden layer, at least 1.
      depth: hidden layers of each network; 0 makes both linear.
      classes: number of classes for a conditional GAN, at least 2; see `dcgan`.

    Returns:
      ``(generator, discriminator)``. The generator maps latents ``f32[B, latent_dim]`` to samples
      ``f32[B, *sample_shape]``; the discriminator maps samples to logits ``f32[B]``. Both have
      the empty state ``()`` and the last layer ``params["head"]``.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> generator, discriminator = mlp((2,), latent_dim=4, width=8)
      >>> def logits(key):
      ...     samples, _ = generator.apply(*generator.init(key), jnp.ones((5, 4)))
      ...     return discriminator.apply(*discriminator.init(key), samples)[0]
      >>> jax.eval_shape(logits, jax.random.key(0)).shape
      (5,)
    """
    if not isinstance(sample_shape, tuple | list) or not sample_shape:
        raise ValueError(f"sample_shape must be a tuple such as (2,); got {sample_shape!r}")
    for size in sample_shape:
        check_integers(sample_shape=size)
    check_integers(latent_dim=latent_dim, width=width)
    check_integers(0, depth=depth)
    check_classes(classes)
    shape, features = tuple(sample_shape), math.prod(sample_shape)
    hidden = [width] * depth

    def generator(rngs: nnx.Rngs) -> nnx.Module:
        ending = _identity if len(shape) == 1 else jax.numpy.tanh
        inputs = latent_dim if classes is None else 2 * latent_dim
        table = functools.partial(embedding, classes, latent_dim, 1.0)
        return _Generator([inputs, *hidden, features], table, ending, shape, rngs)

    def discriminator(rngs: nnx.Rngs) -> nnx.Module:
        return _Discriminator([features, *hidden], classes, rngs)

    return from_nnx(generator), from_nnx(discriminator)


def _identity(x: jax.Array) -> jax.Array:
    return x


class _Generator(nnx.Module):
    def __init__(
        self,
        sizes: list[int],
        table: Callable[[nnx.Rngs], Any],
        ending: Callable[[jax.Array], jax.Array],
        output_shape: tuple[int, ...],
        rngs: nnx.Rngs,
    ):
        *hidden, last = itertools.pairwise(sizes)
        self.layers = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in hidden)
        self.head = nnx.Linear(*last, rngs=rngs)
        self.classes = table(rngs)
        self.ending, self.output_shape = ending, output_shape

    def __call__(self, latents: jax.Array, *labels: jax.Array) -> jax.Array:
        x = join_class(latents.reshape(latents.shape[0], -1), labels, self.classes)
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return self.ending(self.head(x)).reshape(x.shape[0], *self.output_shape)


class _Discriminator(nnx.Module):
    def __init__(self, sizes: list[int], classes: int | None, rngs: nnx.Rngs):
        self.layers = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes))
        self.head = Head(sizes[-1], classes, rngs)

    def __call__(self, samples: jax.Array, *labels: jax.Array) -> jax.Array:
        x = samples.reshape(samples.shape[0], -1)
        for layer in self.layers:
            x = jax.nn.leaky_relu(layer(x), LEAK)
        return self.head(x, *labels)
