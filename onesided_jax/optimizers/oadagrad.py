"""Optimistic AdaGrad."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers._players import over_players, two_counts
from onesided_jax.optimizers._trees import (
    abs_squared,
    at_least_single,
    cast_like,
    rate_at,
    single_full,
)
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["OadagradState", "oadagrad"]


class OadagradState(NamedTuple):
    """State of :func:`oadagrad`.

    Attributes:
      count: int32 scalars, gradients seen, one per player.
      sum_of_squares: ``initial_accumulator`` plus the squared gradients; float32 or wider.
      displacement: params minus the iterate: ``z_t = params - displacement``.
    """

    count: PrimalDual  # pyright: ignore[reportIncompatibleMethodOverride]
    sum_of_squares: PrimalDual
    displacement: PrimalDual


@register()
def oadagrad(
    primal_learning_rate: Any,
    dual_learning_rate: Any,
    *,
    eps: Any = 1e-7,
    initial_accumulator: Any = 0.1,
) -> optax.GradientTransformationExtraArgs:
    r"""Optimistic AdaGrad: extrapolation from the past with AdaGrad's preconditioner.

    .. math::
      H_t = \epsilon + \Big(a + \sum_{s<t} \tilde g_s^2\Big)^{1/2}, \qquad
      \tilde z_t = z_t - \eta_t \tilde g_{t-1} / H_t, \qquad
      z_{t+1} = z_t - \eta_t \tilde g_t / H_t, \qquad \tilde g_0 = 0

    The params are the extrapolated points :math:`\tilde z_t`. The index convention of :math:`H` is
    our reading of the paper; the initial sum is optax's.

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same for the dual player.
      eps: added outside the root.
      initial_accumulator: :math:`a \ge 0`, of the order of a typical squared gradient. The first
        steps have length ``rate * |g| / sqrt(a)``, and long steps diverge on rotating games.

    Returns:
      A transformation of ``PrimalDual`` trees, one gradient per step, no ``grad_fn``. The state
      holds two copies of the players.

    Raises:
      ValueError: for a concrete number out of range.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, oadagrad
      >>> tx = oadagrad(1.0, 1.0, initial_accumulator=4.0)
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(200):
      ...     F = PrimalDual(players.dual, -players.primal)  # f(x, y) = x * y
      ...     updates, state = tx.update(F, state, players)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Liu et al., `Towards Better Understanding of Adaptive Gradient Algorithms in Generative
      Adversarial Nets <https://arxiv.org/abs/1912.11940>`_, 2020.
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate,
        dual_learning_rate=dual_learning_rate,
        eps=eps,
        initial_accumulator=initial_accumulator,
    )
    rates = PrimalDual(primal_learning_rate, dual_learning_rate)

    def half_step(gradients, sum_of_squares, iterations):
        def player(gradient, total, rate, iteration):
            rate = rate_at(rate, iteration)
            return jax.tree.map(
                lambda g, s: (
                    -jnp.asarray(rate, s.dtype) * g / (jnp.asarray(eps, s.dtype) + jnp.sqrt(s))
                ),
                gradient,
                total,
            )

        return PrimalDual(*map(player, gradients, sum_of_squares, rates, iterations))

    def init(params):
        return OadagradState(
            count=two_counts(),
            sum_of_squares=single_full(params, initial_accumulator),
            displacement=jax.tree.map(jnp.zeros_like, params),
        )

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        next_count = PrimalDual(*map(optax.safe_increment, state.count))
        squares = jax.tree.map(abs_squared, at_least_single(updates))
        total = jax.tree.map(jnp.add, state.sum_of_squares, squares)
        step = cast_like(half_step(updates, state.sum_of_squares, state.count), state.displacement)
        looked = cast_like(half_step(updates, total, next_count), state.displacement)
        visible = jax.tree.map(lambda u, d, e: (u - d) + e, step, state.displacement, looked)
        return visible, OadagradState(next_count, total, looked)

    return over_players("oadagrad", optax.GradientTransformationExtraArgs(init, update))
