"""Differentiable augmentation of real and generated images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from onesided_jax.errors import nearest
from onesided_jax.players import PRNGKey, make_key

__all__ = ["AUGMENTATIONS", "diff_augment", "find_augmentation"]

Augmentation = Callable[[PRNGKey, jax.Array], jax.Array]


def _flip(key: PRNGKey, image: jax.Array) -> jax.Array:
    """Mirrors left to right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def _shift(key: PRNGKey, image: jax.Array) -> jax.Array:
    """Moves by up to an eighth of the height and width; fills with zeros."""
    down, right = (round(size / 8) for size in image.shape[:2])
    most = jnp.array([2 * down + 1, 2 * right + 1], jnp.int32)
    y, x = jax.random.randint(key, (2,), 0, most, jnp.int32)
    padded = jnp.pad(image, ((down, down), (right, right), (0, 0)))
    return jax.lax.dynamic_slice(padded, (y, x, jnp.zeros_like(x)), image.shape)


def _cutout(key: PRNGKey, image: jax.Array) -> jax.Array:
    """Zeros a box of half the height and width around a random pixel; the border may cut it."""
    centre = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2], jnp.int32), jnp.int32)
    inside = []
    for size, middle in zip(image.shape[:2], centre, strict=True):
        offset = jnp.arange(size, dtype=jnp.int32) - middle + size // 4
        inside.append((offset >= 0) & (offset < size // 2))
    return jnp.where((inside[0][:, None] & inside[1][None])[..., None], 0, image)


AUGMENTATIONS: dict[str, Augmentation] = {"flip": _flip, "shift": _shift, "cutout": _cutout}
"""Name to augmentation, ``(key, f[H, W, C]) -> f[H, W, C]``."""


def diff_augment(policy: str) -> Augmentation:
    """A differentiable augmentation of one image.

    A discriminator with few real images memorises them. Random changes of *both* real and generated
    images prevent this, and do not leak into the generator's images.

    Args:
      policy: names in the order of application, separated by commas. ``"flip"`` mirrors an image
        with probability 1/2. ``"shift"`` moves it by up to an eighth of its size and fills with
        zeros (grey). ``"cutout"`` sets a box of half its size to zero.

    Returns:
      ``(key, image f[H, W, C]) -> f[H, W, C]``, for `gan`'s ``augment`` or under ``jax.vmap``.

    Raises:
      ValueError: for an unknown name.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from onesided_jax.games import diff_augment
      >>> augment = diff_augment("shift,cutout")
      >>> keys = jax.random.split(jax.random.key(0), 5)
      >>> jax.vmap(augment)(keys, jnp.ones((5, 8, 8, 1))).shape
      (5, 8, 8, 1)

    References:
      Zhao, Liu, Lin, Zhu, Han, Differentiable augmentation for data-efficient GAN training, NeurIPS
      2020, arXiv:2006.10738 (translation and cutout; their colour jitter is not implemented).
    """
    names = [name.strip() for name in policy.split(",")] if isinstance(policy, str) else [policy]
    for name in names:
        if not isinstance(name, str) or name not in AUGMENTATIONS:
            raise ValueError(
                f"augment={policy!r}: expected a function (key, sample) -> sample, or names of "
                f"{list(AUGMENTATIONS)} separated by commas{nearest(name, AUGMENTATIONS)}"
            )

    def augment(key: PRNGKey, image: jax.Array) -> jax.Array:
        for number, name in enumerate(names):
            image = AUGMENTATIONS[name](jax.random.fold_in(key, number), image)
        return image

    return augment


def find_augmentation(augment: Any, samples: Any) -> Callable[[Any, Any], Any]:
    """The augmentation of a minibatch, ``(keys[B], samples[B, ...]) -> samples``.

    Raises:
      ValueError: for an unknown name, or if the shape or dtype of ``samples`` (abstract) changes.
    """
    if augment is None:
        return lambda keys, samples: samples
    named = not callable(augment)
    batched = jax.vmap(diff_augment(augment) if named else augment)
    shape = samples.shape[1:]
    if named and len(shape) != 3:
        raise ValueError(f"augment={augment!r}: expected images (H, W, C), got samples {shape}")
    keys = jax.eval_shape(lambda: jax.random.split(make_key(0), samples.shape[0]))
    after = jax.eval_shape(batched, keys, samples)
    if (after.shape, after.dtype) != (samples.shape, samples.dtype):
        raise ValueError(
            f"augment: expected a function (key, sample) -> sample that keeps shape {shape} and "
            f"dtype {samples.dtype}, got {after.shape[1:]} and {after.dtype}"
        )
    return batched
