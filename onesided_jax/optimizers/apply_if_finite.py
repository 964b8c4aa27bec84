"""Skips a step in which any evaluation, point or update is not finite."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_count
from onesided_jax.optimizers._trees import select
from onesided_jax.optimizers.extra_args import with_extra_args

__all__ = ["ApplyIfFiniteState", "apply_if_finite"]


class ApplyIfFiniteState(NamedTuple):
    """State of :func:`apply_if_finite`.

    Attributes:
      inner_state: state of the wrapped optimizer.
      notfinite_count: int32 scalar, bad steps since the last good one, skipped or applied, as in
        optax. Above ``max_consecutive_errors`` the last bad step was applied.
      total_notfinite: int32 scalar, all bad steps, skipped or applied.
    """

    inner_state: Any
    notfinite_count: Any
    total_notfinite: Any


def apply_if_finite(
    inner: optax.GradientTransformation, max_consecutive_errors: int
) -> optax.GradientTransformationExtraArgs:
    """``optax.apply_if_finite`` that also checks the further evaluations of a step.

    optax checks the incoming gradient only. Here a NaN or infinity in the incoming field, in the
    arguments or results of ``grad_fn``, or in the updates skips the step: zero updates, and the
    state of ``inner`` unchanged.

    Args:
      inner: any transformation, of one player or of both.
      max_consecutive_errors: number of steps in a row that may be skipped, ``>= 1``. The next bad
        step is applied, as in optax, so that a lost run becomes visible.

    Returns:
      A transformation; extra arguments go to ``inner``.

    Raises:
      ValueError: if ``max_consecutive_errors`` is not an integer ``>= 1``.

    Example:
      >>> import jax.numpy as jnp
      >>> from onesided_jax import PrimalDual, apply_if_finite, extra_sgd
      >>> tx = apply_if_finite(extra_sgd(0.1, 0.1), max_consecutive_errors=3)
      >>> players = PrimalDual(1.0, 1.0)
      >>> def log_field(z, i):  # log(x) leaves its domain at the midpoint
      ...     return PrimalDual(jnp.log(z.primal), z.dual)
      >>> F = PrimalDual(20.0, 0.0)
      >>> updates, state = tx.update(F, tx.init(players), players, grad_fn=log_field)
      >>> float(updates.primal), int(state.total_notfinite)
      (0.0, 1)
    """
    check_count("max_consecutive_errors", max_consecutive_errors)
    inner = with_extra_args(inner)

    def init(params):
        counts = (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
        return ApplyIfFiniteState(inner.init(params), *counts)

    def update(updates, state, params=None, **extra_args):
        grad_fn = extra_args.get("grad_fn")
        if grad_fn is not None:
            extra_args["grad_fn"] = functools.partial(_poisoned, grad_fn)
        step, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        good = _all_finite((updates, step))
        count = jnp.where(good, 0, optax.safe_increment(state.notfinite_count))
        accept = good | (count > max_consecutive_errors)
        total = jnp.where(good, state.total_notfinite, optax.safe_increment(state.total_notfinite))
        # A select, not a cond: under vmap a cond becomes a select, and the step is computed anyway.
        step = jax.tree.map(lambda u: jnp.where(accept, u, 0), step)
        return step, ApplyIfFiniteState(
            select(accept, inner_state, state.inner_state), count, total
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _poisoned(grad_fn, params, i):
    """The field at ``params``, all NaN if either is not finite, so that the updates are too."""
    field = grad_fn(params, i)
    good = _all_finite((params, field))
    return jax.tree.map(lambda g: jnp.where(good, g, jnp.nan), field)


def _all_finite(tree: Any) -> jax.Array:
    finite = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    return functools.reduce(jnp.logical_and, finite, jnp.array(True))
