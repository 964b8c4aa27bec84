"""Alternating descent-ascent with gradients at extrapolated points."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_hyperparameters, checked_grad_fn
from onesided_jax.optimizers._players import over_players
from onesided_jax.optimizers._trees import add, cast_like
from onesided_jax.optimizers.alternating import AlternatingState, alternating
from onesided_jax.optimizers.extra_args import with_extra_args
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["AlexState", "alex_gda", "alternating_extrapolation"]


class AlexState(NamedTuple):
    r"""State of :func:`alternating_extrapolation`.

    Attributes:
      players: states of both players' transformations.
      displacement: dual params minus the dual iterate, :math:`\tilde y_t - y_t`; the primal entry
        is ``optax.MaskedNode()``.
    """

    players: AlternatingState
    displacement: PrimalDual


def alternating_extrapolation(
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation,
    *,
    gamma: Any = 1.0,
    delta: Any = 2.0,
) -> optax.GradientTransformationExtraArgs:
    r"""The primal steps first, then the dual; each sees the other's extrapolated point.

    .. math::
      x_{t+1} = x_t + \mathrm{primal}(F_x(x_t, \tilde y_t)), \qquad
      \tilde x_{t+1} = x_t + \gamma (x_{t+1} - x_t), \\
      y_{t+1} = y_t + \mathrm{dual}(F_y(\tilde x_{t+1}, y_t)), \qquad
      \tilde y_{t+1} = y_t + \delta (y_{t+1} - y_t)

    ``gamma=0, delta=1`` is simultaneous descent-ascent, ``gamma=1, delta=1`` is alternating
    descent-ascent, and ``gamma=1, delta=2`` is the primal-dual method of Chambolle and Pock without
    proximal steps. On bilinear games only the last one converges.

    The dual params hold :math:`\tilde y_t`, because the primal's next gradient is taken there;
    :func:`iterate` returns :math:`y_t`. In the authors' code for GANs the discriminator steps
    first, and the names are swapped.

    Args:
      primal: transformation of the min player's part.
      dual: transformation of the max player's part.
      gamma: :math:`\gamma \ge 0`, extrapolation of the primal; float, scalar array or tracer.
      delta: :math:`\delta \ge 0`, extrapolation of the dual; the same types.

    Returns:
      A transformation of ``PrimalDual`` trees with ``update(F, state, params, *, grad_fn)``. It
      evaluates the field twice and uses one player's half of each. The state adds one copy of the
      dual player to the states of both transformations.

    Raises:
      ValueError: for a concrete number out of range; from ``update`` if ``params`` or ``grad_fn``
        is missing or the players are not a pair.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, alternating_extrapolation
      >>> field = lambda z, i: PrimalDual(z.dual, -z.primal)  # f(x, y) = x * y
      >>> tx = alternating_extrapolation(optax.sgd(0.5), optax.sgd(0.5))
      >>> players = PrimalDual(1.0, 1.0)
      >>> updates, _ = tx.update(field(players, 0), tx.init(players), players, grad_fn=field)
      >>> [float(u) for u in updates]  # y steps at x = 0.5, then extrapolates by another step
      [-0.5, 0.5]

    References:
      Lee, Cho & Yun, `Fundamental Benefit of Alternating Updates in Minimax Optimization
      <https://arxiv.org/abs/2402.10475>`_, 2024.
      Chambolle & Pock, A first-order primal-dual algorithm for convex problems, 2011.
    """
    check_hyperparameters(gamma=gamma, delta=delta)
    states: Any = alternating(primal, dual).init
    primal, dual = with_extra_args(primal), with_extra_args(dual)

    def init(params):
        nothing = params  # unless it is a placeholder of optax.tree_map_params
        if isinstance(params, PrimalDual):
            nothing = jax.tree.map(jnp.zeros_like, params.dual)
        return AlexState(states(params), PrimalDual(optax.MaskedNode(), nothing))

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        grad_fn = checked_grad_fn("alternating_extrapolation", updates, params, grad_fn)
        assert params is not None
        x, shift = params.primal, state.displacement.dual
        y = jax.tree.map(lambda seen, d: seen - d, params.dual, shift)
        step, primal_state = primal.update(updates.primal, state.players.primal, x, **extra_args)
        field = grad_fn(PrimalDual(add(x, _scaled(gamma, step)), y), 0)
        answer, dual_state = dual.update(field.dual, state.players.dual, y, **extra_args)
        ahead = cast_like(_scaled(delta - 1, answer), shift)
        seen = jax.tree.map(lambda u, d, e: (u - d) + e, answer, shift, ahead)
        players = AlternatingState(primal_state, dual_state)
        displacement = PrimalDual(optax.MaskedNode(), ahead)
        return PrimalDual(step, seen), AlexState(players, displacement)

    return over_players(
        "alternating_extrapolation", optax.GradientTransformationExtraArgs(init, update)
    )


def _scaled(factor: Any, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(factor, jnp.result_type(leaf)) * leaf, tree)


@register(looks_ahead=True)
def alex_gda(
    primal_learning_rate: Any, dual_learning_rate: Any, *, gamma: Any = 1.0, delta: Any = 2.0
) -> optax.GradientTransformationExtraArgs:
    r"""Alex-GDA: ``alternating_extrapolation(optax.sgd(...), optax.sgd(...))``.

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same for the dual player.
      gamma: :math:`\gamma \ge 0`, extrapolation of the primal; float, scalar array or tracer.
      delta: :math:`\delta \ge 0`, extrapolation of the dual; the same types. Our default, 2,
        converges on bilinear games if the product of both rates and the squared norm of the matrix
        is below 1.

    Returns:
      A transformation of ``PrimalDual`` trees with ``update(F, state, params, *, grad_fn)``.

    Raises:
      ValueError: for a concrete number out of range; see also :func:`alternating_extrapolation`.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, alex_gda
      >>> field = lambda z, i: PrimalDual(z.dual, -z.primal)  # f(x, y) = x * y
      >>> tx = alex_gda(0.5, 0.5)
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(60):
      ...     updates, state = tx.update(field(players, 0), state, players, grad_fn=field)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Lee, Cho & Yun, `Fundamental Benefit of Alternating Updates in Minimax Optimization
      <https://arxiv.org/abs/2402.10475>`_, 2024.
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate, dual_learning_rate=dual_learning_rate
    )
    players = optax.sgd(primal_learning_rate), optax.sgd(dual_learning_rate)
    return alternating_extrapolation(*players, gamma=gamma, delta=delta)
