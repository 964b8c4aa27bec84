"""The pair in which every params, gradient and label tree of a game comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax

if TYPE_CHECKING:
    from chex import PRNGKey
else:
    PRNGKey = jax.Array  # chex's own definition, without the 0.2 s that importing chex takes

ArrayTree: TypeAlias = Any
"""A pytree of arrays; chex's recursive union describes it better and type-checks worse."""

Device: TypeAlias = Any
"""A ``jax.Device``, which type checkers take for a variable."""

__all__ = ["ArrayTree", "Device", "PRNGKey", "PrimalDual"]


class PrimalDual(NamedTuple):
    """Something that both players of ``min_x max_y f(x, y)`` have: params, gradients, losses.

    A plain ``NamedTuple``, hence a JAX pytree: ``jax.tree.map``, ``jax.vmap`` and optax see
    straight through it.

    Attributes:
      primal: the min player's share, ``x``; in a GAN, the generator's.
      dual: the max player's share, ``y``; in a GAN, the discriminator's.

    Example:
      >>> import jax
      >>> from onesided_jax import PrimalDual
      >>> jax.tree.map(lambda a: 2 * a, PrimalDual(primal=1.0, dual={"w": 3.0}))
      PrimalDual(primal=2.0, dual={'w': 6.0})
    """

    primal: Any
    dual: Any
