"""Tree arithmetic that keeps the dtype of the first operand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = [
    "abs_squared",
    "add",
    "at_least_single",
    "cast_like",
    "copy",
    "per_half_step",
    "rate_at",
    "select",
]


def abs_squared(a: Any) -> Any:
    """Squared modulus, entry by entry; real."""
    return (a * jnp.conj(a)).real if jnp.iscomplexobj(a) else a * a


def add(params: Any, updates: Any) -> Any:
    """``params + updates`` in the dtypes of ``params``."""
    return optax.apply_updates(params, updates)


def cast_like(tree: Any, like: Any) -> Any:
    """``tree`` in the dtypes of ``like``."""
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.result_type(b)), tree, like)


def at_least_single(tree: Any) -> Any:
    """Half precision made float32: in bfloat16 0.999 rounds to 1, and long sums stand still."""

    def widened(a):
        return jnp.asarray(a, jnp.promote_types(jnp.result_type(a), jnp.float32))

    return jax.tree.map(widened, tree)


def copy(params: Any) -> Any:
    """Fresh buffers: state that shared them with ``params`` could not be donated beside them."""
    return jax.tree.map(lambda p: jnp.array(p, copy=True), params)


def select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """Leaf by leaf, in the dtypes of ``if_false``."""
    return jax.tree.map(
        lambda a, b: jnp.where(condition, a, b), cast_like(if_true, if_false), if_false
    )


def rate_at(rate: Any, count: Any) -> Any:
    """The value of a number or of a schedule."""
    return rate(count) if callable(rate) else rate


def per_half_step(rate: Any) -> Any:
    """A schedule of the iteration for a state that counts half-steps, two to the iteration."""
    return (lambda count: rate(count // 2)) if callable(rate) else rate
