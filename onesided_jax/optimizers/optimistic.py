"""Optimistic gradient around any optax transformation, and Optimistic Adam."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._players import counts_for
from onesided_jax.optimizers._trees import cast_like, select
from onesided_jax.optimizers.adam import adam
from onesided_jax.optimizers.extra_args import with_extra_args
from onesided_jax.optimizers.registry import register

__all__ = ["OptimisticState", "optimistic", "optimistic_adam"]


class OptimisticState(NamedTuple):
    """State of :func:`optimistic`.

    Attributes:
      base: state of the base transformation.
      previous: the last update of ``base``.
      count: int32 scalar, steps done; one per player if there are two.
    """

    base: Any
    previous: Any
    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]


def optimistic(
    base: optax.GradientTransformation, *, first_step: Literal["repeat", "zero"] = "repeat"
) -> optax.GradientTransformationExtraArgs:
    r"""Takes twice the step of ``base`` and subtracts its previous step.

    With :math:`u_t` the update of ``base``, learning rate included:

    .. math::
      z_{t+1} = z_t + 2 u_t - u_{t-1}

    * *First step.* ``"repeat"`` takes :math:`u_0 = u_1`, a plain step of ``base``, as optax does
      since its issue 1082. ``"zero"`` takes :math:`u_0 = 0`, a double step, as in the code of Gidel
      et al.
    * *Schedules.* The subtracted step has the rate with which it was made. So the steps telescope:
      :math:`z_{t+1} = z_t' + u_t` for an iterate :math:`z'` that moves by :math:`u_t`.
      ``optax.optimistic_adam_v2`` multiplies :math:`2 d_t - d_{t-1}` by the current rate, so under
      a decaying rate it subtracts too little. It also uses Nesterov momentum by default, which
      Daskalakis et al. do not.

    Args:
      base: any transformation, also of a single player. If it uses the params (weight decay, a
        constraint), it gets the iterate :math:`z'`.
      first_step: choice of :math:`u_0`, see above.

    Returns:
      A transformation with ``update(F, state, params, **extra)``, one gradient per step; extra
      arguments go to ``base``. The state adds one copy of the params.

    Raises:
      ValueError: for an unknown ``first_step``.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, optimistic
      >>> tx = optimistic(optax.sgd(0.3))
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(100):
      ...     F = PrimalDual(players.dual, -players.primal)  # f(x, y) = x * y
      ...     updates, state = tx.update(F, state, players)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Daskalakis et al., `Training GANs with Optimism <https://arxiv.org/abs/1711.00141>`_, 2018.
    """
    check_choice("first_step", first_step, ("repeat", "zero"))
    base = with_extra_args(base)

    def init(params):
        return OptimisticState(
            base=base.init(params),
            previous=jax.tree.map(jnp.zeros_like, params),
            count=counts_for(params),
        )

    def update(updates, state, params=None, **extra_args):
        iterate = params
        if params is not None:
            iterate = jax.tree.map(lambda p, u: p - u, params, state.previous)
        step, base_state = base.update(updates, state.base, iterate, **extra_args)
        previous = state.previous
        if first_step == "repeat":
            previous = jax.tree.map(
                lambda count, u, p: select(count == 0, u, p), state.count, step, previous
            )
        forward = jax.tree.map(lambda u, p: 2 * u - p, step, previous)
        kept = cast_like(step, state.previous)
        count = jax.tree.map(optax.safe_increment, state.count)
        return forward, OptimisticState(base_state, kept, count)

    return optax.GradientTransformationExtraArgs(init, update)


@register()
def optimistic_adam(
    primal_learning_rate: Any,
    dual_learning_rate: Any,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    first_step: Literal["repeat", "zero"] = "repeat",
) -> optax.GradientTransformationExtraArgs:
    """Optimistic Adam (Daskalakis et al.): ``optimistic(adam(...))``.

    Args:
      primal_learning_rate: rate of the primal player; number or schedule, as in :func:`adam`.
      dual_learning_rate: the same for the dual player.
      b1: decay of the first moment in ``[0, 1)``. Above about 1/3 on both players it makes bilinear
        games unstable for every small rate.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.
      first_step: ``"repeat"`` or ``"zero"``. See :func:`optimistic`, also for the differences from
        ``optax.optimistic_adam_v2``.

    Returns:
      A transformation of ``PrimalDual`` trees, one gradient per step.

    Raises:
      ValueError: for a concrete number out of range or an unknown ``first_step``.

    Example:
      >>> from onesided_jax import optimistic_adam
      >>> tx = optimistic_adam(2e-4, 2e-4, b1=0.0)

    References:
      Daskalakis et al., `Training GANs with Optimism <https://arxiv.org/abs/1711.00141>`_, 2018,
      Algorithm 1.
    """
    base = adam(primal_learning_rate, dual_learning_rate, b1=b1, b2=b2, eps=eps)
    return optimistic(base, first_step=first_step)
