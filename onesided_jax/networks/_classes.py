"""Class labels in our networks: an embedding in G, a projection in D."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from onesided_jax.errors import check_integers

__all__ = ["Head", "check_classes", "embedding", "join_class", "project_class"]


def check_classes(classes: int | None) -> None:
    """Raises ``ValueError`` unless ``classes`` is ``None`` or an integer ``>= 2``."""
    if classes is not None:
        check_integers(2, classes=classes)


def embedding(classes: int | None, features: int, scale: float, rngs: nnx.Rngs) -> Any:
    """Normal vectors, one per class, ``f[classes, features]``; ``None`` without classes."""
    if classes is None:
        return None
    return nnx.Param(scale * jax.random.normal(rngs.params(), (classes, features), jnp.float32))


class Head(nnx.Linear):
    """An affine layer to one logit, plus the class projection if there are classes."""

    def __init__(self, features: int, classes: int | None, rngs: nnx.Rngs):
        super().__init__(features, 1, rngs=rngs)
        self.classes = embedding(classes, features, features**-0.5, rngs)

    def __call__(self, inputs: jax.Array, *labels: Any, **options: Any) -> jax.Array:
        logits = super().__call__(inputs, **options)[:, 0]
        return project_class(logits, inputs, labels, self.classes)


def join_class(latents: jax.Array, labels: tuple[jax.Array, ...], table: Any) -> jax.Array:
    """Latents ``f[B, L]``, joined with their class vectors if there are classes."""
    vectors = _look_up(labels, table)
    return latents if vectors is None else jnp.concatenate([latents, vectors], axis=1)


def project_class(
    logits: jax.Array, features: jax.Array, labels: tuple[jax.Array, ...], table: Any
) -> jax.Array:
    """Logits, plus the inner product of features and class vector if there are classes."""
    vectors = _look_up(labels, table)
    return logits if vectors is None else logits + jnp.sum(features * vectors, axis=1)


def _look_up(labels: tuple[jax.Array, ...], table: Any) -> jax.Array | None:
    if (table is None) != (not labels):
        made, given = ("without", "labels") if table is None else ("with", "no labels")
        raise TypeError(
            f"a network made {made} classes=... got {given}; give games.gan and the network the "
            "same classes"
        )
    if table is None:
        return None
    # A matrix product, not indexing, because its gradient needs no scatter, also under vmap.
    rows = jnp.asarray(table[...] if isinstance(table, nnx.Variable) else table)
    return jax.nn.one_hot(labels[0], rows.shape[0], dtype=rows.dtype) @ rows
