"""`PrimalDual`, the pair of players, and random keys that ignore JAX's global settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from chex import PRNGKey
else:
    PRNGKey = jax.Array  # the same as chex.PRNGKey; importing chex takes 0.2 s

ArrayTree: TypeAlias = Any
"""A pytree of arrays; type checkers have trouble with chex's recursive union."""

Device: TypeAlias = Any
"""A ``jax.Device``; type checkers reject that name as a type."""

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

Under ``vmap`` a run's draws do not depend on the other runs; with ``rbg`` they do.
"""


class PrimalDual(NamedTuple):
    """One value for each player of ``min_x max_y f(x, y)``: params, gradients or losses.

    A ``NamedTuple``, hence a JAX pytree: ``jax.tree.map``, ``jax.vmap`` and optax accept it.

    Attributes:
      primal: for the min player ``x``; in a GAN, the generator.
      dual: for the max player ``y``; in a GAN, the discriminator.

    Example:
      >>> import jax
      >>> from onesided_jax import PrimalDual
      >>> jax.tree.map(lambda a: 2 * a, PrimalDual(primal=1.0, dual={"w": 3.0}))
      PrimalDual(primal=2.0, dual={'w': 6.0})
    """

    primal: Any
    dual: Any


def make_key(seed: Any) -> PRNGKey:
    """Makes a key of `PRNG_IMPLEMENTATION`, whatever JAX's default generator is.

    Args:
      seed: an integer, or an integer scalar.

    Example:
      >>> make_key(0).dtype
      key<fry>
    """
    return jax.random.key(seed, impl=PRNG_IMPLEMENTATION)


def keys_like(data: Any, like: Any) -> PRNGKey:
    """Wraps key data as keys with the implementation of ``like``.

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
    """Makes random numbers in the block independent of JAX's global settings.

    In this thread, the default generator becomes `PRNG_IMPLEMENTATION` and threefry becomes
    partitionable, JAX's default since version 0.5.
    """
    with jax.default_prng_impl(PRNG_IMPLEMENTATION):
        if hasattr(jax, "threefry_partitionable"):  # a future JAX may remove this switch
            with jax.threefry_partitionable(True):
                yield
        else:
            yield
