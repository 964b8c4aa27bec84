"""Tree arithmetic with explicit dtypes."""

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
    "kept_dtypes",
    "per_half_step",
    "rate_at",
    "select",
    "single_full",
    "single_zeros",
]


def abs_squared(a: Any) -> Any:
    """Elementwise squared modulus; real."""
    return (a * jnp.conj(a)).real if jnp.iscomplexobj(a) else a * a


def add(params: Any, updates: Any) -> Any:
    """``params + updates`` in the dtypes of ``params``."""
    return optax.apply_updates(params, updates)


def cast_like(tree: Any, like: Any) -> Any:
    """``tree`` in the dtypes of ``like``."""
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.result_type(b)), tree, like)


def at_least_single(tree: Any) -> Any:
    """Half precision to float32: in bfloat16 0.999 rounds to 1, and long sums stop growing."""
    return jax.tree.map(lambda a: jnp.asarray(a, _single(a)), tree)


def single_zeros(params: Any) -> Any:
    """Zeros for the moments of ``params`` (may be abstract), float32 or wider."""
    return jax.tree.map(lambda p: jnp.zeros_like(p, _single(p)), params)


def single_full(params: Any, value: Any) -> Any:
    """As :func:`single_zeros`, filled with ``value``."""
    return jax.tree.map(lambda p: jnp.full_like(p, value, _single(p)), params)


def _single(a: Any) -> Any:
    return jnp.promote_types(jnp.result_type(a), jnp.float32)


def kept_dtypes(state: Any, before: Any) -> Any:
    """``state`` in the dtypes of ``before``, so that a scan can carry it."""
    if jax.tree.structure(state) != jax.tree.structure(before):
        return state

    def kept(a, b):
        return a if jnp.result_type(a) == jnp.result_type(b) else jnp.asarray(a, b.dtype)

    return jax.tree.map(kept, state, before)


def copy(params: Any) -> Any:
    """Copies the params, so that state and params can both be donated; abstract leaves stay."""

    def copied(p):
        return p if isinstance(p, jax.ShapeDtypeStruct) else jnp.array(p, copy=True)

    return jax.tree.map(copied, params)


def select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """``jnp.where`` leaf by leaf, in the dtypes of ``if_false``."""
    return jax.tree.map(
        lambda a, b: jnp.where(condition, a, b), cast_like(if_true, if_false), if_false
    )


def rate_at(rate: Any, count: Any) -> Any:
    """The rate at step ``count``; ``rate`` is a number or a schedule."""
    return rate(count) if callable(rate) else rate


def per_half_step(rate: Any) -> Any:
    """Converts a schedule of iterations for a state that counts half-steps, two per iteration."""
    return (lambda count: rate(count // 2)) if callable(rate) else rate
