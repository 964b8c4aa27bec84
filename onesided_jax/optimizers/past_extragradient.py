"""Extragradient from the past around any optax transformation, and its ExtraAdam."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._checks import check_not_masked, check_params
from onesided_jax.optimizers._players import counts_for, merge_players, players_in
from onesided_jax.optimizers._trees import cast_like, per_half_step, select
from onesided_jax.optimizers.adam import adam
from onesided_jax.optimizers.extragradient import EXTRAPOLATION_STATES, half_steps
from onesided_jax.optimizers.registry import register

__all__ = ["PastExtragradientState", "past_extra_adam", "past_extragradient"]


class PastExtragradientState(NamedTuple):
    """State of :func:`past_extragradient`.

    Attributes:
      base: state of the base transformation (of the update half-step).
      extrapolation: state of the extrapolation half-step if ``extrapolation_state="separate"``,
        else ``()``.
      displacement: params minus the iterate: ``z_t = params - displacement``.
      count: int32 scalar, gradients seen; one per player if there are two.
    """

    base: Any
    extrapolation: Any
    displacement: Any
    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]


def past_extragradient(
    base: optax.GradientTransformation,
    *,
    extrapolation_state: Literal["carried", "discarded", "separate"] = "carried",
) -> optax.GradientTransformationExtraArgs:
    r"""Extragradient that looks ahead with the previous gradient: one gradient per step.

    Popov's method. With :math:`B_s` one step of ``base`` from state ``s``:

    .. math::
      \tilde z_t = z_t + B_s(F(\tilde z_{t-1})), \qquad z_{t+1} = z_t + B_{s'}(F(\tilde z_t)),
      \qquad F(\tilde z_0) = F(z_1)

    The params are the extrapolated points :math:`\tilde z_t`, because the next gradient is taken
    there; the iterate is ``params - state.displacement``. The first call only extrapolates. A
    change of the params from outside (a projection, weight clipping) moves the iterate too.
    :func:`optimistic` differs: it uses one direction of ``base`` for both half-steps.

    Args:
      base: any transformation, also of a single player.
      extrapolation_state: as in :func:`extragradient`. ``"carried"``, the choice of Gidel et al.,
        passes every gradient to ``base`` twice: for the update and for the next extrapolation.

    Returns:
      A transformation with ``update(F, state, params, **extra)`` and no ``grad_fn``; extra
      arguments go to ``base``. The state adds one copy of the params.

    Raises:
      ValueError: for an unknown ``extrapolation_state``; from ``update`` if ``params`` is missing,
        or inside ``partition`` or ``masked``.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, past_extragradient
      >>> tx = past_extragradient(optax.sgd(0.3))
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(100):
      ...     F = PrimalDual(players.dual, -players.primal)  # f(x, y) = x * y
      ...     updates, state = tx.update(F, state, players)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Popov, A modification of the Arrow-Hurwicz method for search of saddle points, 1980.
      Gidel et al., `A Variational Inequality Perspective on Generative Adversarial Networks
      <https://arxiv.org/abs/1802.10551>`_, 2019, section 3.2 (extrapolation from the past).
    """
    check_choice("extrapolation_state", extrapolation_state, EXTRAPOLATION_STATES)
    extrapolate, commit = half_steps(base, extrapolation_state)

    def init(params):
        check_not_masked("past_extragradient", params)
        return PastExtragradientState(
            base=base.init(params),
            extrapolation=base.init(params) if extrapolation_state == "separate" else (),
            displacement=jax.tree.map(jnp.zeros_like, params),
            count=counts_for(params),
        )

    def update(updates, state, params=None, **extra_args):
        check_params("past_extragradient", params)
        # The first gradient was taken at z_1, not at a midpoint.
        started = jax.tree.map(lambda count: count > 0, state.count)
        anchor = jax.tree.map(lambda p, d: p - d, params, state.displacement)
        step, committed = commit(updates, state, anchor, extra_args)
        step = jax.tree.map(
            lambda begun, u: jax.tree.map(lambda u: jnp.where(begun, u, 0), u), started, step
        )
        state = state._replace(base=_advanced(started, state.base, committed.base))
        anchor = optax.apply_updates(anchor, step)
        looked, state = extrapolate(updates, state, anchor, extra_args)
        visible = jax.tree.map(lambda u, d, e: (u - d) + e, step, state.displacement, looked)
        displacement = cast_like(looked, state.displacement)
        count = jax.tree.map(optax.safe_increment, state.count)
        return visible, state._replace(displacement=displacement, count=count)

    return optax.GradientTransformationExtraArgs(init, update)


def _advanced(started: Any, base: Any, committed: Any) -> Any:
    """The state of ``base``: ``committed`` for players that have started, else unchanged."""
    players = players_in(started)
    if players is None:
        return select(started, committed, base)
    shared = players.primal | players.dual

    def pick(player, old, new):
        return select(getattr(players, player) if player else shared, new, old)

    return merge_players(pick, base, committed)


@register()
def past_extra_adam(
    primal_learning_rate: Any,
    dual_learning_rate: Any,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """ExtraAdam with extrapolation from the past (Gidel et al.): one gradient per step.

    ``past_extragradient(adam(...))``, except that a schedule counts iterations. Adam's moments
    advance twice per gradient, as in the authors' code.

    Args:
      primal_learning_rate: rate of the primal player; number or schedule, as in :func:`adam`.
      dual_learning_rate: the same for the dual player.
      b1: decay of the first moment in ``[0, 1)``. Momentum on both players makes bilinear games
        unstable for every small rate.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.

    Returns:
      A transformation of ``PrimalDual`` trees, one gradient per step. The params are displaced
      points, see :func:`past_extragradient`.

    Raises:
      ValueError: for a concrete number out of range.

    Example:
      >>> from onesided_jax import past_extra_adam
      >>> tx = past_extra_adam(2e-4, 2e-4, b1=0.0)

    References:
      Gidel et al., `A Variational Inequality Perspective on Generative Adversarial Networks
      <https://arxiv.org/abs/1802.10551>`_, 2019.
    """
    rates = map(per_half_step, (primal_learning_rate, dual_learning_rate))
    return past_extragradient(adam(*rates, b1=b1, b2=b2, eps=eps))
