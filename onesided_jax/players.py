"""The pair in which every params, gradient and label tree of a game comes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from chex import PRNGKey
else:
    PRNGKey = jax.Array  # chex's own definition, without the 0.2 s that importing chex takes

ArrayTree: TypeAlias = Any
"""A pytree of arrays; chex's recursive union describes it better and type-checks worse."""

Device: TypeAlias = Any
"""A ``jax.Device``, which type checkers take for a variable."""

__all__ = [
    "PRNG_IMPLEMENTATION",
    "ArrayTree",
    "Device",
    "PRNGKey",
    "PrimalDual",
    "fixed_randomness",
    "keys_like",
    "make_key",
]

PRNG_IMPLEMENTATION = "threefry2x32"
"""The generator of every key that this package makes.

Under vmap its draws do not depend on the neighbours, as those of ``rbg`` do.
"""


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


def make_key(seed: Any) -> PRNGKey:
    """A key of `PRNG_IMPLEMENTATION`, whatever JAX's default generator is.

    Args:
      seed: an integer, or an integer scalar.

    Example:
      >>> make_key(0).dtype
      key<fry>
    """
    return jax.random.key(seed, impl=PRNG_IMPLEMENTATION)


def keys_like(data: Any, like: Any) -> PRNGKey:
    """Key data as keys of the implementation of ``like``.

    Args:
      data: ``uint32[..., n]``, from ``jax.random.key_data``.
      like: a key, an array of keys, or the ``ShapeDtypeStruct`` of one.

    Example:
      >>> import jax
      >>> key = jax.random.key(0, impl="rbg")
      >>> keys_like(jax.random.key_data(key), key).dtype
      key<rbg>
    """
    implementations: list[Any] = []
    jax.eval_shape(lambda key: implementations.append(jax.random.key_impl(key)), like)
    return jax.random.wrap_key_data(jnp.asarray(data), impl=implementations[0])


@contextlib.contextmanager
def fixed_randomness() -> Iterator[None]:
    """Within the block JAX's global settings do not change what random numbers are drawn.

    Holds for this thread: the default generator is `PRNG_IMPLEMENTATION`, and threefry is in the
    partitionable mode, JAX's default since version 0.5.
    """
    with jax.default_prng_impl(PRNG_IMPLEMENTATION):
        if hasattr(jax, "threefry_partitionable"):  # JAX may drop the switch with the other mode
            with jax.threefry_partitionable(True):
                yield
        else:
            yield
