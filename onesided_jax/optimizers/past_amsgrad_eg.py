"""AMSGrad extragradient from the past: one gradient per step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers import _second_moment
from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers._players import over_players
from onesided_jax.optimizers._second_moment import CONVENTIONS, Convention, SecondMoment
from onesided_jax.optimizers._trees import cast_like, rate_at
from onesided_jax.optimizers.iteration import (
    Iteration,
    Method,
    amsgrad_floor,
    amsgrad_preconditioner,
    float64,
    rates_at,
)
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["PastAmsgradEgState", "past_amsgrad_eg"]

Rate = Any  # float, scalar array, tracer, or optax schedule of the iteration count


class PastAmsgradEgState(NamedTuple):
    """State of :func:`past_amsgrad_eg`.

    Attributes:
      count: int32 scalars, gradients seen, one per player.
      nu: second moment of the gradients, float32 or wider.
      nu_max: running maximum of ``nu`` (in "optax", with its bias corrected).
      displacement: params minus the iterate: ``z_t = params - displacement``.
    """

    count: PrimalDual  # pyright: ignore[reportIncompatibleMethodOverride]
    nu: PrimalDual
    nu_max: PrimalDual
    displacement: PrimalDual


def _read(opt_state, field, count, settings):
    del field
    scale = amsgrad_preconditioner(opt_state.count, opt_state.nu_max, settings)
    return Iteration(scale, rates_at(settings, count), float64(opt_state.displacement))


@register(method=Method("past", amsgrad_floor, _read))
def past_amsgrad_eg(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b2: Any = 0.99,
    eps: Any = 1e-3,
    dual_eps: Any = None,
    convention: Convention = "optax",
    initial_accumulator: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSGrad extragradient that extrapolates with the last iteration's gradient.

    One gradient per step; :func:`amsgrad_eg` needs two. The preconditioner :math:`h_t` contains the
    gradients up to :math:`\tilde g_{t-1}` and serves both half-steps:

    .. math::
      \tilde z_t = z_t - \eta_t \tilde g_{t-1} / h_t, \qquad
      \tilde g_t = F(\tilde z_t), \qquad
      z_{t+1} = z_t - \eta_t \tilde g_t / h_t, \qquad \tilde g_0 = F(z_1)

    The params are the extrapolated points :math:`\tilde z_t`. Under the one-sided MVI and
    :math:`\eta \le \epsilon / (2 \sqrt 2 L_x)` the primal gradient goes to zero if the dual's
    *movement* does (our Theorem 7). So decay the dual rate itself. Decaying only the dual's
    extrapolation, as :func:`amsgrad_eg_drd` can, is not enough here.

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same for the dual, e.g. :func:`dual_rate_decay`.
      b2: decay of the second moment, in ``[0, 1)``.
      eps: added outside the root, the theory's :math:`\delta`, ``> 0``.
      dual_eps: ``eps`` for the dual; ``None`` takes ``eps``.
      convention: as in :func:`amsgrad_eg`.
      initial_accumulator: :math:`\hat\nu_0 \ge 0`.

    Returns:
      A transformation of ``PrimalDual`` trees, one gradient per step, no ``grad_fn``; the first
      call only extrapolates. The state holds three copies of the players.

    Raises:
      ValueError: for a concrete number out of range, an unknown convention, or no params.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, past_amsgrad_eg
      >>> tx = past_amsgrad_eg(0.5, 0.5, eps=0.5)
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(200):
      ...     F = PrimalDual(players.dual, -players.primal)  # f(x, y) = x * y
      ...     updates, state = tx.update(F, state, players)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Popov, A modification of the Arrow-Hurwicz method for search of saddle points, 1980; the
      combination with AMSGrad and its proof are ours (docs/theory).
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate,
        dual_learning_rate=dual_learning_rate,
        b2=b2,
        eps=eps,
        dual_eps=dual_eps,
        initial_accumulator=initial_accumulator,
    )
    check_choice("convention", convention, CONVENTIONS)
    epsilons = PrimalDual(eps, eps if dual_eps is None else dual_eps)
    rates = PrimalDual(primal_learning_rate, dual_learning_rate)

    def half_step(gradients, moment, iterations):
        def player(gradient, count, nu_max, eps, rate, iteration):
            h = _second_moment.preconditioner(count, nu_max, eps, b2, convention)
            rate = rate_at(rate, iteration)
            return jax.tree.map(lambda g, h: -jnp.asarray(rate, h.dtype) * g / h, gradient, h)

        seen = (moment.count, moment.nu_max)
        return PrimalDual(*map(player, gradients, *seen, epsilons, rates, iterations))

    def init(params):
        moment = _second_moment.init(params, initial_accumulator)
        return PastAmsgradEgState(*moment, displacement=jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None, **extra_args):
        del params, extra_args
        moment = SecondMoment(state.count, state.nu, state.nu_max)
        before = PrimalDual(*(jnp.maximum(count - 1, 0) for count in state.count))
        step = cast_like(half_step(updates, moment, before), state.displacement)
        new = _second_moment.advance(moment, updates, b2, convention)
        looked = cast_like(half_step(updates, new, state.count), state.displacement)

        def visible(count, displacement, step, looked):
            started = count > 0  # the first gradient was taken at z_1, not at a midpoint
            return jax.tree.map(
                lambda d, u, e: (jnp.where(started, u, 0) - d) + e, displacement, step, looked
            )

        moved = PrimalDual(*map(visible, state.count, state.displacement, step, looked))
        return moved, PastAmsgradEgState(*new, displacement=looked)

    return over_players("past_amsgrad_eg", optax.GradientTransformationExtraArgs(init, update))
