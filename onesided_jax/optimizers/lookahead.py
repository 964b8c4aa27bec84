"""Lookahead-minmax around any optax transformation, and Lookahead Adam."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_count, check_hyperparameters, check_params
from onesided_jax.optimizers._players import counts_for
from onesided_jax.optimizers._trees import copy
from onesided_jax.optimizers.adam import adam
from onesided_jax.optimizers.extra_args import with_extra_args
from onesided_jax.optimizers.extragradient import ExtragradientState
from onesided_jax.optimizers.registry import register

__all__ = ["LookaheadMinmaxState", "lookahead_adam", "lookahead_minmax"]


class LookaheadMinmaxState(NamedTuple):
    """State of :func:`lookahead_minmax`.

    Attributes:
      base: state of the base transformation.
      slow: the slow players, structure of the params.
      since_sync: int32 scalar, base steps since the last pull; one per player if there are two.
        Both players are pulled together, when the smaller count reaches ``sync_period``.
    """

    base: Any
    slow: Any
    since_sync: Any


def lookahead_minmax(
    base: optax.GradientTransformation, sync_period: int = 5, slow_step_size: Any = 0.5
) -> optax.GradientTransformationExtraArgs:
    r"""Pulls both players back towards their position ``sync_period`` steps ago.

    After every :math:`k` steps of ``base``,
    :math:`s \leftarrow s + \alpha (z - s),\ z \leftarrow s`. This damps the rotation of a game for
    any ``base``, whose state is not reset. The params are the fast players; after every
    :math:`k`-th step they equal the slow ones. ``optax.lookahead`` differs: it keeps both in the
    params, and passes no ``grad_fn`` to its base.

    Args:
      base: any transformation, also :func:`extragradient`, also of a single player.
      sync_period: :math:`k`, base steps between two pulls, ``>= 1``. For an extragradient method
        with ``opaque_mode=False`` it counts half-steps and must be even.
      slow_step_size: :math:`\alpha` in ``[0, 1]``; float, scalar array or tracer.

    Returns:
      A transformation with ``update(F, state, params, **extra)``; extra arguments go to ``base``.
      The state adds one copy of the params.

    Raises:
      ValueError: for a number out of range; from ``init`` for an odd number of half-steps, because
        the next half-step would undo the pull; from ``update`` if ``params`` is missing.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, lookahead_minmax
      >>> tx = lookahead_minmax(optax.sgd(0.3), sync_period=5)
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(200):
      ...     F = PrimalDual(players.dual, -players.primal)  # f(x, y) = x * y
      ...     updates, state = tx.update(F, state, players)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Chavdarova et al., `Taming GANs with Lookahead-Minmax <https://arxiv.org/abs/2006.14567>`_,
      2021, Algorithm 1.
    """
    check_count("sync_period", sync_period)
    check_hyperparameters(slow_step_size=slow_step_size)
    base = with_extra_args(base)

    def init(params):
        check_params("lookahead_minmax", params)
        state = base.init(params)
        if sync_period % 2 and _counts_half_steps(state):
            raise ValueError(
                f"sync_period={sync_period}: expected an even number around an extragradient "
                "method with opaque_mode=False, because each iteration has two half-steps"
            )
        return LookaheadMinmaxState(state, copy(params), counts_for(params))

    def update(updates, state, params=None, **extra_args):
        check_params("lookahead_minmax", params)
        step, base_state = base.update(updates, state.base, params, **extra_args)
        since_sync = jax.tree.map(lambda count: count + 1, state.since_sync)
        sync = functools.reduce(jnp.minimum, jax.tree.leaves(since_sync)) == sync_period

        def pulled(p, u, s):
            return s + jnp.asarray(slow_step_size, s.dtype) * jnp.asarray(p + u - s, s.dtype)

        slow = jax.tree.map(
            lambda p, u, s: jnp.where(sync, pulled(p, u, s), s), params, step, state.slow
        )
        step = jax.tree.map(
            lambda p, u, s: jnp.where(sync, jnp.asarray(s - p, jnp.result_type(u)), u),
            params,
            step,
            slow,
        )
        since_sync = jax.tree.map(lambda count: jnp.where(sync, 0, count), since_sync)
        return step, LookaheadMinmaxState(base_state, slow, since_sync)

    return optax.GradientTransformationExtraArgs(init, update)


def _counts_half_steps(state: Any) -> bool:
    """Whether ``state`` contains the state of an extragradient method in transparent mode."""

    def transparent(part):
        return isinstance(part, ExtragradientState) and not isinstance(part.phase, tuple)

    return any(map(transparent, jax.tree.leaves(state, is_leaf=transparent)))


@register()
def lookahead_adam(
    primal_learning_rate: Any,
    dual_learning_rate: Any,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    sync_period: int = 5,
    slow_step_size: Any = 0.5,
) -> optax.GradientTransformationExtraArgs:
    """Lookahead-minmax around simultaneous Adam: ``lookahead_minmax(adam(...), ...)``.

    Args:
      primal_learning_rate: rate of the primal player; number or schedule, as in :func:`adam`.
      dual_learning_rate: the same for the dual player.
      b1: decay of the first moment in ``[0, 1)``.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.
      sync_period: Adam steps between two pulls, ``>= 1``.
      slow_step_size: step of the slow players towards the fast ones, in ``[0, 1]``.

    Returns:
      A transformation of ``PrimalDual`` trees, one gradient per step.

    Raises:
      ValueError: for a concrete number out of range.

    Example:
      >>> from onesided_jax import lookahead_adam
      >>> tx = lookahead_adam(2e-4, 2e-4, b1=0.5, sync_period=5)

    References:
      Chavdarova et al., `Taming GANs with Lookahead-Minmax <https://arxiv.org/abs/2006.14567>`_,
      2021.
    """
    base = adam(primal_learning_rate, dual_learning_rate, b1=b1, b2=b2, eps=eps)
    return lookahead_minmax(base, sync_period, slow_step_size)
