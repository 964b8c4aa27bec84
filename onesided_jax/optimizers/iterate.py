"""The iterate of optimizers whose params are displaced points."""

from __future__ import annotations

from typing import Any

import jax

from onesided_jax.optimizers.oadagrad import OadagradState
from onesided_jax.optimizers.optimistic import OptimisticState
from onesided_jax.optimizers.past_amsgrad_eg import PastAmsgradEgState
from onesided_jax.optimizers.past_extragradient import PastExtragradientState

__all__ = ["iterate"]

_DISPLACED = (OadagradState, PastAmsgradEgState, PastExtragradientState)


def iterate(opt_state: Any, players: Any) -> Any:
    r"""The iterate :math:`z_t` behind the players that an optimizer moves.

    Methods that extrapolate from the past (``past_*``, ``oadagrad``) and ``optimistic`` keep the
    *displaced* point in the params, because the next gradient is due there. Their iterate is
    nearby: evaluate, average or plot it instead of the params. Every other optimizer moves the
    iterate itself, and gets its params back.

    Args:
      opt_state: the optimizer's state, also inside ``optax.chain`` and the like.
      players: the params that belong to it, with or without a leading run axis.

    Returns:
      A tree like ``players``.

    Raises:
      ValueError: if the state holds displacements of one player only; take ``iterate`` of each
        player then.

    Example:
      >>> import optax
      >>> import onesided_jax as osj
      >>> players = osj.PrimalDual(1.0, 2.0)
      >>> tx = osj.past_extra_adam(0.1, 0.1)
      >>> updates, state = tx.update(osj.PrimalDual(2.0, -1.0), tx.init(players), players)
      >>> moved = optax.apply_updates(players, updates)
      >>> [round(float(z), 3) for z in osj.iterate(state, moved)]  # it has only looked ahead
      [1.0, 2.0]
    """
    kinds = (*_DISPLACED, OptimisticState)
    states = [
        state
        for state in jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kinds))
        if isinstance(state, kinds)
    ]
    for state in states:
        shift = state.previous if isinstance(state, OptimisticState) else state.displacement
        if jax.tree.structure(shift) != jax.tree.structure(players):
            raise ValueError(
                f"{type(state).__name__} belongs to a part of the players: call iterate with that "
                "part, or put the optimizer outside descent_ascent"
            )
        players = jax.tree.map(lambda player, moved: player - moved, players, shift)
    return players
