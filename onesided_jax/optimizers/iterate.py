"""The iterate of optimizers whose params are displaced points."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from onesided_jax.optimizers.alex_gda import AlexState
from onesided_jax.optimizers.oadagrad import OadagradState
from onesided_jax.optimizers.optimistic import OptimisticState
from onesided_jax.optimizers.past_amsgrad_eg import PastAmsgradEgState
from onesided_jax.optimizers.past_extragradient import PastExtragradientState
from onesided_jax.players import PrimalDual

__all__ = ["displaced_states", "iterate", "shift_of", "with_shift"]

_KINDS = (AlexState, OadagradState, OptimisticState, PastAmsgradEgState, PastExtragradientState)


def iterate(opt_state: Any, players: Any) -> Any:
    r"""Returns the iterate :math:`z_t` that belongs to an optimizer's params.

    Methods that extrapolate from the past (``past_*``, ``oadagrad``), ``optimistic`` and
    ``alex_gda`` keep a *displaced* point in the params, because the next gradient is taken there.
    Evaluate, average or plot their iterate instead of the params. For every other optimizer the
    params are the iterate.

    Args:
      opt_state: the optimizer's state, also inside ``optax.chain`` and other wrappers.
      players: the params that belong to ``opt_state``, with or without a leading run axis.

    Returns:
      A tree like ``players``.

    Raises:
      ValueError: if the state holds a displacement of one player only. Then call ``iterate`` for
        each player.

    Example:
      >>> import optax
      >>> import onesided_jax as osj
      >>> players = osj.PrimalDual(1.0, 2.0)
      >>> tx = osj.past_extra_adam(0.1, 0.1)
      >>> updates, state = tx.update(osj.PrimalDual(2.0, -1.0), tx.init(players), players)
      >>> moved = optax.apply_updates(players, updates)
      >>> [round(float(z), 3) for z in osj.iterate(state, moved)]  # the first step only looks ahead
      [1.0, 2.0]
    """
    for state in displaced_states(opt_state):
        shift = shift_of(state, players)
        if shift is None:
            raise ValueError(
                f"{type(state).__name__} belongs to a part of the players: call iterate for that "
                "part, or put the optimizer outside descent_ascent"
            )
        players = jax.tree.map(lambda player, moved: player - moved, players, shift)
    return players


def displaced_states(opt_state: Any) -> list[Any]:
    """The states in ``opt_state`` of methods whose params are displaced points."""
    leaves = jax.tree.leaves(opt_state, is_leaf=_is_displaced)
    return [leaf for leaf in leaves if _is_displaced(leaf)]


def shift_of(state: Any, players: Any) -> Any:
    """``players`` minus the iterate, or ``None`` if ``state`` belongs to another tree."""
    shift = state.previous if isinstance(state, OptimisticState) else state.displacement
    if isinstance(state, AlexState) and isinstance(players, PrimalDual):
        shift = shift._replace(primal=jax.tree.map(jnp.zeros_like, players.primal))
    return shift if jax.tree.structure(shift) == jax.tree.structure(players) else None


def with_shift(opt_state: Any, shift: Any) -> Any:
    """Replaces the displacement in ``opt_state``."""

    def replaced(node):
        if isinstance(node, AlexState):
            return node._replace(displacement=node.displacement._replace(dual=shift.dual))
        if isinstance(node, OptimisticState):
            return node._replace(previous=shift)
        return node._replace(displacement=shift) if _is_displaced(node) else node

    return jax.tree.map(replaced, opt_state, is_leaf=_is_displaced)


def _is_displaced(node: Any) -> bool:
    return isinstance(node, _KINDS)
