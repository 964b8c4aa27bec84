"""Resets one player's optimizer state and keeps the other's."""

from __future__ import annotations

from typing import Any

import jax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._players import merge_players, players_in
from onesided_jax.optimizers.alternating import AlternatingState
from onesided_jax.players import PrimalDual

__all__ = ["reset"]


def reset(opt_state: Any, fresh: Any, player: str = "dual") -> Any:
    """Resets one player's share of an optimizer's state: moments, counters, schedules.

    Use it when a discriminator is replaced during training. Counters are per player, so this
    player's next step is the first step of a new optimizer. Works under ``jit``. Call it between
    iterations, not inside a window of ``MultiSteps`` or between the two calls of transparent mode.
    In :func:`tiada` the primal rate depends on both players' sums, so a reset of the dual also
    changes the primal.

    Args:
      opt_state: state of any optimizer here, also inside optax's combinators.
      fresh: ``tx.init(players)`` for the current players.
      player: ``"primal"`` or ``"dual"``.

    Returns:
      ``opt_state`` with that player's share taken from ``fresh``. The other player's share stays,
      and so does the shared part: counters of :func:`apply_if_finite` and ``MultiSteps``, injected
      hyperparameters.

    Raises:
      ValueError: for another ``player``; if the two states differ in structure; if the state has no
        share of a player; if an optax transformation counts for both players, such as
        ``optax.adam`` outside :func:`descent_ascent`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import onesided_jax as osj
      >>> tx = osj.amsgrad_eg(1e-3, 1e-3)
      >>> players = osj.PrimalDual(jnp.ones(2), jnp.ones(3))
      >>> opt_state = tx.init(players)
      >>> players = players._replace(dual=jnp.zeros(3))  # a new discriminator
      >>> opt_state = osj.reset(opt_state, tx.init(players), player="dual")
    """
    check_choice("player", player, PrimalDual._fields)
    if jax.tree.structure(opt_state) != jax.tree.structure(fresh):
        raise ValueError(
            "reset: opt_state and fresh differ in structure; expected fresh=tx.init(players) of "
            "the same optimizer"
        )
    parts = jax.tree.leaves(opt_state, is_leaf=_ends)
    shared = [part for part in parts if _counts_for_both(part)]
    if shared:
        raise ValueError(
            f"reset: {type(shared[0]).__name__} has one counter for both players; give each its "
            "own transformation, descent_ascent(primal, dual)"
        )
    if not any(players_in(part) is not None for part in parts):
        raise ValueError(
            "reset found no share of a player in the state: expected PrimalDual trees, or trees "
            "with usual names such as 'generator' and 'discriminator'"
        )
    return merge_players(lambda name, old, new: new if name == player else old, opt_state, fresh)


def _ends(part: Any) -> bool:
    return players_in(part) is not None or _counts_for_both(part)


def _counts_for_both(part: Any) -> bool:
    """Whether ``part`` has one ``count`` for moments of both players."""
    if "count" not in getattr(part, "_fields", ()) or not jax.tree_util.all_leaves([part.count]):
        return False
    return any(
        players_in(field) is not None and not isinstance(field, AlternatingState) for field in part
    )
