"""TiAda: AdaGrad for both players; large dual gradients also slow the primal."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers._players import over_players, two_counts
from onesided_jax.optimizers._trees import abs_squared, at_least_single, rate_at
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["TiadaState", "tiada"]


class TiadaState(NamedTuple):
    """State of :func:`tiada`.

    Attributes:
      count: int32 scalars, gradients seen, one per player.
      sum_of_squares: two scalars, ``initial_accumulator`` plus the squared norms of the gradients;
        float32 or wider.
    """

    count: PrimalDual  # pyright: ignore[reportIncompatibleMethodOverride]
    sum_of_squares: PrimalDual


@register(slows_down=lambda settings: True)
def tiada(
    primal_learning_rate: Any,
    dual_learning_rate: Any,
    *,
    primal_power: Any = 0.6,
    dual_power: Any = 0.4,
    initial_accumulator: Any = 0.1,
) -> optax.GradientTransformationExtraArgs:
    r"""TiAda: adapts the time-scale separation of the two players by itself.

    .. math::
      v^x_{t+1} = v^x_t + \|F_x(z_t)\|^2, \qquad v^y_{t+1} = v^y_t + \|F_y(z_t)\|^2, \\
      x_{t+1} = x_t - \frac{\eta_x}{\max(v^x_{t+1}, v^y_{t+1})^\alpha} F_x(z_t), \qquad
      y_{t+1} = y_t - \frac{\eta_y}{(v^y_{t+1})^\beta} F_y(z_t)

    The sums are scalars, one per player, as in the paper's Algorithm 1. While the dual's gradients
    are large, the maximum slows the primal down; later :math:`\alpha > \beta` keeps it slower. This
    rule lowers both rates during the run, so a falling gradient alone is no evidence of
    convergence.

    Args:
      primal_learning_rate: :math:`\eta_x`, non-negative float, scalar array, tracer, or schedule of
        the iteration.
      dual_learning_rate: :math:`\eta_y`, the same for the dual player.
      primal_power: :math:`\alpha` in ``[0, 1)``; the theorems need :math:`\beta < \alpha`.
      dual_power: :math:`\beta` in ``[0, 1)``.
      initial_accumulator: :math:`v_0 \ge 0`, the start of both sums, of the order of a typical
        squared gradient norm. 0 causes a division by 0 if the first gradient is 0.

    Returns:
      A transformation of ``PrimalDual`` trees, one gradient per step, no ``grad_fn``. Its moments
      are two scalars. Wrap it in :func:`projected` for the paper's projection of the dual.

    Raises:
      ValueError: for a concrete number out of range.

    Example:
      >>> from onesided_jax import PrimalDual, tiada
      >>> tx = tiada(1.0, 1.0, primal_power=0.5, dual_power=0.25, initial_accumulator=0.0)
      >>> players = PrimalDual(0.0, 0.0)
      >>> updates, _ = tx.update(PrimalDual(2.0, -16.0), tx.init(players), players)
      >>> [float(u) for u in updates]  # -2 / max(4, 256)^(1/2) and 16 / 256^(1/4)
      [-0.125, 4.0]

    References:
      Li, Yang & He, `TiAda: A Time-scale Adaptive Algorithm for Nonconvex Minimax Optimization
      <https://arxiv.org/abs/2210.17478>`_, 2023, Algorithm 1.
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate,
        dual_learning_rate=dual_learning_rate,
        primal_power=primal_power,
        dual_power=dual_power,
        initial_accumulator=initial_accumulator,
    )

    def init(params):
        # A placeholder of optax.tree_map_params is no pair; the sums do not have params' shapes.
        players = params if isinstance(params, PrimalDual) else (0.0, 0.0)
        start = (jnp.array(initial_accumulator, _dtype_of(player)) for player in players)
        return TiadaState(two_counts(), PrimalDual(*start))

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        total = PrimalDual(
            *(s + jnp.asarray(_squared_norm(g), s.dtype) for s, g in zip(state[1], updates))
        )
        slow = jnp.maximum(*(jnp.asarray(s, jnp.result_type(*total)) for s in total))
        step = PrimalDual(
            _step(updates.primal, primal_learning_rate, state.count.primal, slow, primal_power),
            _step(updates.dual, dual_learning_rate, state.count.dual, total.dual, dual_power),
        )
        count = PrimalDual(*map(optax.safe_increment, state.count))
        return step, TiadaState(count, total)

    return over_players("tiada", optax.GradientTransformationExtraArgs(init, update))


def _step(gradient: Any, rate: Any, count: Any, total: Any, power: Any) -> Any:
    rate = jnp.asarray(rate_at(rate, count), total.dtype)
    scale = rate * total ** -jnp.asarray(power, total.dtype)
    return jax.tree.map(lambda g: -scale * g, gradient)


def _squared_norm(gradient: Any) -> Any:
    squares = jax.tree.map(abs_squared, at_least_single(gradient))
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(squares))


def _dtype_of(player: Any) -> Any:
    """Dtype for the sum of a player's squares: real, float32 or wider."""
    leaves = [jnp.real(jnp.zeros((), jnp.result_type(leaf))) for leaf in jax.tree.leaves(player)]
    return jnp.result_type(jnp.float32, *leaves)
